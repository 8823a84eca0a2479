"""Fusing the pairs of a data set with a method: classical code, code of a plug-in, networks on CPU or GPU."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from evalkit.data.card import load_card
from evalkit.data.expected import NOT_HASHED, Expected
from evalkit.data.hashes import file_hash
from evalkit.data.images import pixel_digest, write_png
from evalkit.data.pairs import DataRoot, ImagePair, find_pairs
from evalkit.engine.base import Engine, Local, chunks
from evalkit.engine.hashed import expected_by
from evalkit.errors import EvalkitError, OtherBytesError
from evalkit.files.bundles import with_data
from evalkit.methods.arithmetic import FLOAT32, Arithmetic
from evalkit.methods.fusers import ClassicalFuser, CodeFuser, Fuser
from evalkit.methods.network_fuser import BATCH, NetworkFuser
from evalkit.methods.registry import METHODS, Method, MethodCard, method_card

if TYPE_CHECKING:
    from evalkit.methods.network import NetworkMethod

PIXELS = "evalkit pixels"  # the text of a fused image that holds the digest of its pixels
FAR = 32  # pairs of a unit for a cluster at most, where each of its workers gets many


def missing_for(card: MethodCard, checkpoints: Path | None) -> str:
    """Why the method cannot run here by itself; empty where it can."""
    method = METHODS.get(card.name)
    if method is None or not method.runs:
        return "evalkit has no code for this method: bring its fused images with --outputs"
    if method.network is not None and importlib.util.find_spec("torch") is None:
        return "needs PyTorch: pip install 'evalkit[networks]'"
    if not card.checkpoint:
        return "" if method.build else "no weights of this network are known: bring its fused images with --outputs"
    names = " and ".join(card.checkpoint)
    lacking = [name for name in card.checkpoint if not _weights_file(method, name, checkpoints)]
    if lacking and checkpoints is None:
        return f"needs its weights {names}: give --checkpoints DIR"
    return f"its weights {' and '.join(lacking)} are not in {checkpoints} ({card.weights})" if lacking else ""


def _weights_file(method: Method, name: str, checkpoints: Path | None) -> Path | None:
    """Where a weights file of that name lies: in --checkpoints, or beside the card of a method that was added."""
    places = [folder / name for folder in (checkpoints, method.folder) if folder is not None]
    return next((path for path in places if path.is_file()), None)


def make_fuser(
    card: MethodCard,
    checkpoints: Path | None = None,
    files: Iterable[Path] | None = None,
    gray: bool = True,
    device: str = "auto",
    recolour: bool = False,
    elsewhere: str = "auto",
    trained: NetworkMethod | None = None,
    arithmetic: Arithmetic = FLOAT32,
    keep_format: bool = False,
) -> Fuser:
    """A method that is ready to run.

    Args:
        card: the method.
        checkpoints: folder that is searched for the file names on the card.
        files: the weights themselves, in the card's order, instead; of a TensorFlow checkpoint the index is enough.
        gray: for classical methods: luminance only.
        device: auto, cpu, cuda or cuda:N.
        recolour: for networks: give a gray result the chroma of the visible image.
        elsewhere: the device in a worker on another machine.
        trained: the network that evalkit trained, whose weights `files` is (`training.trained.trained_method`).
        arithmetic: how networks compute.
        keep_format: for networks whose card says how their script saves JPEGs: where the infrared image is one, the
            fused image is what its JPEG holds.

    Raises:
        EvalkitError: the method cannot run here; says what is missing.
        CheckpointError: weights that are damaged, hostile or of another network.
    """
    method = METHODS[card.name]
    paths = list(dict.fromkeys(part for path in files or () for part in with_data(path)))
    if (not paths or not method.runs) and (reason := missing_for(card, checkpoints)):
        raise EvalkitError(f"{card.name} cannot run: {reason}.")
    if card.kind == "classical" and not card.checkpoint:
        return ClassicalFuser(card.name, gray)
    if paths and trained is None and len(paths) != len(card.checkpoint):
        raise EvalkitError(f"{card.name} takes {len(card.checkpoint)} checkpoint files: {', '.join(card.checkpoint)}.")
    if not paths:
        paths = [path for name in card.checkpoint if (path := _weights_file(method, name, checkpoints))]
    hashes = {path.name: file_hash(path) for path in paths}
    if card.kind == "classical":
        return ClassicalFuser(card.name, gray, hashes, paths)
    if trained is None and method.network is None:
        return CodeFuser(card.name, hashes, paths, recolour)
    network = trained or method.network()  # type: ignore[misc]
    jpeg = card.jpeg if keep_format else ""
    return NetworkFuser(card.name, network, hashes, paths, device, recolour, elsewhere, arithmetic, jpeg)


@dataclass(frozen=True)
class FuseJob:
    """A pair, where its fused image goes, and what the image says it was made from."""

    pair: ImagePair
    path: Path
    made_from: str = ""
    expected: Expected = NOT_HASHED


def fuse_unit(fuser: Fuser, jobs: Sequence[FuseJob]) -> list[str]:
    """Fuse and write; per pair an empty text, or the reason why it cannot be fused.

    Raises:
        OutputError: an image cannot be written.
        OtherBytesError: on another machine, a file that is not there or has other bytes than those that were hashed.
    """
    reasons = []
    hashes = {path: sha for job in jobs for path, sha in job.expected.hashes.items()}
    expected = Expected(hashes, any(job.expected.far for job in jobs))
    for job, image in zip(jobs, fuser.fuse((job.pair for job in jobs), expected), strict=True):
        if isinstance(image, OtherBytesError) and job.expected.far:
            raise image
        if isinstance(image, EvalkitError):
            reasons.append(str(image))
        else:
            text = {"evalkit": job.made_from, PIXELS: pixel_digest(image)} if job.made_from else {}
            write_png(job.path, image, text)
            reasons.append("")
    return reasons


def fuse_jobs(fuser: Fuser, jobs: Sequence[FuseJob], engine: Engine) -> Iterator[tuple[FuseJob, str]]:
    """Each job, done, with `fuse_unit`'s text. Images stay where they are made: memory does not grow with the jobs.

    Args:
        fuser: the method.
        jobs: pairs, and where their fused images go.
        engine: where the work is done.
    """
    # where nothing travels and no GPU takes several at once, pair by pair: a slow network's progress is seen
    size = BATCH if engine.remote or getattr(fuser, "device", "cpu") != "cpu" else 1
    if engine.remote:  # a scheduler takes a millisecond or two per unit
        size = max(size, min(FAR, len(jobs) // (8 * engine.slots())))
    units = chunks(jobs, size)
    # a network that found no GPU here is computed by as many workers as there are
    gpu = fuser.gpu and (engine.remote or getattr(fuser, "device", "") != "cpu")
    results = engine.map(functools.partial(fuse_unit, fuser), units, gpu=gpu)
    for unit, reasons in zip(units, results, strict=True):
        yield from zip(unit, reasons, strict=True)


@dataclass
class FuseResult:
    """Where the fused images lie, how many there are, and which pairs could not be fused."""

    folder: Path
    fused: int = 0
    failures: dict[str, str] = field(default_factory=dict)


def fuse_dataset(
    method: str,
    dataset: str,
    data_root: DataRoot,
    out: Path,
    split: str | None = None,
    gray: bool = False,
    checkpoints: Path | None = None,
    files: Iterable[Path] | None = None,
    device: str = "auto",
    workers: int | None = None,
    progress: Callable[[Iterable, int, str], Iterable] = lambda items, total, text: items,
    trained: NetworkMethod | None = None,
    arithmetic: Arithmetic = FLOAT32,
    engine: Engine | None = None,
) -> FuseResult:
    """Fuse every pair of a data set into OUT/<method>/<dataset>/<stem>.png.

    Args:
        method, dataset, split: names; the data set's default split when None.
        gray: for classical methods: the fused luminance only, not merged with the chroma of the visible image.
        data_root: folder with the data set, or several.
        out: folder for the fused images, 8-bit PNG.
        checkpoints, files, device, trained, arithmetic: as in `make_fuser`.
        workers: processes, of classical methods and of networks without a GPU; None for one per processor.
        progress: wraps the pairs, called with (items, count, text).
        engine: where the work is done, instead of `workers`; the folders are absolute paths where it is remote.

    Raises:
        UnknownNameError: method, data set or split.
        DataError: the data set is not below the data root, or the weights cannot be used.
        OutputError: the output folder cannot be written.
    """
    dataset_card, card = load_card(dataset), method_card(method)
    pairs = find_pairs(dataset_card, data_root, split)
    engine = Local(workers) if engine is None else engine
    here = "cpu" if engine.remote else device
    fuser = make_fuser(card, checkpoints, files, gray, here, elsewhere=device, trained=trained, arithmetic=arithmetic)
    result = FuseResult(out / card.name / dataset_card.name)
    result.failures |= {stem: f"no {role} image" for role, stem in pairs.unpaired}
    sources = [(pair.infrared, pair.visible) for pair in pairs.pairs]
    jobs = [
        FuseJob(pair, result.folder / f"{pair.stem}.png", expected=expected)
        for pair, expected in zip(pairs.pairs, expected_by(engine, sources), strict=True)
    ]
    fused = fuse_jobs(fuser, jobs, engine)
    for job, reason in progress(fused, len(jobs), f"fuse {dataset_card.name} with {card.name}"):
        if reason:
            result.failures[job.pair.stem] = reason
        else:
            result.fused += 1
    return result
