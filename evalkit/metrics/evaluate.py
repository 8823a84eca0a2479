"""All metrics of a fused image in one pass; of one image, or of a folder."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

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
    header_size,
    is_jpeg,
    open_bytes,
    parse_depth,
    parse_gray,
    stored_bits,
    stored_luma,
)
from evalkit.data.pairs import image_files, natural_key
from evalkit.data.patterns import parse_pattern
from evalkit.data.stems import hint
from evalkit.engine.processes import affordable_workers, in_processes
from evalkit.errors import DataError, EvalkitError, OtherBytesError, UnreadableError
from evalkit.metrics.card import DEFINITIONS, Definition
from evalkit.metrics.image import Image, Pair, UndefinedError
from evalkit.metrics.registry import definitions
from evalkit.registry import PROGRAM

if TYPE_CHECKING:
    import pandas as pd

REVISION = 2  # raised whenever a metric's value changes: stored scores of another revision are measured again

Names = tuple[tuple[str, str | Definition], ...]  # (column, full name) of the metrics to compute
ImageLike = NDArray[np.uint8] | str | os.PathLike[str]  # or what `evalkit.data.arrays` takes
FEW_LEVELS = 16  # a source that keeps fewer has lost what it showed
PROCESS, PIXEL = 300 * 2**20, 200  # bytes of a process, and per pixel of a pair that is measured by many metrics
SIZED = 8  # images whose size stands for that of all
ANY_NAME = "{stem}"  # file names are the stems


Crop = Literal["", "end", "centre"]


@dataclass(frozen=True)
class Reading:
    """How files become the pixels that are measured.

    Attributes:
        depth: what the values of 16-bit files are, see `evalkit.data.images.decode`.
        crop: fused images that are larger than their sources, because a network padded them, lose what is too much: at
            the "end" (right and below), or half of it on every side ("centre").
        gray: how colour becomes gray, one of `evalkit.data.gray.GRAYS`; "" as the convention of each metric has it.
    """

    depth: Depth | None = None
    crop: Crop = ""
    gray: str = ""

    def key(self, definitions: Iterable[Definition]) -> str:
        """What the scores of metrics depend on besides the files."""
        names = []
        for definition in definitions:
            gray = self.gray or definition.gray
            names.append(definition.full_name + definition.code + f"|gray {gray}" * (gray != ROUNDED))
        depth, crop = f"|depth {self.depth}" * (self.depth is not None), f"|crop {self.crop}" * bool(self.crop)
        return ",".join(names) + depth + crop

    def grays(self, definitions: Iterable[Definition]) -> str:
        """How colour becomes gray for these metrics, in words."""
        return self.gray or ", ".join(dict.fromkeys(definition.gray for definition in definitions))


AS_STORED = Reading()


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
    elif (levels := int(np.count_nonzero(np.bincount(loaded.pixels.ravel(), minlength=256)))) < FEW_LEVELS:
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
    """The full name, by which another process finds the definition; itself where only this program has it."""
    return definition if DEFINITIONS.origin(definition.full_name) is PROGRAM else definition.full_name


@functools.lru_cache(maxsize=8)  # what only the program has comes anew with every unit
def _definitions(names: Names) -> dict[str, Definition]:
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
    columns = _definitions(names)
    try:
        sources = [_source(job, role, reading) for role in ("infrared", "visible")]
    except EvalkitError as error:
        return {method: _without(columns, error, job, "") for method in job.fused}
    results = {}
    for method, path in job.fused.items():
        try:
            fused = load(path, "fused", reading, job.expected)
            fused = cropped(fused, sources[1].shape, reading.crop)
            results[method] = measure(Pair(fused, *sources), columns, reading.gray)
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


def evaluate_folder(
    fused_dir: str | os.PathLike[str],
    infrared_dir: str | os.PathLike[str],
    visible_dir: str | os.PathLike[str],
    metrics: Iterable[str] | str | None = None,
    convention: str = "textbook",
    workers: int | None = None,
    progress: Callable[[Iterable, int, str], Iterable] = lambda items, total, text: items,
    name: str = ANY_NAME,
    infrared_name: str = ANY_NAME,
    visible_name: str = ANY_NAME,
    depth: int | str | None = None,
    crop: Crop = "",
    gray: str = "",
) -> pd.DataFrame:
    """Measure every fused image of a folder against the sources of the same stem.

    Args:
        fused_dir, infrared_dir, visible_dir: folders of images, paired by file name without suffix.
        metrics, convention: as in `evaluate`.
        workers: processes; None for one per processor. The numbers do not depend on it.
        progress: wraps the images while they are measured, called with (items, count, text).
        name, infrared_name, visible_name: how the names in each folder are made of the stem, e.g. "{stem}_fused",
            "IR{stem}", "{stem:05}" (the stem 1 is 00001); other files are passed over.
        depth: as in `evaluate`.
        crop: "end" or "centre": where fused images that are larger than their sources lose what is too much, see
            `Reading`.
        gray: as in `evaluate`.

    Returns:
        One row per fused image and per pair of sources without one (index "image", natural order), one column per
        metric. NaN where a value is undefined or an image is missing or could not be measured; `.attrs["missing"]` maps
        (image, metric) to the reason, `.attrs["hint"]` says which names would pair more images, if any, and
        `.attrs["notes"]` maps what else to know (as `.notes` of `evaluate`) to the images.

    Raises:
        UnknownNameError: metric, convention or gray.
        DataError: a folder is missing or empty, or not one fused image has both sources.
    """
    import pandas as pd  # a third of a second, which workers and tables do without

    columns, reading = definitions(metrics, convention), Reading(parse_depth(depth), crop, parse_gray(gray))
    folders = {
        "fused": (fused_dir, name),
        "infrared": (infrared_dir, infrared_name),
        "visible": (visible_dir, visible_name),
    }
    (fused, infrared, visible), hint = _by_stem(folders)
    jobs = [MeasureJob(stem, infrared.get(stem), visible.get(stem), {"": path}) for stem, path in fused.items()]
    run = functools.partial(measure_job, names=names_of(columns), reading=reading)
    workers = workers or affordable_workers(memory_for(list(fused.values())[:SIZED]))
    results = (scores[""] for scores in in_processes(run, jobs, workers))
    measured = dict(progress(zip(fused, results, strict=True), len(fused), "measure"))
    missing = (infrared.keys() & visible.keys()) - fused.keys()
    measured |= {stem: all_missing(columns, "there is no fused image of this name") for stem in missing}
    rows = {stem: measured[stem] for stem in sorted(measured, key=natural_key)}
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=list(columns))
    frame.index.name = "image"
    frame.attrs["missing"] = {(stem, column): why for stem, row in rows.items() for column, why in row.missing.items()}
    frame.attrs["hint"] = hint
    frame.attrs["notes"] = notes_of(rows)
    return frame


def notes_of(scores: Mapping[str, Scores]) -> dict[str, list[str]]:
    """Note -> the images that it is about."""
    notes: dict[str, list[str]] = {}
    for stem, row in scores.items():
        for note in row.notes:
            notes.setdefault(note, []).append(stem)
    return notes


def memory_for(paths: Iterable[Path]) -> int:
    """Bytes that a process takes, about, which measures images of the size of the largest of these."""
    sizes = [size for path in paths if (size := header_size(path)) is not None]
    return PROCESS + PIXEL * max((width * height for width, height in sizes), default=0)


OPTIONS = {"fused": "--name", "infrared": "--infrared-name", "visible": "--visible-name"}


def _by_stem(folders: Mapping[str, tuple[str | os.PathLike[str], str]]) -> tuple[list[dict[str, Path]], str]:
    """The images of each role by stem, and a hint where names do not pair.

    Args:
        folders: role -> folder and pattern of its names.

    Raises:
        EvalkitError: a folder is missing or empty, a pattern that is none or fits no name, or not one fused image
            with both sources.
    """
    files = {role: image_files(folder, allow_empty="/" in text) for role, (folder, text) in folders.items()}
    paired = []
    for role, (folder, text) in folders.items():
        pattern = parse_pattern(text).fill(method=Path(os.path.abspath(folder)).name)
        if more := pattern.fields - {"stem"}:
            raise EvalkitError(f"{OPTIONS[role]} is {text!r}: there is no {more.pop()} to put in. Write its name.")
        paired.append(pattern.listing(Path(folder))[0])
        if not paired[-1]:
            example = f": {next(iter(files[role].values())).name}, for one" if files[role] else ""
            raise DataError(f"no image in {folder} has a name like {text}{example}. Give another {OPTIONS[role]}.")
    fused, infrared, visible = paired
    both = infrared.keys() & visible.keys()
    cure = "" if fused.keys() <= both else hint(files, OPTIONS)
    if not fused.keys() & both:
        lacks_infrared = not fused.keys() & infrared.keys()
        role, others = ("infrared", infrared) if lacks_infrared else ("visible", visible)
        raise DataError(
            f"no image in {folders['fused'][0]} has both its sources: it holds {next(iter(fused))}, "
            f"{folders[role][0]} {next(iter(others))}. Images are paired by file name. {cure}".rstrip()
        )
    return paired, cure
