"""Tables of what networks cost: parameters, multiply-adds, seconds per image."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING

from evalkit.engine.processes import default_workers
from evalkit.files.names import file_name
from evalkit.methods.fusers import choose_device
from evalkit.methods.registry import METHODS, MethodCard, method_cards
from evalkit.metrics.evaluate import Scores
from evalkit.protocols.plan import FoundSet, Settings
from evalkit.protocols.schema import Protocol
from evalkit.protocols.summary import now
from evalkit.protocols.table.blank import COST_UNITS
from evalkit.protocols.table.cells import Cell, status_of
from evalkit.protocols.table.published import PublishedRow
from evalkit.protocols.table.table import Table
from evalkit.protocols.tasks import Entry, Job, Needs, Task
from evalkit.records.per_image import read_per_image
from evalkit.records.record import Record, made_here, save
from evalkit.records.store import ScoreFile

if TYPE_CHECKING:
    from evalkit.methods.network import NetworkMethod

PAIR = "640x480"
PROFILED = "smfnet-table5"  # the convention whose FLOPs are a profiler's
PREFIX = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "s": 1.0, "ms": 1e-3}


class Complexity(Task):
    """What networks cost: rows are networks that evalkit has code for."""

    name, title = "complexity", "Cost"
    needs = Needs(data=False)
    not_timed = ("Time",)

    def metrics(self, protocol: Protocol) -> list[Entry]:
        return [
            {
                "name": name,
                "definition": protocol.units.get(name, COST_UNITS.get(name, "")),
                "missing": "" if name in COST_UNITS else f"evalkit does not measure {name}",
            }
            for name in protocol.metrics
        ]

    def plan_row(self, job: Job, method: str, dataset: str, available: FoundSet) -> Entry:
        """One entry of `plan`: the cost of a network is counted, without images.

        Args:
            job: the run that is planned.
            method: the row's name.
            dataset: under which the table prints the cost.
            available: not used; cost needs no data.
        """
        reason = self.missing(job, method)
        from_ = "" if reason else "network"
        return {"method": method, "dataset": dataset, "from": from_, "missing": reason, "train": ""}

    def missing(self, job: Job, method: str) -> str:
        """Why a row's network cannot be counted here; empty where it can."""
        return missing(method_cards().get(job.protocol.method_of(method)))

    def costs(self, job: Job, method: str) -> tuple[dict[str, float], str]:
        """Measure -> value (multiply-adds, parameters, seconds) of a row's network, or the reason why there is none."""
        card = method_cards().get(job.protocol.method_of(method))
        return costs(card, job.settings, job.protocol.convention, "Time" in job.protocol.metrics)

    def fill(self, job: Job, table: Table) -> None:
        """The rows of a cost table: networks that evalkit has code for. Nothing is fused; weights are not needed."""
        settings = job.settings
        measurable = [name for name in job.protocol.metrics if name in COST_UNITS]
        for method in settings.progress(job.methods, len(job.methods), "count") if measurable else []:
            started = now()
            values, reason = self.costs(job, method)
            scaled = {n: values[n] / prefix(job.protocol.units, n) for n in measurable if n in values}
            for dataset in list(job.uses) or [""]:
                table.pairs[dataset] = 1  # one pair of 640x480
                if scaled:
                    save_cost(job, dataset, method, {n: v for n, v in scaled.items() if n != "Time"}, started)
                for name in measurable:
                    value = scaled.get(name)
                    printed = job.published.get((dataset, method, name))
                    table.cells.append(_cell(dataset, method, name, value, printed, reason, settings))


def where_timed(settings: Settings) -> str:
    """What times are taken on."""
    device = choose_device(settings.device)
    return device if device != "cpu" else f"CPU, {settings.workers or default_workers()} threads"


def missing(card: MethodCard | None) -> str:
    """Why a network's cost cannot be counted here; empty where it can."""
    method = METHODS.get(card.name) if card else None
    if method is None or method.network is None:
        return "evalkit has no code for this network" if card else "unknown to evalkit"
    if importlib.util.find_spec("torch") is None:
        return "needs PyTorch: pip install 'evalkit[networks]'"
    return ""


def prefix(units: Mapping[str, str], name: str) -> float:
    """What a measure is divided by to stand in the unit of a table."""
    return PREFIX[units.get(name, COST_UNITS[name]).split()[0]]


def network_of(card: MethodCard) -> NetworkMethod:
    """The network of a method that has one, see `missing`."""
    network = METHODS[card.name].network
    assert network is not None
    return network()


def _counting() -> ModuleType:
    from evalkit.methods import complexity  # PyTorch, without which other tables are made

    return complexity


def counted(card: MethodCard, convention: str) -> dict[str, float]:
    """FLOPs and parameters of a network that evalkit has the code of.

    Args:
        card: of the network.
        convention: smfnet-table5 counts FLOPs as a profiler does, by which eight of its rows come out; others count
            all multiply-adds, see `evalkit.methods.complexity.NetworkCost`.
    """
    cost = _counting().complexity(network_of(card))
    flops = cost.profiled if convention == PROFILED else cost.multiply_adds
    return {"FLOPs": flops, "Params": cost.parameters_by_call}


def costs(card: MethodCard | None, settings: Settings, convention: str, timed: bool) -> tuple[dict[str, float], str]:
    """Measure -> value (FLOPs, parameters, seconds if timed), or the reason why there is none."""
    if card is None or (reason := missing(card)):
        return {}, missing(card)
    values = counted(card, convention)
    if timed:
        threads = settings.workers or default_workers()
        values["Time"] = _counting().seconds_per_image(network_of(card), choose_device(settings.device), threads)
    return values, reason


def _cell(
    dataset: str,
    method: str,
    name: str,
    value: float | None,
    published: PublishedRow | None,
    reason: str,
    settings: Settings,
) -> Cell:
    printed, mark = (published.printed, published.mark) if published else (None, "")
    if value is None:
        return Cell(dataset, method, name, None, printed, 0, "missing", reason, mark)
    reason = ""
    if name == "Time":
        reason = f"measured on {where_timed(settings)}, the paper's on a GPU"
    return Cell(dataset, method, name, value, printed, 1, status_of(value, printed, reason), reason, mark)


def save_cost(job: Job, dataset: str, method: str, values: Mapping[str, float], started: str) -> None:
    """Write the record of one network, and its one row of scores. Only of what can be counted again: no times.

    Args:
        job: the run.
        dataset: under which the table prints it; the values do not depend on its images, so it has no content hash.
        method: the network.
        values: column -> value, in the units of the table.
        started: when the count began, as `now` writes it.

    Raises:
        OutputError: a file cannot be written.
    """
    settings = job.settings
    file = ScoreFile(settings.scores_file(dataset, method), values)
    file.finish({PAIR: Scores(values)}, {PAIR: ""})
    record = Record(
        status="complete",
        protocol={"name": job.protocol.name, "hash": job.protocol.hash},
        method={"name": method, "filled_from": "code"},
        dataset={"name": dataset, "split": None, "layout": "", "pairs": 1, "expected": 1},
        convention=job.protocol.convention,
        metrics=list(values),
        images=1,
        scores=dict(values),
        missing={},
        failures=[],
        scores_hash=read_per_image(file.path).hash(),
        provenance=made_here(),
        started=started,
        finished=now(),
    )
    save(record, settings.out / "records" / f"{file_name(dataset)}__{file_name(method)}.json")
