"""Salient-object systems that are ready to run: classical ones, and networks with their published weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from evalkit.data.expected import NOT_HASHED, Expected
from evalkit.data.hashes import file_hash
from evalkit.data.pairs import ImagePair
from evalkit.errors import DataError, EvalkitError, ImageError
from evalkit.methods.fusers import Fuser, Pixels, choose_device, read_pair, revision_of
from evalkit.methods.network_fuser import NetworkFuser
from evalkit.methods.saliency.registry import SALIENCY_SYSTEMS, SaliencySystem
from evalkit.registry import PROGRAM


@dataclass
class FunctionRunner:
    """A system that is a function: its maps, one pair after the other, as a `Fuser` gives fused images.

    Pickled, it is the system's name, with the system itself where only this program has it.
    """

    method: str
    weights: dict[str, str] = field(default_factory=dict, init=False)
    gpu: bool = field(default=False, init=False)

    def __reduce__(self) -> tuple:
        own = SALIENCY_SYSTEMS[self.method] if SALIENCY_SYSTEMS.origin(self.method) is PROGRAM else None
        return _runner, (self.method, own)

    @property
    def identity(self) -> str:
        return f"{self.method}, {revision_of(self.method)}"

    def fuse(self, pairs: Iterable[ImagePair], expected: Expected = NOT_HASHED) -> Iterator[Pixels | EvalkitError]:
        return (self._map_or_error(pair, expected) for pair in pairs)

    def _map_or_error(self, pair: ImagePair, expected: Expected) -> Pixels | EvalkitError:
        function = SALIENCY_SYSTEMS[self.method].function
        assert function is not None
        try:
            infrared, visible = read_pair(pair, expected)
        except DataError as error:
            return error
        try:
            made = function(infrared, visible)
        except Exception as error:  # it may be a stranger's: whatever it is, it gave no map of this pair
            return ImageError(f"{self.method} failed with {type(error).__name__}: {error}")
        if not isinstance(made, np.ndarray) or made.dtype != np.uint8 or made.shape != infrared.shape[:2]:
            about = f"{made.dtype} {made.shape}" if isinstance(made, np.ndarray) else type(made).__name__
            return ImageError(f"{self.method} gave {about}, expected uint8 (H, W) of the size of its sources")
        return made


def _runner(method: str, own: SaliencySystem | None) -> FunctionRunner:
    if own is not None and (method not in SALIENCY_SYSTEMS or SALIENCY_SYSTEMS.origin(method) is PROGRAM):
        SALIENCY_SYSTEMS.add(method, own)
    return FunctionRunner(method)


def make_runner(method: str, checkpoints: Path | None, device: str = "auto", elsewhere: str = "auto") -> Fuser:
    """A system that is ready to make maps.

    Args:
        method: the exact name of a registered system that misses nothing (`SaliencySystem.missing`).
        checkpoints: folder with its published weights.
        device: auto, cpu, cuda or cuda:N.
        elsewhere: the device in a worker on another machine.

    Raises:
        CheckpointError: weights that are damaged, hostile or of another network.
    """
    system = SALIENCY_SYSTEMS[method]
    if system.function is not None:
        return FunctionRunner(method)
    assert system.network is not None
    files = system.weights_files(checkpoints)
    hashes = {file.name: file_hash(file) for file in files}
    return NetworkFuser(method, system.network(), hashes, files, choose_device(device), False, elsewhere)
