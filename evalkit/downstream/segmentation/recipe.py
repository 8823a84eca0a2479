"""How segmentation networks are trained: `recipes/segmentation.yaml`, or a reader's own file."""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from evalkit.downstream.detection.recipe import SampleScenes
from evalkit.downstream.segmentation.networks import SEGMENTERS, segmenter
from evalkit.files.read import model_from_yaml, read_text


class SegmentationSchedule(BaseModel):
    """How a network is trained. Sizes are (width, height)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    network: str
    block: str = Field(default="", description="variant of the paper whose block a network of two streams is in")
    reduced: dict[str, Any] = Field(
        default={}, description="of a network in evalkit's own code, where smaller than published: {width: 16, ...}"
    )
    stands_for: str = Field(default="", description="where another network takes the place of the published one")
    size: tuple[int, int] = Field(default=(640, 480), description="of the images, before the ratio and in the test")
    crop: tuple[int, int] | None = Field(default=None, description="of a training sample; `size` when not given")
    ratio: tuple[float, float] = (0.5, 2.0)
    batch: int
    epochs: int | None = None
    iterations: int | None = None
    every: int | None = Field(default=None, description="iterations between validations; forty in all when not given")
    optimiser: dict[str, Any]
    paramwise: dict[str, Any] = {}
    warm_up: int = 0
    warm_up_from: float = Field(default=1.0, description="share of the rate at the first iteration")
    power: float = Field(default=1.0, description="of the polynomial decay to zero")
    decay: float | None = Field(default=None, description="factor per epoch instead of the polynomial decay")
    losses: dict[str, dict[str, Any]] = {}
    class_weights: tuple[float, ...] = Field(default=(), description="of the cross-entropy; equal when not given")
    seeds: int = Field(default=3, ge=1)
    lists: str = Field(default="10:2:6", description="training:validation:test where a data set is divided here")
    scenes: SampleScenes = SampleScenes(count=72, seed=0, width=320, height=240)
    open: str = ""

    @model_validator(mode="after")
    def _one_length(self) -> SegmentationSchedule:
        if (self.epochs is None) == (self.iterations is None):
            raise ValueError("epochs or iterations, one of the two")
        if self.iterations and self.warm_up >= self.iterations:
            raise ValueError(f"a warm-up of {self.warm_up} iterations leaves nothing of {self.iterations}")
        return self

    @property
    def cut(self) -> tuple[int, int]:
        """(height, width) of a training sample."""
        width, height = self.crop or self.size
        return height, width

    def length(self, images: int) -> int:
        """Iterations on so many training images."""
        return self.iterations or (self.epochs or 0) * max(1, images // self.batch)

    def interval(self, images: int) -> int:
        """Iterations between validations."""
        return self.every or max(1, self.length(images) // 40)


@cache
def schedules() -> dict[str, Any]:
    """`recipes/segmentation.yaml`: "small"; "networks", how `small` differs for a network; and "paper" by protocol and
    published variant, of networks of two streams by row.
    """
    text = resources.files("evalkit.downstream").joinpath("recipes", "segmentation.yaml").read_text(encoding="utf-8")
    content = yaml.safe_load(text)
    return {
        "small": SegmentationSchedule.model_validate(content["small"]),
        "networks": content["networks"],
        "paper": {
            name: {variant: SegmentationSchedule.model_validate(fields) for variant, fields in variants.items()}
            for name, variants in content["paper"].items()
        },
    }


def small_schedule(network: str) -> SegmentationSchedule:
    """The recipe `small` of a network: in its size and length, where it has its own."""
    known = schedules()
    fields = known["small"].model_dump(exclude_defaults=True) | known["networks"].get(network, {})
    return SegmentationSchedule.model_validate(fields | {"network": network})


def tables_of(network: str) -> list[str]:
    """The rows and blocks of tables that a network fills: "psfusion-table2 RTFNet", "psfusion-table1 BANet"."""
    name = SEGMENTERS.name_of(network)
    return [
        f"{protocol} {variant}"
        for protocol, variants in schedules()["paper"].items()
        for variant, schedule in variants.items()
        if SEGMENTERS.name_of(schedule.network) == name
    ]


def read_schedule(path: Path) -> SegmentationSchedule:
    """A schedule from a reader's own YAML file: the fields of `small`, or some of them. Raises DataError."""
    small = schedules()["small"].model_dump(exclude_defaults=True)
    schedule = model_from_yaml(SegmentationSchedule, read_text(path), f"the recipe {path}", small, "segmentation")
    segmenter(schedule.network)
    return schedule
