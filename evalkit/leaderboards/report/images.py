"""The images behind the scores of a run, each checked against the hashes that were recorded with its scores."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from evalkit.data.hashes import combine_hashes, file_hash
from evalkit.data.images import decode, image_bytes
from evalkit.data.labels import labelled
from evalkit.data.pairs import DataRoot, PairSet
from evalkit.errors import DataError, EvalkitError
from evalkit.leaderboards.measured_again import MAPS, key_of, measured_files, reading_of
from evalkit.leaderboards.plots.scenes import fused_of_run, pairs_of_run
from evalkit.leaderboards.plots.zoom import Box, choose_boxes
from evalkit.leaderboards.report.pictures import Pixels
from evalkit.metrics.card import DEFINITIONS
from evalkit.metrics.evaluate import Reading, cropped
from evalkit.metrics.image import Image
from evalkit.protocols.schema import DatasetUse, Protocol, protocol_of_run
from evalkit.protocols.table.table import Table
from evalkit.records.per_image import PerImage
from evalkit.records.record import Record

OTHER = "not shown: the file that is there now is not the one that was measured (its hash is another)"
TITLES = {"infrared": "Infrared", "visible": "Visible", "salient": "Mask"}


@dataclass(frozen=True)
class Shot:
    """One image of a scene, or why it is not shown."""

    name: str
    image: Pixels | None
    reason: str = ""
    source: bool = False


@dataclass(frozen=True)
class ReportScene:
    """The source images and methods of one image name, and the detail to enlarge, of those that have `size`."""

    stem: str
    shots: list[Shot]
    box: Box | None
    size: tuple[int, int] = (0, 0)  # height, width


@dataclass(frozen=True)
class Measured:
    """What a run recorded of one method on one data set."""

    record: Record
    rows: PerImage


@dataclass
class DatasetImages:
    """Sources and fused images of one data set of a run.

    Attributes:
        measured: method -> its record and scores.
        pairs: of the data set; without any where they cannot be found, and then `no_sources` says why.
        files: method -> its images by stem, or why there are none.
    """

    measured: Mapping[str, Measured]
    pairs: PairSet
    files: Mapping[str, dict[str, Path] | str]
    no_sources: str = ""
    _same: dict[str, bool] = field(default_factory=dict)  # method, or "" for the sources -> whether all are as measured

    def scene(self, stem: str, methods: Iterable[str]) -> ReportScene:
        """The images of one stem: sources, then methods, each as it was measured or with the reason why not."""
        pair = next((pair for pair in self.pairs.pairs if pair.stem == stem), None)
        methods = [method for method in methods if method in self.measured]
        first = next(iter(self.measured.values())).record
        paths = measured_files(pair, first) if pair else []
        sources = [_read(path) for path in paths]
        fused = {method: _read(self._path(method, stem)) for method in methods}
        as_measured = {
            method for method, file in fused.items() if _fits(self.measured[method], stem, sources, file)
        }  # by the key of its row
        good = bool(as_measured) or bool(sources and self._sources_as_measured())
        names = ["infrared", "visible", *(["salient"] if first.convention == MAPS else [])]
        shots = []
        for i, name in enumerate(names):
            file = (
                sources[i]
                if pair
                else File(reason=self.no_sources or f"no pair of this name in {self.pairs.root.name}")
            )
            shots.append(_shot(TITLES[name], file, good, reading_of(first), source=True))
        shape = next((_shape(shot) for shot in shots if shot.image is not None), None)
        for method, file in fused.items():
            same = method in as_measured or bool(file.data and self._fused_as_measured(method))
            shots.append(_shot(method, file, same, reading_of(self.measured[method].record), shape))
        return _with_box(stem, shots)

    def _path(self, method: str, stem: str) -> Path | str:
        files = self.files[method]
        if isinstance(files, str):
            return files
        return files.get(stem) or f"no image of {stem} among those of {method}"

    def _sources_as_measured(self) -> bool:
        """Whether the data set as a whole is the one that was measured."""
        if "" not in self._same:
            recorded = {one.record.dataset.get("content_hash") for one in self.measured.values()}
            first = next(iter(self.measured.values())).record
            stems = {stem for one in self.measured.values() for stem in one.rows.rows}
            pairs = [p for p in self.pairs.pairs if not first.dataset.get("selected") or p.stem in stems]
            entries = ((p.stem, *map(file_hash, measured_files(p, first))) for p in pairs)
            self._same[""] = _hash_of(entries) in recorded
        return self._same[""]

    def _fused_as_measured(self, method: str) -> bool:
        """Whether all images of a method are those that were measured."""
        if method not in self._same:
            one, files = self.measured[method], self.files[method]
            assert isinstance(files, dict)
            entries = ((stem, file_hash(path)) for stem, path in files.items() if stem in one.rows.rows)
            self._same[method] = _hash_of(entries) == one.record.method.get("fused_hash")
        return self._same[method]


def images_of(
    table: Table, run: Path, measured: Mapping[str, Measured], data_root: DataRoot | None, outputs: Path | None
) -> DatasetImages:
    """Find the images that one data set's records were measured on; what is not found is told where it is shown.

    Args:
        table: of the run.
        run: its folder.
        measured: method -> record and scores, of one data set; one at least.
        data_root: folder of the data sets; that of EVALKIT_DATA when None.
        outputs: folder of fused images that are not in the run's own.
    """
    first = next(iter(measured.values())).record
    name, split = str(first.dataset["name"]), first.dataset.get("split")
    kind: Literal["fused", "maps"] = "maps" if first.convention == MAPS else "fused"
    no_sources, use = "", DatasetUse()
    try:
        pairs, use, protocol = pairs_of_run(table, run, name, data_root)
        if kind == "maps":
            pairs = labelled(pairs, "salient")
    except EvalkitError as error:
        pairs, no_sources = PairSet(name, split, run, "", ()), f"not found: {str(error).splitlines()[0]}"
        protocol = protocol_at_hand(table, run)
    files: dict[str, dict[str, Path] | str] = {}
    for method in measured:
        try:
            files[method] = fused_of_run(method, run, pairs, use, protocol, outputs, kind)
        except EvalkitError as error:
            files[method] = str(error).splitlines()[0]
    return DatasetImages(measured, pairs, files, no_sources)


def protocol_at_hand(table: Table, run: Path) -> Protocol | None:
    """The protocol of a run; None where a plug-in has it that is not here."""
    try:
        return protocol_of_run(table.protocol, run)
    except EvalkitError:
        return None


@dataclass(frozen=True)
class File:
    """The bytes of an image file and their SHA-256, or why there are none."""

    path: Path | None = None
    data: bytes = b""
    hash: str = ""
    reason: str = ""


def _read(path: Path | str) -> File:
    if isinstance(path, str):
        return File(reason=path)
    try:
        data = image_bytes(path)
    except EvalkitError as error:
        return File(reason=str(error))
    return File(path, data, hashlib.sha256(data).hexdigest())


def _fits(one: Measured, stem: str, sources: list[File], file: File) -> bool:
    """Whether the key of the scores is that of these files and of the code for the metrics that is here."""
    row = one.rows.rows.get(stem)
    known = one.record.convention == MAPS or all(full in DEFINITIONS for full in one.record.metrics)
    if row is None or not known or not sources or not all(f.data for f in [*sources, file]):
        return False
    try:
        return row.key == key_of(one.record, [source.hash for source in sources], file.hash)
    except DataError:  # a way of reading that is not known here
        return False


def _hash_of(entries: Iterable[tuple[str, ...]]) -> str:
    try:
        return combine_hashes(entries)
    except EvalkitError:  # a file that cannot be read is not the one that was
        return ""


def _shot(
    name: str,
    file: File,
    as_measured: bool,
    reading: Reading,
    shape: tuple[int, int] | None = None,
    source: bool = False,
) -> Shot:
    """The pixels that were measured of a file: in the recorded depth, a fused image without what was cut off."""
    if not file.data:
        return Shot(name, None, file.reason, source)
    if not as_measured:
        return Shot(name, None, OTHER, source)
    assert file.path is not None
    try:
        image = decode(file.data, file.path, reading.depth)
    except EvalkitError as error:
        return Shot(name, None, str(error), source)
    if shape is not None:
        image = cropped(Image(image, name), shape, reading.crop).array
    return Shot(name, image, source=source)


def _with_box(stem: str, shots: list[Shot]) -> ReportScene:
    """With the detail where the methods' images differ most; where there is one method, its image and the sources."""
    shown = [shot for shot in shots if shot.image is not None]
    if not shown:
        return ReportScene(stem, shots, None)
    size = _shape(shown[0])
    alike = [shot for shot in shown if _shape(shot) == size]
    fused = [shot.image for shot in alike if not shot.source]
    images = fused if len(fused) > 1 else [shot.image for shot in alike]
    boxes = choose_boxes([image for image in images if image is not None])
    return ReportScene(stem, shots, boxes[0] if boxes else None, size)


def _shape(shot: Shot) -> tuple[int, int]:
    assert shot.image is not None
    height, width = shot.image.shape[:2]
    return height, width
