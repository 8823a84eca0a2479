"""What evalkit knows, by itself and from plug-ins, as data frames and as text."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.data.card import load_card, load_cards
from evalkit.data.images import merge_colour, to_gray
from evalkit.data.samples.samples import make_scene
from evalkit.downstream.detection.recipe import DETECTORS, paper_recipes
from evalkit.downstream.segmentation.networks import SEGMENTERS
from evalkit.downstream.segmentation.recipe import tables_of
from evalkit.errors import UnknownNameError
from evalkit.methods.card import SystemCard
from evalkit.methods.classical import FUSERS
from evalkit.methods.fuse import missing_for
from evalkit.methods.pretrained import PretrainedCard, pretrained_card, pretrained_cards
from evalkit.methods.registry import METHODS, method_card, method_cards
from evalkit.methods.saliency.registry import SALIENCY_SYSTEMS
from evalkit.metrics.card import CONVENTIONS, METRICS
from evalkit.metrics.evaluate import evaluate
from evalkit.metrics.formulas import formulas
from evalkit.metrics.registry import all_full_names, full_names_of
from evalkit.metrics.registry import card as metric_card
from evalkit.metrics.registry import convention as load_convention
from evalkit.protocols.schema import protocol as load_protocol
from evalkit.protocols.schema import protocols, rows_of
from evalkit.protocols.tasks import TASKS
from evalkit.registry import origin_of, plugins
from evalkit.training.find_recipe import recipes

if TYPE_CHECKING:
    import pandas as pd

Entry = dict[str, Any]


def protocol_entries() -> list[Entry]:
    return [
        {
            "name": p.name,
            "table": f"{p.paper} {p.table}".strip(),
            "title": p.title,
            "convention": p.convention,
            "metrics": " ".join(p.metrics),
            "datasets": " ".join(f"{name} ({use.pairs})" if use.pairs else name for name, use in p.datasets.items()),
            "methods": len(p.methods),
        }
        for p in protocols().values()
    ]


def _published(card: SystemCard, tables: Iterable[str]) -> Entry:
    """What the lists of methods, segmenters and salient-object systems say alike."""
    return {
        "parameters": f"{card.parameters:,}" if card.parameters else "",
        "title": card.title,
        "compared": str(card.compared or ""),
        "tables": ", ".join(tables),
        "weights": card.weights,
        "licence": card.licence,
    }


def method_entries(checkpoints: Path | None = None) -> list[Entry]:
    tables = defaultdict(list)
    for protocol in protocols().values():
        for name in protocol.methods:
            with suppress(UnknownNameError):  # a row without a card
                tables[METHODS.name_of(name)].append(protocol.name)
    return [
        {
            "name": card.name,
            "kind": card.kind,
            "year": card.year or "",
            "here": missing_for(card, checkpoints) or "runs",
        }
        | _published(card, tables[card.name])
        for card in method_cards().values()
    ]


def metric_entries() -> list[Entry]:
    return [
        {
            "name": card.name,
            "task": card.task,
            "better": card.better,
            "title": card.title,
            "range": card.range,
            "unit": card.unit,
            "conventions": card.convention
            or " ".join(c.name for c in CONVENTIONS.values() if card.name in c.definitions),
        }
        for card in METRICS.values()
    ]


def dataset_entries() -> list[Entry]:
    return [
        {
            "name": card.name,
            "title": card.title,
            "pairs": card.pairs or "",
            "splits": " ".join(f"{s.name} ({s.pairs})" if s.pairs else s.name for s in card.splits),
            "licence": card.licence,
        }
        for card in load_cards()
    ]


def convention_entries() -> list[Entry]:
    return [
        {"name": c.name, "title": c.title, "used by": c.used_by, "metrics": " ".join(c.definitions)}
        for c in CONVENTIONS.values()
    ]


def recipe_entries() -> list[Entry]:
    return [
        {"name": name, "method": recipe.method, "recipe": recipe.name, "source": recipe.source}
        for name, recipe in recipes().items()
    ]


def segmenter_entries() -> list[Entry]:
    entries = []
    for name, card in ((name, network.card) for name, network in SEGMENTERS.items()):
        code = card.config or (f"evalkit, {card.module}" if card.module else "yours")
        entry = {"name": name, "year": card.year or "", "streams": card.streams, "code": code, "encoder": card.encoder}
        entries.append(entry | _published(card, tables_of(name)))
    return entries


def saliency_entries(checkpoints: Path | None = None) -> list[Entry]:
    entries = []
    for name, system in SALIENCY_SYSTEMS.items():
        tables = (p.name for p in protocols().values() if p.task == "saliency" and name in p.methods)
        here = system.missing(checkpoints) or "runs"
        entry = {"name": name, "kind": system.card.kind, "year": system.card.year or "", "here": here}
        entries.append(entry | _published(system.card, tables))
    return entries


def detector_entries() -> list[Entry]:
    begins = {recipe.network: recipe.weights for recipe in paper_recipes()}
    return [
        {"name": name, "architecture": model, "begins with": begins.get(name, "")} for name, model in DETECTORS.items()
    ]


def _users(card: PretrainedCard) -> list[str]:
    """The recipes, segmenters and detectors that begin with one of its files."""
    wanted = [(f"segmenter {name}", one.card.encoder) for name, one in SEGMENTERS.items()]
    wanted += [(f"recipe {name}", file) for name, recipe in recipes().items() for file in recipe.weights.values()]
    wanted += [(f"detector {recipe.network}", recipe.weights) for recipe in paper_recipes()]
    return list(dict.fromkeys(user for user, file in wanted if any(fnmatchcase(name, file) for name in card.files)))


def pretrained_entries(checkpoints: Path | None = None) -> list[Entry]:
    return [
        {
            "name": card.name,
            "files": " or ".join(card.files),
            "learned from": card.learned,
            "here": next((name for name in card.files if checkpoints and (checkpoints / name).is_file()), "missing"),
            "used by": ", ".join(_users(card)),
            "published": card.published,
            "licence": card.licence,
        }
        for card in pretrained_cards().values()
    ]


def task_entries() -> list[Entry]:
    return [
        {"name": name, "title": task.title, "labels": task.needs.labels or "", "extra": task.needs.extra}
        for name, task in TASKS.items()
    ]


def plugin_entries() -> list[Entry]:
    return [dict(plugin) for plugin in plugins()]


ENTRIES = {
    "protocols": protocol_entries,
    "methods": method_entries,
    "metrics": metric_entries,
    "datasets": dataset_entries,
    "conventions": convention_entries,
    "recipes": recipe_entries,
    "segmenters": segmenter_entries,
    "saliency": saliency_entries,
    "detectors": detector_entries,
    "pretrained": pretrained_entries,
    "tasks": task_entries,
    "plugins": plugin_entries,
}
KINDS = {  # list -> what its registry calls its things
    "protocols": "protocol",
    "methods": "method",
    "metrics": "metric",
    "datasets": "data set",
    "conventions": "convention",
    "recipes": "recipe",
    "segmenters": "segmentation network",
    "saliency": "salient-object system",
    "detectors": "detector",
    "tasks": "task",
}


def entries_of(kind: str, checkpoints: Path | None = None) -> list[Entry]:
    """One entry per thing of a kind, with who registered it.

    Args:
        kind: of ENTRIES.
        checkpoints: folder of weights, which decides what methods and salient-object systems can run, and which of the
            pretrained weights are here.
    """
    of_weights = {"methods": method_entries, "saliency": saliency_entries, "pretrained": pretrained_entries}
    entries = of_weights[kind](checkpoints) if kind in of_weights else ENTRIES[kind]()
    if kind in KINDS:
        entries = [entry | {"from": str(origin_of(KINDS[kind], entry["name"]))} for entry in entries]
    return entries


def _frame(kind: str) -> pd.DataFrame:
    import pandas as pd  # a third of a second, which workers and tables do without

    return pd.DataFrame(entries_of(kind)).set_index("name")


def list_protocols() -> pd.DataFrame:
    """The protocols: name (index), table, title, convention, metrics, datasets, methods."""
    return _frame("protocols")


def list_methods() -> pd.DataFrame:
    """The methods: name (index), kind, year, parameters, title, here (runs, or what is missing), compared (with the
    published code), tables (that have a row of it), weights (where they are), licence."""
    return _frame("methods")


def list_metrics() -> pd.DataFrame:
    """The metrics: name (index), better, title, range, unit, conventions."""
    return _frame("metrics")


def list_datasets() -> pd.DataFrame:
    """The data sets: name (index), title, pairs, splits, licence."""
    return _frame("datasets")


def describe(name: str) -> Entry:
    """Everything about a protocol, method, salient-object system, segmentation network, metric (also `SSIM[smfnet]`),
    convention, data set or file of pretrained weights, as a JSON-able dict.

    Raises:
        UnknownNameError: nothing has that name.
    """
    kinds: list[tuple[Iterable[str], Callable[[], Entry]]] = [
        (protocols(), lambda: _describe_protocol(name)),
        (METRICS, lambda: _describe_metric(name.partition("[")[0])),
        (CONVENTIONS, lambda: _describe_convention(name)),
        ([card.name for card in load_cards()], lambda: {"kind": "data set", **load_card(name).model_dump(mode="json")}),
        (method_cards(), lambda: method_card(name).model_dump(mode="json") | {"kind": "method"}),
        (SALIENCY_SYSTEMS, lambda: _describe_saliency(name)),
        (SEGMENTERS, lambda: _describe_segmenter(name)),
        (pretrained_files(), lambda: _describe_pretrained(name)),
    ]
    # SMFNet is a method and smfnet a convention: the exact spelling goes before the others
    for _, describe_one in sorted(kinds, key=lambda kind: name not in kind[0]):
        try:
            return describe_one()
        except UnknownNameError:
            continue
    known = [one for names, _ in kinds for one in names]
    raise UnknownNameError("name", name, known, "`evalkit list` shows protocols, methods, metrics and datasets.")


def _describe_protocol(name: str) -> Entry:
    """The protocol's fields in the order in which a reader asks for them, and how many numbers are published."""
    protocol = load_protocol(name)
    fields = protocol.model_dump(mode="json")
    last = {key: fields.pop(key) for key in ("published", "left_open", "decisions", "notes", "citation")}
    numbers = {"printed numbers": sum(bool(row.printed) for row in rows_of(protocol))}
    return {"kind": "protocol", **fields, **numbers, **last, "see": f"evalkit reproduce {protocol.name} --plan"}


def _describe_saliency(name: str) -> Entry:
    card = SALIENCY_SYSTEMS.find(name).card
    return card.model_dump(mode="json") | {"kind": "salient-object system", "code": card.kind}


def _describe_segmenter(name: str) -> Entry:
    card = SEGMENTERS.find(name).card
    entry = card.model_dump(mode="json") | {"kind": "segmentation network", "code": card.kind}
    if card.encoder:
        with suppress(UnknownNameError):  # a plug-in's own
            entry["begins with"] = pretrained_card(card.encoder).source
    return entry


def pretrained_files() -> list[str]:
    """Published names of pretrained weights, and of what they are of."""
    return [name for card in pretrained_cards().values() for name in (card.name, *card.files)]


def _describe_pretrained(name: str) -> Entry:
    card = pretrained_card(name)
    use = {"used by": ", ".join(_users(card)), "see": "--checkpoints DIR: the folder that the file lies in"}
    return {"kind": "pretrained weights", **card.model_dump(mode="json"), **use}


def _describe_convention(name: str) -> Entry:
    convention = load_convention(name)
    return {
        "kind": "convention",
        "name": convention.name,
        "title": convention.title,
        "used by": convention.used_by,
        "metrics": {metric: definition.choice for metric, definition in convention.definitions.items()},
    }


def _describe_metric(name: str) -> Entry:
    card = metric_card(name)
    entry = {
        "kind": "metric",
        "name": card.name,
        "title": card.title,
        "definition": card.definition,
        "formula": formulas()[card.name].formula if card.name in formulas() else "",
        "better": card.better,
        "range": card.range,
        "unit": card.unit,
        "source": card.source,
    }
    if card.task != "fusion":
        return entry | {"task": card.task, "convention": card.convention}
    example = examples([card.name])
    return entry | {
        "conventions": {
            c.name: f"{c.definitions[card.name].choice}; on the example: {example[f'{card.name}[{c.name}]']}"
            for c in CONVENTIONS.values()
            if card.name in c.definitions
        },
        "example": "the first sample scene at 320x240, its laplacian fusion",
    }


def examples(metrics: Iterable[str] | None = None) -> dict[str, str]:
    """Full name -> value on one built-in example, or why it has none: the first sample scene at 320x240, its laplacian
    fusion.

    Args:
        metrics: of which, in every convention; all when not given.
    """
    scene = make_scene(0, 0, 320, 240)
    fused = merge_colour(FUSERS["laplacian"](scene.infrared, to_gray(scene.visible)), scene.visible)
    names = all_full_names() if metrics is None else full_names_of(metrics)
    if not names:  # of a package that is not installed
        return {}
    scores = evaluate(fused, scene.infrared, scene.visible, names, "textbook")
    return {
        name: scores.missing.get(column, f"{value:.4f}")
        for name, (column, value) in zip(names, scores.items(), strict=True)
    }
