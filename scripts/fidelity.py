"""How our code of each system was held against the published code: the tables of docs/fidelity.md, from the cards.

python scripts/fidelity.py            print them
python scripts/fidelity.py --write    put them into docs/fidelity.md
"""

from __future__ import annotations

from collections.abc import Iterable

from generated_page import GeneratedPage

from evalkit.downstream.segmentation.networks import SEGMENTERS
from evalkit.methods.card import SystemCard
from evalkit.methods.registry import METHODS
from evalkit.methods.saliency.registry import SALIENCY_SYSTEMS
from evalkit.registry import SHIPPED


def cards() -> dict[str, list[SystemCard]]:
    """What evalkit has of each kind that somebody published, by name."""
    kinds = {"Fusion": METHODS, "Segmentation": SEGMENTERS, "Salient objects": SALIENCY_SYSTEMS}
    return {
        title: sorted((kind[name].card for name in kind if kind.origin(name) is SHIPPED), key=lambda c: c.name.lower())
        for title, kind in kinds.items()
    }


def tables() -> str:
    """One Markdown table a kind: system, difference, how it was found, parameters."""
    return "\n\n".join(f"## {title}\n\n{_table(of_kind)}" for title, of_kind in cards().items())


def _table(of_kind: Iterable[SystemCard]) -> str:
    lines = ["| system | difference | compared with | size | parameters |", "|---|---|---|---|---|"]
    for card in of_kind:
        compared = card.compared
        if compared is None:
            cells = ["", "evalkit has no code of it yet" if not card.module else "not yet compared", ""]
        elif compared.reason:
            cells = ["–", f"not compared: {compared.reason}", ""]
        else:
            cells = [f"{compared.difference:.1e}", compared.how, compared.size]
        parameters = f"{card.parameters:,}" if card.parameters else ""
        lines.append(f"| {' | '.join([card.name, *cells, parameters])} |")
    return "\n".join(lines)


PAGE = GeneratedPage("fidelity.md", "<!-- from the cards, by scripts/fidelity.py -->", tables)

if __name__ == "__main__":
    PAGE.main()
