"""What `--steps N` tells: some steps of a training as its recipe has it, measured, and what the whole would take."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

from evalkit.data.card import Card
from evalkit.data.pairs import DataRoot, PairSet, find_pairs, splits_present
from evalkit.errors import DataError, EvalkitError, is_out_of_memory

NOTHING_KEPT = "A trial: nothing that it computed is kept, and no training goes on from it."


class MemoryShortError(EvalkitError):
    """A step that does not fit into the memory."""


@dataclass
class StageTrial:
    """Some steps of one stage.

    Attributes:
        network: what learns.
        stage: its name in the recipe, and the round where later rounds differ.
        batch, parts: samples of a step, and how many parts they were computed in.
        sample: height and width of one, in pixels.
        seconds: of each step.
        processor: seconds of all processors for each step, which say more where a machine has other work; on a GPU
            those of the CPU beside it.
        peak: bytes of memory that each step took at most: of the process on a CPU, of its tensors on a GPU; None where
            the system does not tell.
        losses: the terms of each step, the whole under "total".
        steps: of the whole recipe in this stage, on the training set as its card states it.
        notes: what is not as in a real training.
    """

    network: str
    stage: str
    batch: int
    parts: int
    sample: str
    steps: int
    seconds: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    peak: list[int | None] = field(default_factory=list)
    losses: list[dict[str, float]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _began: tuple[float, float] = (0.0, 0.0)

    @property
    def pace(self) -> float:
        """Seconds of a step: the median, without the first one where there are others."""
        return median(self.seconds[1:] or self.seconds)

    @property
    def most(self) -> int | None:
        """The largest peak."""
        return max((peak for peak in self.peak if peak is not None), default=None)

    @property
    def whole(self) -> float:
        """Seconds of the whole stage on this machine, by `pace`; without validation and reading."""
        return self.steps * self.pace

    def begin(self, device: str) -> None:
        """Begin a step on this device."""
        if device.startswith("cuda"):
            _torch().cuda.synchronize(device)
            _torch().cuda.reset_peak_memory_stats(device)
        else:
            with suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # Linux: forget the process' peak
        self._began = time.perf_counter(), time.process_time()

    def end(self, device: str, losses: dict[str, float]) -> None:
        """End it.

        Args:
            device: where it was computed.
            losses: the terms, the whole under "total".
        """
        if device.startswith("cuda"):
            _torch().cuda.synchronize(device)
        before, worked = self._began
        self.seconds.append(time.perf_counter() - before)
        self.processor.append(time.process_time() - worked)
        self.peak.append(_peak(device))
        self.losses.append(losses)

    @contextmanager
    def fitting(self) -> Iterator[None]:
        """Around the steps: raises MemoryShortError in place of what PyTorch raises where memory runs out."""
        try:
            yield
        except (RuntimeError, MemoryError, EvalkitError) as error:
            if not is_out_of_memory(error):
                raise
            parts = f" in {self.parts} parts" if self.parts > 1 else ""
            cure = f"Try --accumulate {2 * self.parts}." if self.parts < self.batch else "Take a machine with more."
            raise MemoryShortError(
                f"a step of {self.network}, {self.stage}, does not fit into the memory: {self.batch} samples of "
                f"{self.sample} pixels{parts}. {cure}"
            ) from None


def pairs_at_hand(card: Card, data_root: DataRoot, split: str | None) -> tuple[PairSet, list[str]]:
    """The pairs of a split, or of another one of the data set where it is not there: a trial learns nothing.

    Args:
        card: the data set.
        data_root: the folder that holds it, or several.
        split: as for `find_pairs`.

    Returns:
        The pairs, and in words which they are where not those asked for.

    Raises:
        DataError: nothing of the data set is there.
    """
    try:
        return find_pairs(card, data_root, split), []
    except DataError:
        roots = data_root if isinstance(data_root, tuple) else (data_root,)
        others = [other for root in roots for other in splits_present(card, root)]
        if not others:
            raise
        note = f"{card.name}: the split {others[0] or 'at hand'} in place of {split}"
        return find_pairs(card, data_root, others[0]), [note]


def _torch() -> Any:
    """PyTorch, which a step needs; whoever lists what can be tried does without."""
    return import_module("torch")


def _peak(device: str) -> int | None:
    if device.startswith("cuda"):
        return _torch().cuda.max_memory_allocated(device)
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    peaks = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(peaks[0]) * 1024 if peaks else None


def json_of(trials: list[StageTrial]) -> list[dict[str, object]]:
    """The trials for a machine: sizes in bytes, times in seconds."""
    return [
        {
            "network": trial.network,
            "stage": trial.stage,
            "batch": trial.batch,
            "accumulate": trial.parts,
            "sample": trial.sample,
            "seconds": trial.seconds,
            "processor_seconds": trial.processor,
            "seconds_per_step": trial.pace,
            "peak_memory": trial.peak,
            "losses": trial.losses,
            "steps_of_the_recipe": trial.steps,
            "seconds_of_the_recipe": trial.whole,
            "notes": trial.notes,
        }
        for trial in trials
    ]


def duration(seconds: float) -> str:
    """12 s, 3.4 min, 5.6 h, 7.8 days."""
    for length, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"


def rows_of(trials: list[StageTrial]) -> tuple[list[str], list[list[str]]]:
    """Heads and cells of the table of times and memory."""
    heads = ["network", "stage", "batch", "s per step", "processor s", "peak GiB", "loss", "whole recipe"]
    lines = []
    for trial in trials:
        batch = f"{trial.batch} x {trial.sample}" + (f" in {trial.parts} parts" if trial.parts > 1 else "")
        peak = "–" if trial.most is None else f"{trial.most / 2**30:.2f}"
        first, last = trial.losses[0]["total"], trial.losses[-1]["total"]
        loss = f"{first:.4g} to {last:.4g}" if len(trial.losses) > 1 else f"{first:.4g}"
        whole = f"{trial.steps} steps, {duration(trial.whole)}"
        processor = f"{median(trial.processor[1:] or trial.processor):.2f}"
        lines.append([trial.network, trial.stage, batch, f"{trial.pace:.2f}", processor, peak, loss, whole])
    return heads, lines


def terms_of(trial: StageTrial) -> Mapping[str, tuple[float, float]]:
    """Each term of the loss in the first and in the last step; the whole where it has but one."""
    first, last = trial.losses[0], trial.losses[-1]
    names = [name for name in first if name != "total"] or ["total"]
    return {name: (first[name], last.get(name, first[name])) for name in names}
