"""Where the work is done: in processes of this machine, or by the workers of a dask cluster. One function, `map`.

A unit is a chunk of pairs to fuse or to measure, or one training. Units are plain data (paths and names); a worker
reads the images itself and writes fused images itself, so that only scores and reasons travel. Scores are written by
the process that started the run, each when its turn comes: a unit that was done twice because a worker died counts
once, and files do not depend on who did what.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeVar

from evalkit.engine.processes import default_workers, in_processes

Unit = TypeVar("Unit")
Result = TypeVar("Result")
Item = TypeVar("Item")
Name = Literal["local", "dask"]


class Engine(Protocol):
    """Does units of work, in the order given."""

    @property
    def remote(self) -> bool:
        """Whether units travel to other machines, with absolute paths."""

    def slots(self) -> int:
        """How many units run at once, about."""

    def map(
        self, function: Callable[[Unit], Result], units: Iterable[Unit], *, gpu: bool = False, limited: bool = True
    ) -> Iterator[Result]:
        """Results of `function` in the order of the units.

        Args:
            function: what is done with a unit.
            units: plain data, one per call of `function`.
            gpu: a unit uses a GPU.
            limited: the engine's timeout holds for each unit; not for trainings.

        Raises:
            EvalkitError: workers died or hung on the same unit again and again, or cannot be reached any more.
        """


@dataclass(frozen=True)
class Local:
    """Processes of this machine; units for a GPU run in this process, one after the other."""

    workers: int | None = None
    timeout: float | None = None
    remote: bool = field(default=False, init=False)

    def slots(self) -> int:
        return self.workers or default_workers()

    def map(
        self, function: Callable[[Unit], Result], units: Iterable[Unit], *, gpu: bool = False, limited: bool = True
    ) -> Iterator[Result]:
        """Results of `function` in the order of the units.

        Args:
            function: what is done with a unit; picklable where the units do not run in this process.
            units: plain data, one per call of `function`.
            gpu: a unit uses a GPU: all run in this process, without the timeout.
            limited: the timeout holds for each unit.

        Raises:
            EvalkitError: a process died or hung on the same unit again and again.
        """
        if gpu:
            return map(function, units)
        return in_processes(function, units, self.workers, self.timeout if limited else None)


def chunks(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    """Neighbours, at most `size` together."""
    return [items[i : i + size] for i in range(0, len(items), size)]
