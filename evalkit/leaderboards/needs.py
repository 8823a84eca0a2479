"""What the rows of a table lack to be measured and compared with the printed numbers, and what would unlock them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from evalkit.methods.card import SystemCard
from evalkit.methods.registry import METHODS, method_cards
from evalkit.methods.saliency.registry import SALIENCY_SYSTEMS
from evalkit.protocols.schema import Protocol
from evalkit.protocols.tasks import Trained, tasks_of

# the hardest first: what stands first is the reason under which a number is counted
KINDS = (
    "pairs unknown",
    "not defined",
    "depends on the machine",
    "training needed",
    "no code",
    "no weights",
    "no data",
    "not installed",
    "other data",
    "not measured yet",
)


class Need(NamedTuple):
    """One thing that is lacking: its kind, of KINDS, what it is, and what would unlock the number."""

    kind: str
    text: str
    unlock: str


def needs_of_rows(protocol: Protocol, plan: Mapping[str, Any]) -> dict[tuple[str, str], tuple[Need, ...]]:
    """(data set, row) -> what it lacks, the hardest first; nothing where a run would fill it here.

    Args:
        protocol: a paper's.
        plan: of it, as `plan_report` gives it.
    """
    needs_data = tasks_of(protocol)[0].needs.data
    by_set = {one["name"]: data_needs(one) if needs_data else [] for one in plan["datasets"]}
    rows = {}
    for row in plan["rows"]:
        needs = [*by_set.get(row["dataset"], []), *method_needs(protocol, row, plan["data_root"] is not None)]
        rows[row["dataset"], row["method"]] = tuple(sorted(dict.fromkeys(needs), key=lambda n: KINDS.index(n.kind)))
    return rows


def data_needs(dataset: Mapping[str, Any]) -> list[Need]:
    """What a data set of a plan lacks.

    Args:
        dataset: of a plan: name, split, expected, found, unknown, source.
    """
    name = f"{dataset['name']}/{dataset['split']}" if dataset["split"] else dataset["name"]
    needs = []
    if dataset["unknown"]:
        needs.append(Need("pairs unknown", dataset["unknown"], "the authors' list of their pairs"))
    found, expected = dataset["found"], dataset["expected"]
    count = f"{expected:,} pairs" if expected else "pairs"
    if found is None:
        labels = "but no" in dataset["missing"]
        text = f"the labels of {name} are not at hand" if labels else f"{name} is not at hand"
        needs.append(Need("no data", text, f"its {count}{' with their labels' if labels else ''}: {dataset['source']}"))
    elif expected and found < expected:
        text = f"{found:,} of the {expected:,} pairs of {name} are at hand"
        needs.append(Need("no data", text, f"the others: {dataset['source']}"))
    return needs


def method_needs(protocol: Protocol, row: Mapping[str, Any], here: bool) -> list[Need]:
    """What the method of a row of a plan lacks, and the network that the table trains on its images.

    Args:
        protocol: of the table.
        row: of a plan: method, from, missing, train.
        here: whether what is installed on this machine is asked, too.
    """
    method, needs = row["method"], []
    if isinstance(tasks_of(protocol)[0], Trained):
        networks = ", ".join(protocol.variants) or "a network"
        command = f"`evalkit reproduce {protocol.name} --recipe paper`"
        needs.append(Need("training needed", f"{networks}, trained on the images of every row", command))
    if row["from"]:
        if row["from"] in ("outputs", "data set") and "fused images of" in row["missing"]:
            needs.append(Need("no weights", row["missing"], "these images, or the method's weights"))
        elif row["missing"] and here:
            needs.append(Need("not installed", row["missing"], "the command that is named"))
        return needs
    name = protocol.method_of(method)
    card: SystemCard | None = method_cards().get(name) or getattr(SALIENCY_SYSTEMS.get(name), "card", None)
    if method in protocol.ablations or (row["train"] and not (card and card.checkpoint)):
        of_what = f"the ablations of {protocol.paper}" if method in protocol.ablations else name
        how = f"`evalkit train {protocol.paper if method in protocol.ablations else name} --recipe paper`"
        needs.append(Need("training needed", f"no weights of {of_what} are published", f"{how}, or fused images"))
    elif method in protocol.retrained:
        needs.append(Need("training needed", f"{method} was trained anew for this table", "its weights or its images"))
    elif card is None or not runs(name):
        needs.append(Need("no code", f"evalkit has no code of {name}", f"the images of {method}, with --outputs"))
    elif card.checkpoint:
        needs.append(Need("no weights", f"the weights of {name} are not at hand", f"{card.weights}; or its images"))
    else:
        where = f"its authors' weights ({card.weights}), or its images" if card.weights else "its authors' images"
        needs.append(Need("no weights", f"no weights of {name} are known", where))
    return needs


def runs(name: str) -> bool:
    """Whether there is code of a fusion method or a system of salient objects."""
    return bool((method := METHODS.get(name)) and method.runs) or name in SALIENCY_SYSTEMS
