"""All metrics of a fused image in one pass."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from evalkit.data.arrays import batch_size, to_array
from evalkit.data.expected import NOT_HASHED, Expected
from evalkit.data.gray import ROUNDED
from evalkit.data.images import (
    JPEG_NOTE,
    Depth,
    decode,
    is_jpeg,
    open_bytes,
    parse_depth,
    parse_gray,
    stored_bits,
    stored_luma,
)
from evalkit.errors import EvalkitError, OtherBytesError, UnreadableError
from evalkit.metrics.card import DEFINITIONS, Definition
from evalkit.metrics.fusion.information import histogram
from evalkit.metrics.image import Image, Pair, UndefinedError
from evalkit.metrics.models import Modelled
from evalkit.metrics.registry import definitions
from evalkit.registry import PROGRAM

REVISION = 2  # raised whenever a metric's value changes: stored scores of another revision are measured again

Names = tuple[tuple[str, str | Definition], ...]  # (column, full name) of the metrics to compute
ImageLike = NDArray[np.uint8] | str | os.PathLike[str]  # or what `evalkit.data.arrays` takes
FEW_LEVELS = 16  # a source that keeps fewer has lost what it showed


Crop = Literal["", "end", "centre"]
DEVICE = "cpu|cuda(:[0-9]{1,4})?"  # of PyTorch


@dataclass(frozen=True)
class Reading:
    """How files become the pixels that are measured.

    Attributes:
        depth: what the values of 16-bit files are, see `evalkit.data.images.decode`.
        crop: fused images that are larger than their sources, because a network padded them, lose what is too much: at
            the "end" (right and below), or half of it on every side ("centre").
        gray: how colour becomes gray, one of `evalkit.data.gray.GRAYS`; "" as the convention of each metric has it.
        device: where the pixels are measured: "" by NumPy, or by PyTorch on "cuda", "cuda:N" or "cpu".
    """

    depth: Depth | None = None
    crop: Crop = ""
    gray: str = ""
    device: str = ""

    def key(self, definitions: Iterable[Definition]) -> str:
        """What the scores of metrics depend on besides the files."""
        names = []
        for definition in definitions:
            gray = self.gray or definition.gray
            name = definition.full_name + definition.code + definition.parameters
            names.append(name + f"|gray {gray}" * (gray != ROUNDED))
        depth, crop = f"|depth {self.depth}" * (self.depth is not None), f"|crop {self.crop}" * bool(self.crop)
        # the digits of a device's last places are its own; which of several GPUs measured does not matter
        device = f"|torch {self.device.partition(':')[0]}" * bool(self.device)
        return ",".join(names) + depth + crop + device

    def grays(self, definitions: Iterable[Definition]) -> str:
        """How colour becomes gray for these metrics, in words."""
        return self.gray or ", ".join(dict.fromkeys(definition.gray for definition in definitions))


AS_STORED = Reading()


Result = TypeVar("Result")


class Scores(dict[str, float]):
    """Metric -> value. What has no value is NaN here and has its reason in `missing`.

    `passing` says that trouble kept the image from being measured which its content did not cause, such as a file that
    could not be read or too little memory: it is shown, but never stored as a result.
    """

    passing = False

    def __init__(
        self,
        values: Mapping[str, float] = MappingProxyType({}),
        missing_values: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        super().__init__(values)
        self.missing = dict(missing_values)
        self.notes: list[str] = []


def load(image: ImageLike, name: str, reading: Reading = AS_STORED, expected: Expected = NOT_HASHED) -> Image:
    """An array or a file, as it was hashed, as an Image, with notes.

    Args:
        image: a uint8 array, or what `evalkit.data.arrays` takes, or the path of a file.
        name: fused, infrared or visible, for messages.
        reading: how a file becomes pixels.
        expected: the hashes that files had when the work was planned.

    Raises:
        ImageError: it is not an 8-bit image, or cannot be decoded.
        UnreadableError: the file cannot be read now.
    """
    if not isinstance(image, str | os.PathLike):
        return Image(to_array(image, name), name, reading.gray or ROUNDED)
    return expected.read(Path(image), lambda data: _load(data, image, name, reading))


def _load(data: bytes, image: str | os.PathLike[str], name: str, reading: Reading) -> Image:
    luma = functools.partial(stored_luma, data, image) if is_jpeg(data) else None
    loaded = Image(decode(data, image, reading.depth), name, reading.gray or ROUNDED, luma)
    if name == "fused":
        loaded.notes = [JPEG_NOTE] if is_jpeg(data) else []
    elif (levels := int(np.count_nonzero(histogram(loaded)))) < FEW_LEVELS:
        with open_bytes(data, image) as header:
            deep = stored_bits(header) > 8
        cure = ", of the 16 bits that it is stored with: --depth stretch keeps more" if deep else ""
        loaded.notes = [f"the {name} image keeps {levels} gray level{'s' if levels > 1 else ''}{cure}"]
    return loaded


def measure(pair: Pair, columns: Mapping[str, Definition], gray: str = "") -> Scores:
    """Metrics of a pair, sharing what they have in common.

    Args:
        pair: the images.
        columns: column -> definition of its metric.
        gray: how colour becomes gray; "" as the convention of each metric has it.
    """
    scores = Scores()
    scores.notes = [note for image in (pair.fused, *pair.sources) for note in image.notes]
    for column, definition in columns.items():
        try:
            value = float(definition.function(pair.in_gray(gray or definition.gray))) + 0.0  # no -0.0
            if not math.isfinite(value):
                raise UndefinedError(f"{column} is {value}")
        except UndefinedError as reason:
            scores[column], scores.missing[column] = math.nan, str(reason)
        except Exception as error:  # a stranger's function may raise anything; evalkit's own is a bug that is shown
            if not definition.code:
                raise
            scores[column], scores.missing[column] = math.nan, f"{column} failed with {type(error).__name__}: {error}"
        else:
            scores[column] = value
        if pair.fused.large:  # what metrics have in common costs gigabytes there
            for image in (pair.fused, *pair.sources):
                image.forget()
    return scores


def cropped(image: Image, shape: tuple[int, int], crop: Crop) -> Image:
    """The image without what it has more than (height, width), with a note; itself where it is not larger.

    Args:
        image: of any size.
        shape: height and width of its sources.
        crop: where what is too much lies; "" leaves it.
    """
    more = [max(0, own - other) for own, other in zip(image.shape, shape, strict=True)]
    if not crop or not any(more):
        return image
    top, left = (0, 0) if crop == "end" else (more[0] // 2, more[1] // 2)
    height, width = image.shape[0] - more[0], image.shape[1] - more[1]
    part = slice(top, top + height), slice(left, left + width)
    smaller = Image(np.ascontiguousarray(image.array[part]), image.name, image.gray, _cropped_luma(image, part))
    smaller.notes = [*image.notes, f"cropped from {image.shape[1]}x{image.shape[0]} to {width}x{height} ({crop})"]
    return smaller


def _cropped_luma(image: Image, part: tuple[slice, slice]) -> Callable[[], NDArray[np.uint8] | None]:
    def luma() -> NDArray[np.uint8] | None:
        stored = image.luma() if image.luma is not None else None
        return None if stored is None else np.ascontiguousarray(stored[part])

    return luma


@dataclass(frozen=True)
class MeasureJob:
    """The sources of one scene and its fused images by method; a source that is missing is None."""

    stem: str
    infrared: Path | None
    visible: Path | None
    fused: Mapping[str, Path]
    expected: Expected = NOT_HASHED


def names_of(columns: Mapping[str, Definition]) -> Names:
    """What a worker needs to know of the metrics: definitions hold functions, which do not travel."""
    return tuple((column, name_of(definition)) for column, definition in columns.items())


def name_of(definition: Definition) -> str | Definition:
    """The full name, by which another process finds the definition; itself where only this program has it, or has named
    its model files.
    """
    if isinstance(definition.function, Modelled):
        return replace(definition, function=definition.function.here())
    return definition if DEFINITIONS.origin(definition.full_name) is PROGRAM else definition.full_name


@functools.lru_cache(maxsize=8)  # what only the program has comes anew with every unit
def definitions_of(names: Names) -> dict[str, Definition]:
    """Column -> definition, of the names of `names_of`."""
    return {column: DEFINITIONS[name] if isinstance(name, str) else name for column, name in names}


def measure_job(job: MeasureJob, names: Names, reading: Reading = AS_STORED) -> dict[str, Scores]:
    """Scores by method. What cannot be measured is a missing value in every metric, with the reason.

    Args:
        job: the images of one scene.
        names: of the metrics, see `names_of`.
        reading: how files become pixels.

    Raises:
        OtherBytesError: on another machine, a file that is not there or has other bytes than those that were hashed.
    """
    columns = definitions_of(names)
    return each_method(job, columns, reading, lambda pair: measure(pair, columns, reading.gray))


def each_method(
    job: MeasureJob, columns: Iterable[str], reading: Reading, work: Callable[[Pair], Result]
) -> dict[str, Result | Scores]:
    """By method, what `work` makes of its pair; scores without values where the pair cannot be read, or memory ran out.

    Args:
        job: the images of one scene.
        columns: of the metrics.
        reading: how files become pixels.
        work: what is done with each pair.

    Raises:
        OtherBytesError: as `measure_job`.
    """
    try:
        sources = [_source(job, role, reading) for role in ("infrared", "visible")]
    except EvalkitError as error:
        return {method: _without(columns, error, job, "") for method in job.fused}
    results: dict[str, Result | Scores] = {}
    for method, path in job.fused.items():
        try:
            fused = load(path, "fused", reading, job.expected)
            fused = cropped(fused, sources[1].shape, reading.crop)
            results[method] = work(Pair(fused, *sources))
        except EvalkitError as error:
            results[method] = _without(columns, error, job, f"{path.name}: ")
        except (MemoryError, cv2.error) as error:
            if isinstance(error, cv2.error) and error.code != cv2.Error.StsNoMem:
                raise
            short = UnreadableError("memory ran out. Use fewer --workers")
            results[method] = _without(columns, short, job, f"{path.name}: ")
    return results


def _source(job: MeasureJob, role: str, reading: Reading) -> Image:
    path: Path | None = getattr(job, role)
    if path is None:
        raise EvalkitError(f"there is no {role} image named {job.stem}")
    return load(path, role, reading, job.expected)


def _without(columns: Iterable[str], error: EvalkitError, job: MeasureJob, where: str) -> Scores:
    """Scores of an image that an error kept from being measured."""
    if job.expected.far and isinstance(error, OtherBytesError):
        raise error
    scores = all_missing(columns, f"{where}{error}")
    scores.passing = isinstance(error, UnreadableError)
    return scores


def all_missing(columns: Iterable[str], reason: str) -> Scores:
    """Scores in which every metric is a missing value for one reason."""
    return Scores(dict.fromkeys(columns, float("nan")), dict.fromkeys(columns, reason))


def evaluate(
    fused: ImageLike | Any,
    infrared: ImageLike | Any,
    visible: ImageLike | Any,
    metrics: Iterable[str] | str | None = None,
    convention: str = "textbook",
    depth: int | str | None = None,
    crop: Crop = "",
    gray: str = "",
) -> Scores | Any:
    """Measure one fused image against its two sources, or each of a batch against its own.

    Args:
        fused, infrared, visible: uint8 arrays, (H, W) or (H, W, 3) RGB, or paths of PNG, JPEG, BMP or TIFF images;
            all of one height and width. PIL images and uint8 torch tensors, (H, W), (1, H, W) or (3, H, W), on any
            device, are taken, too. Or three batches of equally many images in the same order: tensors (N, 1, H, W) or
            (N, 3, H, W), arrays (N, H, W, 1) or (N, H, W, 3).
        metrics: names such as "EN" (in `convention`) or "SSIM[smfnet]", or one such name; None for all of the
            convention.
        convention: see `evalkit.list_metrics()`.
        depth: what the values of files with 16 bits per channel are: 8 (levels 0..255 as they stand), 16 (parts of
            65535) or "stretch" (the smallest to 0, the largest to 255); None for 16, but a file that holds no more than
            255 is refused.
        crop: "end" or "centre": where a fused image that is larger than its sources loses what is too much.
        gray: how colour becomes gray: "rounded", "opencv", "pil", "matlab", "truncated" or "jpeg" (see
            `evalkit.data.gray`); as each metric's convention has it when not given.

    Returns:
        A dict metric -> value; an undefined one (0/0, infinite) is NaN and `.missing[metric]` says why. `.notes` says
        what else to know: a fused image that is a JPEG, a source with fewer than 16 gray levels. For batches, a list of
        N such dicts.

    Raises:
        UnknownNameError: metric, convention or gray, with the nearest names.
        ImageError: an image that cannot be read, is not 8-bit, or differs in size; a shape whose channels could be
            first or last; batches that do not hold equally many images.

    Example:
        >>> image = np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)
        >>> evaluate(image, image, image[::-1].copy(), metrics=["EN"])
        {'EN': 8.0}
    """
    columns = definitions(metrics, convention)
    reading = Reading(parse_depth(depth), crop, parse_gray(gray))
    images: dict[str, Any] = {"fused": fused, "infrared": infrared, "visible": visible}
    size = batch_size(images)
    if size is None:
        loaded, *sources = (load(image, name, reading) for name, image in images.items())
        return measure(Pair(cropped(loaded, sources[1].shape, crop), *sources), columns, reading.gray)
    pairs = (Pair(*(load(batch[n], f"{name}[{n}]", reading) for name, batch in images.items())) for n in range(size))
    return [measure(pair, columns, reading.gray) for pair in pairs]
