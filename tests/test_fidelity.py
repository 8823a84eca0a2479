"""docs/fidelity.md says of every system how it was compared, as the cards do."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "scripts"))
import fidelity

CARDS = [pytest.param(card, id=card.name) for of_kind in fidelity.cards().values() for card in of_kind]
BOUND = 3e-5


def test_the_page_is_made_of_the_cards() -> None:
    assert fidelity.PAGE.text() == fidelity.PAGE.made(), "python scripts/fidelity.py --write"


@pytest.mark.parametrize("card", CARDS)
def test_every_system_has_code_and_was_compared_or_says_why_not(card) -> None:
    assert card.kind == "classical" or card.module or getattr(card, "config", ""), "no code"
    assert card.compared is not None
    # beyond the bound it has to be rounding, which float64 shows
    assert card.compared.reason or card.compared.difference <= BOUND or "float64" in card.compared.how
