"""A recipe: how a network is trained, as the fields of a YAML file (`find_recipe` reads it)."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

LARGEST, MOST, LONGEST = 4096, 512, 10**7  # of a size in a network, of values that describe it, of a count of steps


def _sizes(values: dict[str, Any]) -> dict[str, Any]:
    """Refuse sizes that no machine has the memory for, wherever they stand among the options."""
    waiting: list[Any] = [values]
    seen = 0
    while waiting:
        value = waiting.pop()
        seen += 1
        if seen > MOST:
            raise ValueError(f"more than {MOST} values")
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list | tuple):
            waiting += value
        elif isinstance(value, int | float) and not abs(value) <= LARGEST:
            raise ValueError(f"{value} is beyond {LARGEST}")
    return values


Sizes = Annotated[dict[str, Any], AfterValidator(_sizes)]


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Augment(Strict):
    """What becomes of a pair before the network sees it; one random choice per pair and epoch."""

    crop: int | None = Field(
        default=None, ge=16, le=LARGEST, description="side of a square; the whole image without it"
    )
    stride: int | None = Field(default=None, ge=1, description="cut all squares on this grid once, not one at random")
    drop_flat: float = Field(default=0, ge=0, description="leave out squares with (p90 - p10) / p90 below this")
    resize: int | None = Field(default=None, ge=16, le=LARGEST, description="the whole image as a square of this side")
    area: tuple[float, float] | None = Field(
        default=None, description="cut this share of the image at random and resize it to `crop`"
    )
    flip_horizontal: bool = False
    flip_vertical: bool = False
    flip_either: bool = Field(default=False, description="horizontally, vertically or not at all, a third each")
    gamma: tuple[float, float] | None = Field(
        default=None, description="a power within these bounds for the gray levels of each image of a pair by itself"
    )
    rotate: bool = Field(default=False, description="by a multiple of 90 degrees")


class DataUse(Strict):
    """Pairs to learn from: of one data set or several."""

    datasets: dict[str, str | None] = Field(description="data set -> split, null for its default")
    shares: dict[str, Annotated[float, Field(gt=0, le=1)]] = Field(
        default={}, description="data set -> share of its pairs, at random; all when it is not named"
    )
    holdout: int = Field(default=0, ge=0, description="pairs kept for validation")
    labels: tuple[str, ...] = Field(default=(), description="kinds that every pair needs: classes, boxes, salient")


class RateSchedule(Strict):
    """Learning rate over the epochs or steps in which a part is trained, as a factor of the base rate."""

    kind: Literal["constant", "step", "poly", "cosine", "plateau"] = "constant"
    warmup: float = Field(default=0, ge=0, description="steps, or below 1 the share of all steps")
    start: float = Field(default=1e-2, gt=0, description="factor at the beginning of the warm-up")
    geometric: bool = Field(default=False, description="the warm-up multiplies; else it adds")
    first: int = Field(default=0, ge=0, le=1, description="number of the first step: 1 where it is counted beforehand")
    every: int = Field(default=1, ge=1, description="epochs between steps")
    factor: float = Field(default=1, gt=0, le=1, description="of a step, or of a plateau")
    floor: float = Field(default=0, ge=0, description="lowest rate")
    power: float = Field(default=0.9, gt=0)
    final: float = Field(default=0, ge=0, description="factor at the end of the cosine")
    patience: int = Field(default=3, ge=0, description="epochs without progress before a plateau counts")


class Optimiser(Strict):
    kind: Literal["adam", "adamw", "sgd"] = "adam"
    lr: float = Field(gt=0)
    weight_decay: float = Field(default=0, ge=0)
    momentum: float = Field(default=0.9, ge=0, lt=1, description="of sgd")
    clip: float | None = Field(default=None, gt=0, description="largest norm of a part's gradient")
    clip_scaled: bool = Field(
        default=False, description="of the gradient as mixed precision scales it, as code has it that never unscales"
    )
    schedule: RateSchedule = RateSchedule()


class Stage(Strict):
    """Some epochs with one loss; `parts` learn, the others are frozen."""

    name: str
    epochs: int = Field(ge=0, le=LONGEST)
    parts: tuple[str, ...] = Field(default=(), description="of the network; all when none is named")
    augment: Augment | None = Field(default=None, description="in place of the recipe's")


class Recipe(Strict):
    """How a network is trained."""

    method: str
    name: str
    source: str = Field(description="what it follows: the paper's section, and what the paper leaves open")
    variant: str = Field(default="", description="a row of the paper's ablation")
    data: DataUse
    augment: Augment = Augment()
    network: Sizes = Field(default={}, description="sizes, for the method's System")
    loss: Sizes = Field(default={}, description="options, for the method's System")
    weights: dict[str, str] = Field(default={}, description="pretrained part -> its weights' file name")
    batch: int = Field(ge=1, le=LARGEST)
    steps: int | None = Field(
        default=None, ge=1, le=LONGEST, description="per epoch; as many as the pairs allow when not given"
    )
    rounds: int = Field(default=1, ge=1, le=LARGEST, description="how often the stages are run through")
    stages: tuple[Stage, ...] = Field(min_length=1)
    optimiser: Optimiser
    optimisers: dict[str, Optimiser] = Field(default={}, description="of parts that differ")
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = "32-true"
    checkpointing: bool = Field(
        default=False,
        description="compute activations again for the gradient instead of keeping them",
    )
    ema: float | None = Field(default=None, gt=0, lt=1, description="decay of the mean of the weights")
    validate_every: int = Field(default=1, ge=1, description="epochs")
    seed: int = 2025

    @property
    def hash(self) -> str:
        """SHA-256 of everything the recipe says."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    @property
    def title(self) -> str:
        return f"{self.method} {self.variant}".strip()

    def optimiser_of(self, part: str) -> Optimiser:
        return self.optimisers.get(part, self.optimiser)
