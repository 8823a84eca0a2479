"""reference/metrics.md: every metric with formula, conventions, direction, range, source and example values."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from as_markdown import anchor, code, table, text
from formulas import displayed, prose

from evalkit.catalogue import examples
from evalkit.data.samples.samples import Scene, make_scene
from evalkit.metrics.card import CONVENTIONS, METRICS, MetricCard
from evalkit.metrics.formulas import formulas
from evalkit.metrics.saliency import saliency
from evalkit.metrics.segmentation import confusion, segmentation_scores

HEAD = """\
# Metrics

Each metric with its formula in its primary source, and what each convention makes of it: a number without its
convention says little. In all formulas *F* is the fused image, *A* the infrared and *B* the visible source, *S*
either of them, *M N* the number of pixels, *w* a local window. `evalkit show SSIM` prints the same in a terminal.

The example values of fusion metrics are of the first sample scene at 320x240 and its laplacian fusion, computed when
this page was made; those of maps and masks are of the same scene: its infrared image taken for a saliency map, and
its class mask moved to the right by four pixels. A value that an example cannot have is given as the reason.
"""
NAMES = {
    "fusion": "Fused images",
    "saliency": "Saliency maps",
    "segmentation": "Segmentation",
    "detection": "Detection",
}
MOVED = 4  # pixels


def page() -> str:
    """The page as Markdown."""
    cards = list(METRICS.values())
    values = examples([c.name for c in cards if c.task == "fusion"]) | _other_examples(make_scene(0, 0, 320, 240))
    parts = [HEAD, _overview(cards), "## Conventions\n", _conventions()]
    for task in dict.fromkeys(card.task for card in cards):
        parts.append(f"## {NAMES.get(task, task)}\n")
        parts += (part for card in cards if card.task == task for part in _metric(card, values))
    return "\n".join(parts)


def _overview(cards: list[MetricCard]) -> str:
    rows = [
        [f"[{text(c.name)}](#{anchor(c.name)}) {c.arrow}", text(c.title), text(c.range), text(c.unit)] for c in cards
    ]
    return table(["metric", "", "range", "unit"], rows) + "\n"


def _conventions() -> str:
    rows = [
        [f'{code(c.name)}<span id="convention-{anchor(c.name)}"></span>', text(c.title), text(c.used_by), c.gray]
        for c in CONVENTIONS.values()
    ]
    return table(["convention", "what it is", "behind", "gray"], rows) + "\n"


def _metric(card: MetricCard, values: dict[str, str]) -> Iterator[str]:
    yield f"### {text(card.name)} {{ #{anchor(card.name)} }}\n"
    yield f"**{text(card.title)}.** {text(card.definition)}\n"
    if formula := formulas().get(card.name):
        yield displayed(formula.formula) + "\n"
        if formula.where:
            yield f"Where {prose(formula.where)}\n"
    yield f"- Direction: {card.better} is better {card.arrow}\n- Range: {text(card.range)}\n- Unit: {text(card.unit)}"
    yield f"- Source: {text(card.source)}\n"
    if card.task != "fusion":
        example = values.get(card.name)
        yield f"Convention {code(card.convention)}{f'; on the example: {example}' if example else ''}.\n"
        return
    rows = [
        [code(f"{card.name}[{c.name}]"), text(c.definitions[card.name].choice), text(values[f"{card.name}[{c.name}]"])]
        for c in CONVENTIONS.values()
        if card.name in c.definitions
    ]
    if rows:  # a learned measure has none where no package is installed that has it
        yield table(["in full", "what the convention chose", "example"], rows) + "\n"


def _other_examples(scene: Scene) -> dict[str, str]:
    """Measures of maps and masks. Boxes have none here: COCO's evaluation comes with another extra."""
    moved = np.roll(scene.classes, MOVED, axis=1)
    classes = int(scene.classes.max()) + 1
    segmented = segmentation_scores(confusion(moved, scene.classes, classes))
    values = saliency(scene.infrared, scene.salient) | {
        name: value for name, value in segmented.items() if isinstance(value, float)
    }
    return {name: f"{value:.4f}" for name, value in values.items()}
