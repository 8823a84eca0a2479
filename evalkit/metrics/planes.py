"""What worker processes give to a device that measures: gray levels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evalkit.data.images import Gray
from evalkit.metrics.evaluate import MeasureJob, Names, Reading, Scores, definitions_of, each_method, measure
from evalkit.metrics.image import Pair

Unit = Sequence[MeasureJob]


@dataclass(frozen=True)
class Planes:
    """What a device measures: a fused image and its sources as gray levels, in each way that its metrics need.

    Attributes:
        levels: how colour became gray -> fused, infrared and visible levels.
        scores: notes, and the metrics that have been measured already because they have no form for a device.
    """

    levels: dict[str, tuple[Gray, Gray, Gray]]
    scores: Scores


Read = dict[str, Planes | Scores]  # by method; scores where there is nothing to measure, with the reason


def read_unit(jobs: Unit, columns: Sequence[str], grays: Sequence[str], names: Names, reading: Reading) -> list[Read]:
    """The images of a unit, read for a device.

    Args:
        jobs: the images of one scene each.
        columns: of all metrics.
        grays: the ways to turn colour to gray that metrics on the device need.
        names: of the metrics that are measured here.
        reading: how files become pixels.
    """

    def read(pair: Pair) -> Planes:
        levels = {}
        for gray in grays:
            own = pair.in_gray(gray)
            levels[gray] = own.fused.pixels, own.infrared.pixels, own.visible.pixels
        return Planes(levels, measure(pair, definitions_of(names), reading.gray))

    return [each_method(job, columns, reading, read) for job in jobs]
