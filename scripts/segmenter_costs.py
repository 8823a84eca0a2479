"""Parameters and multiply-adds of the segmentation networks in evalkit's own code, as docs/downstream.md has them.

python scripts/segmenter_costs.py
"""

from __future__ import annotations

from evalkit.downstream.segmentation.cost import SegmenterCost, segmenter_cost
from evalkit.downstream.segmentation.networks import SEGMENTERS


def line(name: str, cost: SegmenterCost) -> str:
    """A row of the table: parameters, and multiply-adds in 10^9."""
    return f"| {name} | {cost.parameters:,} | {cost.layers / 1e9:.2f} | {cost.products / 1e9:.2f} |"


def main() -> None:
    """Print the table; networks that run more in training have a second row."""
    print("| network | parameters | layers, G | features with features, G |\n|---|---|---|---|")
    for name, entry in SEGMENTERS.items():
        if entry.card.module:
            tested, trained = segmenter_cost(name), segmenter_cost(name, training=True)
            print(line(name, tested))
            if trained != tested:
                print(line(f"{name}, in training", trained))


if __name__ == "__main__":
    main()
