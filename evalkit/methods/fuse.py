"""Fusing pairs with a method: classical code on threads, networks with their authors' weights on CPU or GPU."""

from __future__ import annotations

import functools
import importlib.util
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from evalkit.data.card import load_card
from evalkit.data.expected import NOT_HASHED, Expected
from evalkit.data.hashes import file_hash
from evalkit.data.images import (
    luminance,
    merge_colour,
    merge_levels,
    named_jpeg,
    pixel_digest,
    through_jpeg,
    to_gray,
    write_png,
)
from evalkit.data.pairs import DataRoot, ImagePair, find_pairs
from evalkit.engine.base import Engine, Local, chunks
from evalkit.engine.hashed import expected_by
from evalkit.engine.processes import keeping_large_memory, on_threads
from evalkit.errors import DataError, EvalkitError, ImageError, OtherBytesError, is_out_of_memory
from evalkit.files.bundles import DATA, with_data
from evalkit.methods.arithmetic import FLOAT32, Arithmetic
from evalkit.methods.classical import REVISION
from evalkit.methods.registry import METHODS, Method, MethodCard, method_card
from evalkit.methods.saliency.registry import SALIENCY_SYSTEMS
from evalkit.registry import PROGRAM, SHIPPED

if TYPE_CHECKING:
    from torch import Tensor

    from evalkit.methods.network import NetworkMethod

Pixels = NDArray[np.uint8]
UNROUNDED = "unrounded"  # how a result got its colour, see NetworkFuser
PIXELS = "evalkit pixels"  # the text of a fused image that holds the digest of its pixels
THREADS = 1  # of a network, per image; where there is no GPU, workers take an image each
BATCH = 8  # pairs that are fused as one unit of work; of one size, a GPU takes them at once
FAR = 32  # pairs of a unit for a cluster at most, where each of its workers gets many


class Fuser(Protocol):
    """A method that is ready to run."""

    weights: dict[str, str]  # checkpoint file -> SHA-256
    gpu: bool  # uses a GPU where there is one

    @property
    def identity(self) -> str:
        """What its fused images depend on besides the pair: code, weights, colour."""

    def fuse(self, pairs: Iterable[ImagePair], expected: Expected = NOT_HASHED) -> Iterator[Pixels | EvalkitError]:
        """The fused image of every pair, in order; the error where a pair cannot be fused."""


@dataclass
class ClassicalFuser:
    """A classical method on the luminance; with the chroma of the visible image unless `gray`.

    Pickled, it is its name and the files it needs, if any: another process builds it again.
    """

    method: str
    gray: bool = True
    weights: dict[str, str] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)
    gpu: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.function = _built(self.method, self.files)

    def __reduce__(self) -> tuple:
        return _elsewhere(_classical_here, self.method, self.gray, self.weights, _absolute(self.files))

    @property
    def recolour(self) -> bool:
        return not self.gray

    @property
    def identity(self) -> str:
        parts = [self.method, f"rules {revision_of(self.method)}", "gray" if self.gray else "colour"]
        return ", ".join([*parts, *self.weights.values()])

    def fuse(self, pairs: Iterable[ImagePair], expected: Expected = NOT_HASHED) -> Iterator[Pixels | EvalkitError]:
        return (self._fuse_or_error(pair, expected) for pair in pairs)

    def _fuse_or_error(self, pair: ImagePair, expected: Expected) -> Pixels | EvalkitError:
        try:
            infrared, visible = read_pair(pair, expected)
            fused = _checked(self.function, self.method, to_gray(infrared), to_gray(visible))
            return fused if self.gray else merge_colour(fused, visible)
        except DataError as error:
            return error


def _built(name: str, files: Sequence[Path]) -> Callable[[Pixels, Pixels], Pixels]:
    """The function of a method that has no network, with its files. Raises DataError where it cannot be built."""
    build = METHODS[name].build
    assert build is not None
    try:
        return build(*files) if files else build(None)
    except EvalkitError:
        raise
    except Exception as error:  # a stranger's code
        raise DataError(f"{name} cannot be built ({type(error).__name__}: {error}).") from error


def revision_of(method: str) -> object:
    """Of a method's code: evalkit's own number, or the hash of the plug-in; images of another one are made again."""
    for registry in (METHODS, SALIENCY_SYSTEMS):
        if method in registry:
            return registry.origin(method).revision or REVISION
    return REVISION


def _checked(function: Callable[[Pixels, Pixels], Pixels], name: str, infrared: Pixels, visible: Pixels) -> Pixels:
    """The fused image of a method that may be a stranger's. Raises ImageError where it is not one, or fails."""
    if METHODS.origin(name) is SHIPPED:
        return function(infrared, visible)
    try:
        fused = function(infrared, visible)
    except Exception as error:  # whatever it is: the method gave no image of this pair
        raise ImageError(f"{name} failed with {type(error).__name__}: {error}") from error
    if not isinstance(fused, np.ndarray) or fused.dtype != np.uint8 or fused.shape[:2] != infrared.shape[:2]:
        about = f"{fused.dtype} {fused.shape}" if isinstance(fused, np.ndarray) else type(fused).__name__
        raise ImageError(f"{name} gave {about}, expected uint8 (H, W) or (H, W, 3) of the size of its sources")
    return fused


def _absolute(files: Sequence[Path]) -> list[Path]:
    """Where the files are for another process, which may stand in another folder when it reads them."""
    return [path.absolute() for path in files]


def _elsewhere(fuser: Callable[..., Fuser], method: str, *arguments: object) -> tuple:
    """How a fuser is pickled: by its method's name, and with the method where only this program has it."""
    own = METHODS[method] if METHODS.origin(method) is PROGRAM else None
    return _make, (fuser, method, own, arguments)


def _make(fuser: Callable[..., Fuser], name: str, method: Method | None, arguments: tuple) -> Fuser:
    if method is not None and (name not in METHODS or METHODS.origin(name) is PROGRAM):
        METHODS.add(name, method)
    return fuser(name, *arguments)


@dataclass
class CodeFuser:
    """A method that was added with its own code for weights: one pair after the other.

    Pickled, it is its name and its files: another process loads the same plug-in and builds it again.
    """

    method: str
    weights: dict[str, str]
    files: list[Path]
    recolour: bool = False
    gpu: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        self.function = _built(self.method, self.files)

    def __reduce__(self) -> tuple:
        return _elsewhere(_code_here, self.method, self.weights, _absolute(self.files), self.recolour)

    @property
    def identity(self) -> str:
        parts = [self.method, str(revision_of(self.method)), *self.weights.values()]
        return ", ".join(parts + ["recoloured"] * self.recolour)

    def fuse(self, pairs: Iterable[ImagePair], expected: Expected = NOT_HASHED) -> Iterator[Pixels | EvalkitError]:
        return (self._fuse_or_error(pair, expected) for pair in pairs)

    def _fuse_or_error(self, pair: ImagePair, expected: Expected) -> Pixels | EvalkitError:
        try:
            infrared, visible = read_pair(pair, expected)
            fused = _checked(self.function, self.method, infrared, visible)
            return merge_colour(fused, visible) if self.recolour and fused.ndim == 2 else fused
        except DataError as error:
            return error


@dataclass
class NetworkFuser:
    """A network with loaded weights. Its method decides what becomes of colour, unless `recolour` says otherwise.

    Recoloured, a network of gray images whose method has `levels` is given the luminance of a colour image without
    rounding, and its result is rounded once, with its colour: so SMFNet's rows of DIDFuse and DenseFuse come out.

    With `jpeg` the result of a pair whose infrared image is a JPEG is what its JPEG holds, by the program and with the
    quality of the authors' script, which saves under that image's name: so S4Fusion's rows on RoadScene come out.

    Pickled, it is its files' names: another process loads them again, on `elsewhere`. An image is computed on THREADS
    threads of a processor wherever that is, so that its pixels do not depend on how many workers there are.
    """

    method: str
    network_method: NetworkMethod
    weights: dict[str, str]
    files: list[Path]
    device: str = "auto"
    recolour: bool = False
    elsewhere: str = "auto"
    arithmetic: Arithmetic = FLOAT32
    jpeg: str = ""
    gpu: bool = field(default=True, init=False)
    most: int = field(default=BATCH, init=False)  # pairs that the memory held at once, as far as is known
    said: set[str] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        from evalkit.methods.checkpoints import load_strictly, read_checkpoint  # needs torch

        files = [path for path in self.files if not path.name.endswith(DATA)]  # which is read with its index
        contents = [read_checkpoint(path) for path in files]
        self.network = self.network_method.build()
        assert self.network_method.convert is not None
        state = self.network_method.convert(*itertools.chain(*zip(contents, files, strict=True)))
        load_strictly(self.network, state, ", ".join(map(str, self.files)))
        self.device = choose_device(self.device)
        self.arithmetic.check(self.device)
        self.network = self.network_method.placed(self.network, self.device, self.arithmetic).eval()

    def __reduce__(self) -> tuple:
        return _network_here, (
            self.method,
            self.network_method,
            tuple(self.weights.items()),
            tuple(_absolute(self.files)),
            self.elsewhere,
            self.recolour,
            self.arithmetic,
            self.jpeg,
        )

    @property
    def identity(self) -> str:
        parts = [self.method, str(revision_of(self.method)), *self.weights.values()]
        recoloured = f"recoloured {self.recoloured}" if self.unrounded else "recoloured" if self.recolour else ""
        revision = f"revision {self.network_method.revision}" if self.network_method.revision else ""
        saved = f"JPEG by {self.jpeg}" if self.jpeg else ""
        return ", ".join([*parts, *filter(None, (revision, recoloured, self.arithmetic.name, saved))])

    @property
    def unrounded(self) -> bool:
        """Whether a colour image's luminance passes the network as floats."""
        return self.recolour and self.network_method.levels is not None

    @property
    def recoloured(self) -> bool | str:
        """What a record says of it."""
        return UNROUNDED if self.unrounded else self.recolour

    def fuse(self, pairs: Iterable[ImagePair], expected: Expected = NOT_HASHED) -> Iterator[Pixels | EvalkitError]:
        pairs = list(pairs)
        for pair, fused in zip(pairs, self._fuse(pairs, expected), strict=True):
            if self.jpeg and named_jpeg(pair.infrared) and not isinstance(fused, EvalkitError):
                fused = through_jpeg(fused, self.jpeg)
            yield fused

    def _fuse(self, pairs: Sequence[ImagePair], expected: Expected) -> Iterator[Pixels | EvalkitError]:
        import torch  # optional, and slow to import: classical methods do without

        before = torch.get_num_threads()
        torch.set_num_threads(THREADS)  # sums in another order are other last digits
        try:
            # read ahead on threads while the network works
            loaded = on_threads(functools.partial(_load_or_error, expected=expected), pairs, 2)
            size = BATCH if self.device != "cpu" else 1
            with keeping_large_memory() as give_back:
                for _, groups in itertools.groupby(_groups(loaded, size), key=lambda group: _shapes(group[0])):
                    give_back()
                    for group in groups:
                        yield from self._fuse_group(group)
        finally:
            torch.set_num_threads(before)

    def _fuse_group(self, group: list[tuple[Pixels, Pixels] | EvalkitError]) -> Iterator[Pixels | EvalkitError]:
        if isinstance(group[0], EvalkitError):
            yield from group  # type: ignore[misc]
            return
        size = self.most  # which may fall while the loop runs
        if len(group) > size:
            for start in range(0, len(group), size):
                yield from self._fuse_group(group[start : start + size])
            return
        failure, memory_ran_out = self._attempt(group)
        if not isinstance(failure, EvalkitError):
            for output, images in zip(failure, group, strict=True):
                yield self._finished(*output, *images)  # type: ignore[misc]
        elif len(group) == 1:
            yield self._fuse_in_parts(*group[0], failure) if memory_ran_out else failure
        elif memory_ran_out:
            self.most = (len(group) + 1) // 2
            self._say(f"the memory does not hold {len(group)} pairs at once: {self.most} are fused at a time")
            yield from self._fuse_group(group)
        else:  # one pair is not to blame for another
            for images in group:
                yield from self._fuse_group([images])

    def _attempt(self, group: list) -> tuple[list[tuple[Tensor, bool]] | EvalkitError, bool]:
        """The outputs or why there are none, and whether memory ran out. What was computed is gone on return."""
        try:
            given = [self._given(*images) for images in group]
            return list(self.network_method.run(self.network, given, self.device, self.arithmetic)), False
        except EvalkitError as error:
            return error, False
        except (RuntimeError, MemoryError) as error:  # also an image smaller than a layer's padding
            first = (str(error) or "out of memory").splitlines()[0]
            return ImageError(f"{self.method} cannot fuse this pair: {first}"), is_out_of_memory(error)

    def _given(self, infrared: Pixels, visible: Pixels) -> tuple[Pixels, NDArray]:
        """What the method prepares of a pair."""
        return infrared, luminance(visible) if self.unrounded and visible.ndim == 3 else visible

    def _fuse_in_parts(self, infrared: Pixels, visible: Pixels, failure: EvalkitError) -> Pixels | EvalkitError:
        """A pair that is too large for the memory, where a fused pixel depends on its surroundings alone."""
        size = f"{infrared.shape[1]}x{infrared.shape[0]}"
        if self.network_method.reach is None:
            return ImageError(
                f"{failure}. {size} is too large for the memory, and {self.method} looks at the whole image at once, "
                "so it is not fused in parts"
            )
        try:
            output, parts = self.network_method.run_in_parts(
                self.network, self._given(infrared, visible), self.device, self.arithmetic
            )
        except (RuntimeError, MemoryError) as error:
            return ImageError(f"{failure}, nor in parts: {(str(error) or 'out of memory').splitlines()[0]}")
        self._say(f"the memory does not hold a pair of {size}: it is fused in {parts} parts that overlap")
        return self._finished(*output, infrared, visible)

    def _say(self, sentence: str) -> None:
        """Once per sentence, however many images it is true of."""
        if sentence not in self.said:
            self.said.add(sentence)
            logging.getLogger("evalkit").warning("%s: %s.", self.method, sentence)

    def _finished(self, output: Tensor, finite: bool, infrared: Pixels, visible: Pixels) -> Pixels | EvalkitError:
        if not finite:
            return ImageError(f"{self.method} gave NaN or infinity for this pair")
        try:
            levels = self.network_method.levels
            if levels is not None and self.unrounded and visible.ndim == 3:
                return merge_levels(levels(output), visible)
            fused = self.network_method.finish(output, infrared, visible)
            return merge_colour(fused, visible) if self.recolour and fused.ndim == 2 else fused
        except EvalkitError as error:
            return error


_loaded: dict[tuple, Any] = {}  # of a worker: the fuser of its last unit


def _kept(key: tuple, weights: Mapping[str, str], files: Sequence[Path], build: Callable[[], Any]) -> Any:
    """The fuser, built once per process. Raises DataError where a file of weights has changed meanwhile."""
    if key not in _loaded:
        if [file_hash(path) for path in files] != list(weights.values()):
            raise DataError(f"the weights of {key[0]} changed while the run was going on, or are other ones here.")
        fuser = build()
        _loaded.clear()
        _loaded[key] = fuser
    return _loaded[key]


def _classical_here(method: str, gray: bool, weights: dict[str, str], files: list[Path]) -> ClassicalFuser:
    key = method, revision_of(method), gray, tuple(weights.items()), tuple(files)
    return _kept(key, weights, files, lambda: ClassicalFuser(method, gray, weights, files))


def _code_here(method: str, weights: dict[str, str], files: list[Path], recolour: bool) -> CodeFuser:
    key = method, revision_of(method), tuple(weights.items()), tuple(files), recolour
    return _kept(key, weights, files, lambda: CodeFuser(method, weights, files, recolour))


def _network_here(
    method: str,
    network_method: NetworkMethod,
    weights: tuple[tuple[str, str], ...],
    files: tuple[Path, ...],
    device: str,
    recolour: bool,
    arithmetic: Arithmetic,
    jpeg: str,
) -> NetworkFuser:
    key = method, weights, files, device, recolour, arithmetic, jpeg  # network_method is new after each journey
    arguments = method, network_method, dict(weights), list(files), device, recolour, device, arithmetic, jpeg
    return _kept(key, dict(weights), files, lambda: NetworkFuser(*arguments))


def _groups(loaded: Iterable, size: int) -> Iterator[list]:
    """Neighbours of one shape, at most `size` together; errors stand alone."""

    for _, neighbours in itertools.groupby(loaded, key=_shapes):
        while group := list(itertools.islice(neighbours, size)):
            yield group


def _shapes(item: tuple[Pixels, Pixels] | EvalkitError) -> object:
    return object() if isinstance(item, EvalkitError) else tuple(image.shape for image in item)


def _load_or_error(pair: ImagePair, expected: Expected) -> tuple[Pixels, Pixels] | EvalkitError:
    try:
        return read_pair(pair, expected)
    except DataError as error:
        return error


def read_pair(pair: ImagePair, expected: Expected = NOT_HASHED) -> tuple[Pixels, Pixels]:
    """Both images as stored, and as they were hashed.

    Raises:
        ImageError: an image that is damaged, or two sizes.
        UnreadableError: an image that cannot be read, or has other bytes than those that were hashed.
    """
    infrared, visible = expected.image(pair.infrared), expected.image(pair.visible)
    if infrared.shape[:2] != visible.shape[:2]:
        sizes = [f"{image.shape[1]}x{image.shape[0]}" for image in (infrared, visible)]
        raise ImageError(f"infrared is {sizes[0]}, visible is {sizes[1]}: a pair must be registered and of one size.")
    return infrared, visible


def choose_device(device: str) -> str:
    """`auto` is a GPU where PyTorch sees one, `torch` the processor. Raises EvalkitError for what is not there."""
    # PyTorch: optional, and slow to import; classical methods do without
    from evalkit.metrics.torch import device as devices

    return devices.choose_device(device)


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
