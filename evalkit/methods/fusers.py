"""What fuses pairs: a method that is ready to run, made again in every process that it is sent to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from evalkit.data.expected import NOT_HASHED, Expected
from evalkit.data.hashes import file_hash
from evalkit.data.images import merge_colour, to_gray
from evalkit.data.pairs import ImagePair
from evalkit.errors import DataError, EvalkitError, ImageError
from evalkit.methods.classical import REVISION
from evalkit.methods.registry import METHODS, Method
from evalkit.methods.saliency.registry import SALIENCY_SYSTEMS
from evalkit.registry import PROGRAM, SHIPPED

Pixels = NDArray[np.uint8]


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
        return _elsewhere(_classical_here, self.method, self.gray, self.weights, absolute(self.files))

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
        return _elsewhere(_code_here, self.method, self.weights, absolute(self.files), self.recolour)

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


def absolute(files: Sequence[Path]) -> list[Path]:
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


_loaded: dict[tuple, Any] = {}  # of a worker: the fuser of its last unit


def kept(key: tuple, weights: Mapping[str, str], files: Sequence[Path], build: Callable[[], Any]) -> Any:
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
    return kept(key, weights, files, lambda: ClassicalFuser(method, gray, weights, files))


def _code_here(method: str, weights: dict[str, str], files: list[Path], recolour: bool) -> CodeFuser:
    key = method, revision_of(method), tuple(weights.items()), tuple(files), recolour
    return kept(key, weights, files, lambda: CodeFuser(method, weights, files, recolour))


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
