"""Measuring batches: sources are prepared once, fused images come and go."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from functools import partial

import torch
from torch import Tensor

from evalkit.data.gray import GRAYS, ROUNDED
from evalkit.data.images import parse_gray
from evalkit.engine.processes import on_threads
from evalkit.errors import EvalkitError, ImageError
from evalkit.metrics.card import Definition
from evalkit.metrics.evaluate import Scores, measure
from evalkit.metrics.image import Image, Pair, UndefinedError
from evalkit.metrics.registry import definitions
from evalkit.metrics.torch.batch import Batch, BatchPair
from evalkit.metrics.torch.forms import Form, form_of

DTYPES = (torch.float64, torch.float32)
# a processor's cache holds little, a card wants much to do
CPU_PIXELS, GPU_PIXELS = 2**18, 2**23


def pixels_at_a_time(device: str | torch.device) -> int:
    """Of how many pixels the images of a batch are that are measured together."""
    return CPU_PIXELS if torch.device(device).type == "cpu" else GPU_PIXELS


class BatchScores(dict[str, Tensor]):
    """Metric -> values (N,), float64, on the device of the images; NaN where an image has none.

    `missing` maps the metric to the images without a value, by their place in the batch, and these to the reason.
    """

    def __init__(self, values: Mapping[str, Tensor], missing: Mapping[str, Mapping[int, str]]) -> None:
        super().__init__(values)
        self.missing = {metric: dict(reasons) for metric, reasons in missing.items()}

    def per_image(self) -> list[Scores]:
        """What `evalkit.evaluate` gives for each image."""
        columns = {metric: values.tolist() for metric, values in self.items()}
        size = len(next(iter(columns.values())))
        return [
            Scores(
                {metric: values[n] for metric, values in columns.items()},
                {metric: reasons[n] for metric, reasons in self.missing.items() if n in reasons},
            )
            for n in range(size)
        ]


class Sources:
    """The infrared and visible images of N pairs, for any number of batches of their fused images.

    What metrics need of them is computed when it is first needed, and kept: about 160 bytes a pixel of a pair for the
    nine usual metrics. Tensors of the processor share their memory with NumPy arrays: in float64 they are measured as
    images are, by the compiled loops, as many at once as PyTorch may use threads.

    Args:
        infrared, visible: uint8 tensors, (N, H, W), (N, 1, H, W) or (N, 3, H, W) RGB, on one device.
        dtype: torch.float64, or torch.float32 for devices that compute in double precision slowly; docs/tensors.md has
            its errors.
        as_on_gpu: on a processor, too, compute with PyTorch what a GPU would compute.

    Raises:
        ImageError: a tensor of another kind or shape.

    Example:
        >>> scenes = torch.arange(2 * 64 * 64).reshape(2, 64, 64).to(torch.uint8)
        >>> scores = Sources(scenes, scenes.flip(1)).evaluate(scenes, metrics=["EN", "MSE"])
        >>> scores["EN"]
        tensor([8., 8.], dtype=torch.float64)
    """

    def __init__(
        self, infrared: Tensor, visible: Tensor, dtype: torch.dtype = torch.float64, as_on_gpu: bool = False
    ) -> None:
        if dtype not in DTYPES:
            raise EvalkitError(f"dtype is {dtype}, expected torch.float64 or torch.float32.")
        for images, name in ((infrared, "infrared"), (visible, "visible")):
            _check(images, name)
        _same("visible", visible, "infrared", infrared)
        if infrared.device != visible.device:
            raise ImageError(f"infrared is on {infrared.device}, visible on {visible.device}: put both on one device.")
        self.dtype, self.device = dtype, infrared.device
        self._images = infrared, visible
        self._step = max(1, pixels_at_a_time(self.device) // (infrared.shape[-2] * infrared.shape[-1]))
        self._shares_memory = self.device.type == "cpu" and dtype == torch.float64 and not as_on_gpu
        self._prepared: dict[str, list[tuple[Batch, Batch]]] = {}
        self._images_of: dict[str, list[tuple[Image, Image]]] = {}

    def evaluate(
        self,
        fused: Tensor,
        metrics: Iterable[str] | str | None = None,
        convention: str = "textbook",
        gray: str = "",
    ) -> BatchScores:
        """Measure the fused image of every pair.

        Args:
            fused: uint8, as the sources, in the same order; taken to their device where it is not there.
            metrics, convention, gray: as of `evalkit.evaluate`; no metrics stand for all that have a form for tensors.

        Raises:
            UnknownNameError: metric, convention or gray, with the nearest names.
            EvalkitError: a named metric that has no form for tensors, see `evalkit.metrics.torch.forms`, or a
                convention that has no metric with one.
            ImageError: a tensor of another kind, shape or number of images.
        """
        columns = definitions(metrics, convention)
        with_form = {column: definition for column, definition in columns.items() if form_of(definition)}
        return self.measure(fused, with_form if metrics is None and with_form else columns, parse_gray(gray))

    def measure(self, fused: Tensor, columns: Mapping[str, Definition], gray: str = "") -> BatchScores:
        """As `evaluate`, for definitions of metrics by column."""
        if without := [definition.full_name for definition in columns.values() if form_of(definition) is None]:
            raise EvalkitError(
                f"{', '.join(without)}: no form for batches of tensors. evalkit.evaluate measures them one by one."
            )
        _check(fused, "fused")
        _same("fused", fused, "infrared", self._images[0])
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            fused = fused.to(self.device)
            by_gray: dict[str, dict[str, Definition]] = {}
            for column, definition in columns.items():
                by_gray.setdefault(gray or definition.gray, {})[column] = definition
            work = self._by_numpy if self._shares_memory else self._by_torch
            values: dict[str, Tensor] = {}
            missing: dict[str, dict[int, str]] = {}
            for its_gray, its_columns in by_gray.items():
                scores = work(fused, its_gray, its_columns)
                values |= scores
                missing |= scores.missing
        return BatchScores({column: values[column] for column in columns}, missing)

    def _by_torch(self, fused: Tensor, gray: str, columns: Mapping[str, Definition]) -> BatchScores:
        parts: dict[str, list[Tensor]] = {column: [] for column in columns}
        missing: dict[str, dict[int, str]] = {}
        for number, pair in enumerate(self._pairs(fused, gray)):
            for column, definition in columns.items():
                numbers, reasons = _measured(column, form_of(definition), pair)
                parts[column].append(numbers)
                for n, reason in reasons.items():
                    missing.setdefault(column, {})[number * self._step + n] = reason
        return BatchScores({column: torch.cat(numbers) for column, numbers in parts.items()}, missing)

    def _by_numpy(self, fused: Tensor, gray: str, columns: Mapping[str, Definition]) -> BatchScores:
        kept_as = self._kept_as(gray)
        if kept_as not in self._images_of:
            infrared, visible = (to_gray(images, gray).numpy() for images in self._images)
            self._images_of[kept_as] = [
                (Image(one, "infrared"), Image(other, "visible")) for one, other in zip(infrared, visible, strict=True)
            ]
        both = zip(to_gray(fused, gray).numpy(), self._images_of[kept_as], strict=True)
        pairs = (Pair(Image(pixels, "fused"), *sources) for pixels, sources in both)
        images = list(on_threads(partial(measure, columns=columns), pairs, torch.get_num_threads()))
        missing = {
            column: {n: scores.missing[column] for n, scores in enumerate(images) if column in scores.missing}
            for column in columns
        }
        return BatchScores(
            {column: torch.tensor([scores[column] for scores in images], dtype=torch.float64) for column in columns},
            {column: reasons for column, reasons in missing.items() if reasons},
        )

    def _kept_as(self, gray: str) -> str:
        """What sources in this gray are kept as: without colours they are the same in all."""
        return ROUNDED if all(images.ndim == 3 or images.shape[1] == 1 for images in self._images) else gray

    def _pairs(self, fused: Tensor, gray: str) -> Iterator[BatchPair]:
        """The pairs, as many at a time as the device takes."""
        kept_as = self._kept_as(gray)
        if kept_as not in self._prepared:
            infrared, visible = (to_gray(images, gray).split(self._step) for images in self._images)
            self._prepared[kept_as] = [
                (Batch(one, "infrared", self.dtype), Batch(other, "visible", self.dtype))
                for one, other in zip(infrared, visible, strict=True)
            ]
        fused_parts = to_gray(fused, gray).split(self._step)
        for part, sources in zip(fused_parts, self._prepared[kept_as], strict=True):
            yield BatchPair(Batch(part, "fused", self.dtype), *sources)


def evaluate(
    fused: Tensor,
    infrared: Tensor,
    visible: Tensor,
    metrics: Iterable[str] | str | None = None,
    convention: str = "textbook",
    gray: str = "",
    dtype: torch.dtype = torch.float64,
    as_on_gpu: bool = False,
) -> BatchScores:
    """Measure a batch of fused images against their sources, once; see `Sources`, which keeps what it prepares.

    Args:
        fused, infrared, visible, dtype, as_on_gpu: as of `Sources`.
        metrics, convention, gray: as of `evalkit.evaluate`.

    Raises:
        As `Sources` and `Sources.evaluate`.
    """
    return Sources(infrared, visible, dtype, as_on_gpu).evaluate(fused, metrics, convention, gray)


def _measured(column: str, form: Form | None, pair: BatchPair) -> tuple[Tensor, dict[int, str]]:
    """The values (N,) of a metric, and of the images that have none, by place, the reason."""
    assert form is not None
    try:
        values = form(pair)
    except UndefinedError as reason:  # of all: they are of one size
        size = len(pair.fused.pixels)
        none = torch.full((size,), math.nan, dtype=torch.float64, device=pair.fused.pixels.device)
        return none, dict.fromkeys(range(size), str(reason))
    numbers = values.numbers + 0.0  # no -0.0
    masks = torch.stack([~numbers.isfinite(), *(where for where, _ in values.undefined)])
    if not masks.any():
        return numbers, {}
    numbers = numbers.masked_fill(masks[1:].any(0), math.nan)
    infinite, *undefined = masks.tolist()
    reasons = {n: f"{column} is {numbers[n].item()}" for n, bad in enumerate(infinite) if bad}
    for where, (_, why) in zip(reversed(undefined), reversed(values.undefined), strict=True):
        reasons |= {n: why for n, bad in enumerate(where) if bad}
    return numbers.masked_fill(masks[0], math.nan), reasons


def to_gray(images: Tensor, gray: str) -> Tensor:
    """8-bit luminance (N, H, W), bit by bit that of `evalkit.data.images.to_gray`.

    Args:
        images: uint8, (N, H, W), (N, 1, H, W) or (N, 3, H, W) RGB.
        gray: how colour becomes gray, one of `evalkit.data.gray.GRAYS`.
    """
    if images.ndim == 3 or images.shape[1] == 1:
        return images.reshape(len(images), *images.shape[-2:])
    luma = GRAYS[gray]
    red, green, blue = images.double().unbind(1)
    levels = luma.weights[0] * red + luma.weights[1] * green + luma.weights[2] * blue
    levels /= luma.divisor
    if luma.rounding == "even":
        return levels.round_().to(torch.uint8)
    return (levels + 0.5 if luma.rounding == "up" else levels).to(torch.uint8)  # cuts off


def _check(images: Tensor, name: str) -> None:
    """That these are images, of one or three channels. Raises ImageError."""
    if not isinstance(images, Tensor):
        raise ImageError(f"{name} is a {type(images).__name__}, not a tensor. Make it one: torch.from_numpy(x).")
    shape, dtype = tuple(images.shape), str(images.dtype).removeprefix("torch.")
    if images.dtype != torch.uint8:
        raise ImageError(
            f"{name} is a tensor of {dtype}, expected uint8 with values 0..255. "
            "Convert it, e.g. (x * 255).round().clamp(0, 255).to(torch.uint8) for values in [0, 1]."
        )
    if len(shape) not in (3, 4) or 0 in shape or (len(shape) == 4 and shape[1] not in (1, 3)):
        raise ImageError(f"{name} is a tensor of shape {shape}, expected (N, H, W), (N, 1, H, W) or (N, 3, H, W).")


def _same(name: str, images: Tensor, other_name: str, others: Tensor) -> None:
    """That both are of equally many images of one size. Raises ImageError."""
    if len(images) != len(others):
        raise ImageError(f"{name} holds {len(images)} images, {other_name} {len(others)}. Give one for each pair.")
    sizes = [f"{x.shape[-1]}x{x.shape[-2]}" for x in (images, others)]
    if sizes[0] != sizes[1]:
        raise ImageError(
            f"the {name} images are {sizes[0]}, the {other_name} images {sizes[1]} (width x height). Bring them to one "
            "size first: evalkit does not resize, it would change the numbers."
        )
