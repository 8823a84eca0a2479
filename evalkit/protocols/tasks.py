"""Tasks: what fills the tables of a protocol. One object each, registered by name; a plug-in can add one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evalkit.data.card import LabelKind
from evalkit.data.pairs import DataRoot, PairSet
from evalkit.errors import DataError
from evalkit.metrics.registry import column_card
from evalkit.protocols.plan import FoundSet, Row, Settings, find_row
from evalkit.protocols.schema import Protocol, Published
from evalkit.protocols.table.blank import expected_rows
from evalkit.protocols.table.table import Table
from evalkit.protocols.training import how_to_train, try_rows
from evalkit.protocols.use import DatasetUse
from evalkit.registry import Registry

if TYPE_CHECKING:
    from evalkit.training.trial import StageTrial

Entry = dict[str, Any]
Key = tuple[str, str, str]  # block, method, column
SAMPLE_METHODS = ("average", "maximum", "laplacian")


@dataclass(frozen=True)
class Job:
    """What a task is to plan or to fill: data sets and rows as chosen, and what was published of them."""

    protocol: Protocol
    uses: dict[str, DatasetUse]
    methods: list[str]
    published: Published  # empty in a sample run
    root: DataRoot | None  # the data root, or several; none in a sample run and where the task needs no images
    sample: bool
    settings: Settings


@dataclass(frozen=True)
class Needs:
    """What a task needs besides the protocol.

    Attributes:
        data: pairs of images.
        labels: of the pairs. Then the source images are rows, too, other data sets with such labels can be named, and
            the task draws its own scenes in a sample run.
        extra: the extra of evalkit that holds its packages.
    """

    data: bool = True
    labels: LabelKind | None = None
    extra: str = ""


class Task:
    """Base of every task: fused images of every method on every data set, with nothing to fill the table by itself."""

    name: str
    title: str = ""  # in words
    needs = Needs()
    selects = False  # whether --images, --crop, --depth and --gray are of it
    compared_by_image = False  # whether its records hold a score of every image, which plots compare
    not_timed: tuple[str, ...] = ()  # columns that depend on the machine: never compared with printed numbers

    def parts(self, protocol: Protocol) -> list[Task]:
        """The tasks that fill the protocol's table, the one of its own values first."""
        return [self]

    def sample_methods(self, protocol: Protocol) -> list[str]:
        """The rows of a run on sample scenes: what needs nothing but code."""
        return list(SAMPLE_METHODS)

    def pairs(self, pairs: PairSet) -> PairSet:
        """The pairs that can be used. Raises EvalkitError where there are none."""
        return pairs

    def full_names(self, columns: Iterable[str], convention: str) -> list[str] | None:
        """How records name these columns; None where they may have others. Raises UnknownNameError."""
        return None

    def metrics(self, protocol: Protocol) -> list[Entry]:
        """Per metric its name, its definition, and why it is a column of missing values, or nothing."""
        cards = [(name, column_card(name)) for name in protocol.metrics]
        return [{"name": name, "definition": card.definition if card else "", "missing": ""} for name, card in cards]

    def plan(self, job: Job, sets: Mapping[str, FoundSet]) -> list[Entry]:
        """Where the images of every row come from, on every data set; nothing is run, nothing is written.

        Args:
            sets: the pairs of each data set, as far as they are there.

        Returns:
            Entries with method, dataset, from, missing (the reason, or nothing) and train (how it could be trained).
        """
        return [self.plan_row(job, method, dataset, sets[dataset]) for method in job.methods for dataset in job.uses]

    def plan_row(self, job: Job, method: str, dataset: str, available: FoundSet) -> Entry:
        """One entry of `plan`.

        Args:
            job: the run that is planned.
            method: the row's name.
            dataset: the protocol's name of the data set.
            available: what is there of it.

        Returns:
            method, dataset, from, missing and train: the last three are texts, empty where nothing is to be said.
        """
        entry = {"method": method, "dataset": dataset, "from": "", "missing": "", "train": ""}
        try:
            row = find_row(method, available.card, available.pairs, available.use, job.settings, job.protocol)
        except DataError as error:  # two fused images of one stem
            return entry | {"missing": str(error)}
        train = how_to_train(job.protocol, method) if row.reason else ""
        lacking = _lacking(row, available)
        missing = "; ".join(filter(None, [row.reason, train, lacking, *self.missing_packages(job.protocol)]))
        return entry | {"from": row.filled_from, "missing": missing, "train": train}

    def missing_packages(self, protocol: Protocol) -> list[str]:
        """What has to be installed, with the command; nothing where all is there."""
        return []

    def cells(self, job: Job, ready: list[tuple[str, str]], metrics: list[Entry]) -> set[Key]:
        """The cells that a run would fill from the (data set, method) that are ready.

        Args:
            job: the run that is planned.
            ready: (data set, method) whose entry of `plan` lacks nothing.
            metrics: name, and definition or missing, of each.
        """
        names = [metric["name"] for metric in metrics if not metric["missing"]]
        return {(dataset, method, name) for dataset, method in ready for name in names}

    def trial(self, job: Job, steps: int, networks: Sequence[str]) -> list[StageTrial]:
        """Some steps of the trainings that the task's rows ask for, measured; nothing is kept.

        Args:
            job: the run that is tried; its folder is a temporary one.
            steps: of every stage.
            networks: those that are tried; all when none is named.

        Raises:
            EvalkitError: data, weights or packages are not as they must be.
        """
        return try_rows(job.methods, job.protocol, job.settings, job.sample, steps, networks)

    def fill(self, job: Job, table: Table) -> None:
        """Measure, write records, and add a cell to the table for every value and every missing value.

        Raises:
            UnknownNameError: a convention or recipe that does not exist.
            OutputError: a file cannot be written.
        """
        raise NotImplementedError


def _lacking(row: Row, available: FoundSet) -> str:
    """Which of the fused images that are brought, or that the data set holds, are not there."""
    stems = [pair.stem for pair in available.pairs.pairs]
    lacking = [stem for stem in stems if stem not in row.fused] if row.fused else []
    if not lacking:
        return ""
    named = f"{', '.join(lacking[:3])}{', ...' if len(lacking) > 3 else ''}"
    return f"{len(lacking)} of the {len(stems)} fused images of {row.method} are not there ({named})"


class Trained(Task):
    """Base of the tasks that train a network on every method's images: a column per class, a block per network."""

    def sample_methods(self, protocol: Protocol) -> list[str]:
        return ["laplacian", "Visible", "Infrared"]

    def cells(self, job: Job, ready: list[tuple[str, str]], metrics: list[Entry]) -> set[Key]:
        """The expected cells of the (data set, method) that are ready, of every class and network.

        Args:
            job: the run that is planned.
            ready: (data set, method) whose entry of `plan` lacks nothing.
            metrics: not used; the columns are those of the published table.
        """
        rows = expected_rows(job.protocol, job.uses, job.methods)
        return {row.key for row in rows if (row.dataset, row.method) in ready}


class Curves(Task):
    """Figures of curves, which are of another task's values."""

    name, title = "curves", "Curves"

    def parts(self, protocol: Protocol) -> list[Task]:
        return [TASKS["saliency" if protocol.draws == "pr_curve" else "fusion"]]


TASKS: Registry[Task] = Registry("task", "evalkit.downstream.tasks")


def register_task(task: Task) -> None:
    """Register a task under its name. Raises EvalkitError where the name is taken."""
    TASKS.add(task.name, task)


def tasks_of(protocol: Protocol) -> list[Task]:
    """The tasks that fill a protocol's table, the one of its own values first. Raises UnknownNameError."""
    return TASKS.find(protocol.task).parts(protocol)
