"""A network with its authors' weights, or with those of a training, as what fuses pairs."""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from numpy.typing import NDArray

from evalkit.data.expected import NOT_HASHED, Expected
from evalkit.data.images import luminance, merge_colour, merge_levels, named_jpeg, through_jpeg
from evalkit.data.pairs import ImagePair
from evalkit.engine.processes import keeping_large_memory, on_threads
from evalkit.errors import DataError, EvalkitError, ImageError, is_out_of_memory
from evalkit.files.bundles import DATA
from evalkit.methods.arithmetic import FLOAT32, Arithmetic
from evalkit.methods.fusers import Pixels, absolute, choose_device, kept, read_pair, revision_of

if TYPE_CHECKING:
    from torch import Tensor

    from evalkit.methods.network import NetworkMethod

UNROUNDED = "unrounded"  # how a result got its colour, see NetworkFuser
THREADS = 1  # of a network, per image; where there is no GPU, workers take an image each
BATCH = 8  # pairs that are fused as one unit of work; of one size, a GPU takes them at once


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
            tuple(absolute(self.files)),
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
    return kept(key, dict(weights), files, lambda: NetworkFuser(*arguments))


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
