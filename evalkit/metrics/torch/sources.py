"""Measuring batches: sources are prepared once, fused images come and go."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from evalkit.errors import EvalkitError, ImageError
from evalkit.metrics.card import Definition
from evalkit.metrics.evaluate import Scores
from evalkit.metrics.image import UndefinedError
from evalkit.metrics.registry import definitions
from evalkit.metrics.torch.batch import Batch, BatchPair
from evalkit.metrics.torch.forms import Form, form_of

DTYPES = (torch.float64, torch.float32)
# pixels that are computed with at a time: a processor's cache holds little, a card wants much to do
PIXELS = {"cpu": 2**18, "cuda": 2**24}


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

    What metrics need of them is computed when it is first needed and kept: about 100 bytes a pixel of a pair for the
    nine usual metrics.

    Args:
        infrared, visible: uint8 tensors, (N, H, W), (N, 1, H, W) or (N, 3, H, W) RGB, on one device.
        dtype: torch.float64, or torch.float32 for devices that compute in double precision slowly; docs/performance.md
            has its errors.

    Raises:
        ImageError: a tensor of another kind or shape.

    Example:
        >>> scenes = torch.arange(2 * 64 * 64).reshape(2, 64, 64).to(torch.uint8)
        >>> scores = Sources(scenes, scenes.flip(1)).evaluate(scenes, metrics=["EN", "MSE"])
        >>> scores["EN"]
        tensor([8., 8.], dtype=torch.float64)
    """

    def __init__(self, infrared: Tensor, visible: Tensor, dtype: torch.dtype = torch.float64) -> None:
        if dtype not in DTYPES:
            raise EvalkitError(f"dtype is {dtype}, expected torch.float64 or torch.float32.")
        first, second = gray(infrared, "infrared"), gray(visible, "visible")
        _same("visible", second, "infrared", first)
        self.dtype, self.shape, self.device = dtype, first.shape, first.device
        self._step = max(1, PIXELS.get(self.device.type, PIXELS["cuda"]) // first[0].numel())
        parts = zip(first.split(self._step), second.split(self._step), strict=True)
        self._parts = [(Batch(one, "infrared", dtype), Batch(other, "visible", dtype)) for one, other in parts]

    def evaluate(
        self, fused: Tensor, metrics: Iterable[str] | str | None = None, convention: str = "textbook"
    ) -> BatchScores:
        """Measure the fused image of every pair.

        Args:
            fused: uint8, as the sources, in the same order; taken to their device where it is not there.
            metrics, convention: as of `evalkit.evaluate`; None stands for all that have a form for tensors.

        Raises:
            UnknownNameError: metric or convention, with the nearest names.
            EvalkitError: a named metric that has no form for tensors, see `evalkit.metrics.torch.forms`, or a
                convention that has no metric with one.
            ImageError: a tensor of another kind, shape or number of images.
        """
        columns = definitions(metrics, convention)
        with_form = {column: definition for column, definition in columns.items() if form_of(definition)}
        return self.measure(fused, with_form if metrics is None and with_form else columns)

    def measure(self, fused: Tensor, columns: Mapping[str, Definition]) -> BatchScores:
        """As `evaluate`, for definitions of metrics by column."""
        forms = {column: form_of(definition) for column, definition in columns.items()}
        if without := [columns[column].full_name for column, form in forms.items() if form is None]:
            raise EvalkitError(
                f"{', '.join(without)}: no form for batches of tensors. evalkit.evaluate measures them one by one."
            )
        images = gray(fused, "fused").to(self.device)
        _same("fused", images, "infrared", self._parts[0][0].pixels, count=self.shape[0])
        values: dict[str, list[Tensor]] = {column: [] for column in columns}
        missing: dict[str, dict[int, str]] = {}
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            for number, (part, sources) in enumerate(zip(images.split(self._step), self._parts, strict=True)):
                pair = BatchPair(Batch(part, "fused", self.dtype), *sources)
                for column, form in forms.items():
                    assert form is not None
                    numbers, reasons = _measured(column, form, pair)
                    values[column].append(numbers)
                    for n, reason in reasons.items():
                        missing.setdefault(column, {})[number * self._step + n] = reason
        return BatchScores({column: torch.cat(parts) for column, parts in values.items()}, missing)


def evaluate(
    fused: Tensor,
    infrared: Tensor,
    visible: Tensor,
    metrics: Iterable[str] | str | None = None,
    convention: str = "textbook",
    dtype: torch.dtype = torch.float64,
) -> BatchScores:
    """Measure a batch of fused images against their sources, once; see `Sources`, which keeps what it prepares.

    Args:
        fused, infrared, visible, dtype: as of `Sources`.
        metrics, convention: as of `evalkit.evaluate`.

    Raises:
        As `Sources` and `Sources.evaluate`.
    """
    return Sources(infrared, visible, dtype).evaluate(fused, metrics, convention)


def _measured(column: str, form: Form, pair: BatchPair) -> tuple[Tensor, dict[int, str]]:
    """The values (N,) of a metric, and of the images that have none, by place, the reason."""
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


def gray(images: Tensor, name: str) -> Tensor:
    """8-bit luminance (N, H, W), as `evalkit.data.images.to_gray` has it. Raises ImageError.

    Args:
        images: uint8, (N, H, W), (N, 1, H, W) or (N, 3, H, W) RGB.
        name: fused, infrared or visible, for messages.
    """
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
    if len(shape) == 3 or shape[1] == 1:
        return images.reshape(shape[0], *shape[-2:])
    weights = torch.tensor([299.0, 587.0, 114.0], dtype=torch.float64, device=images.device)
    levels = torch.einsum("nchw,c->nhw", images.double(), weights)  # integers: exact
    return levels.div_(1000).round_().to(torch.uint8)  # halves to the even level


def _same(name: str, images: Tensor, other_name: str, others: Tensor, count: int | None = None) -> None:
    count = len(others) if count is None else count
    if len(images) != count:
        raise ImageError(f"{name} holds {len(images)} images, {other_name} {count}. Give one for each pair.")
    sizes = [f"{x.shape[2]}x{x.shape[1]}" for x in (images, others)]
    if sizes[0] != sizes[1]:
        raise ImageError(
            f"the {name} images are {sizes[0]}, the {other_name} images {sizes[1]} (width x height). Bring them to one "
            "size first: evalkit does not resize, it would change the numbers."
        )
    if images.device != others.device:
        raise ImageError(f"{name} is on {images.device}, {other_name} on {others.device}: put both on one device.")
