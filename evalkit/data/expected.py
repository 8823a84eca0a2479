"""Reading an image as it was hashed: the bytes that are decoded are the bytes whose hash is known."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from evalkit.data.hashes import file_hash
from evalkit.data.images import decode, image_bytes
from evalkit.errors import OtherBytesError, UnreadableError

Result = TypeVar("Result")
UNREADABLE = "unreadable"  # in place of the hash of a file that could not be read when the work was planned
WAITS = (0.05, 0.25)  # seconds before trouble that may pass is tried again
FAR_WAITS = (0.1, 0.5, 1, 2, 4)  # of a file on another machine: network folders show new files late


@dataclass(frozen=True)
class Expected:
    """The hashes that files had when the work was planned; none for files that nobody hashed.

    Attributes:
        hashes: path -> SHA-256.
        far: whether the file is read on another machine, which may see other files under the same path.
    """

    hashes: Mapping[Path, str] = field(default_factory=dict)
    far: bool = False

    def read(self, path: Path, make: Callable[[bytes], Result]) -> Result:
        """What is made of a file, e.g. by decoding it, from the bytes that were hashed; tried again where trouble may
        pass.

        Raises:
            ImageError: what `make` raises of the content itself.
            OtherBytesError: the bytes are not those that were hashed.
            UnreadableError: the file cannot be read, or memory ran out.
        """
        return patiently(lambda: make(self._bytes(path)), FAR_WAITS if self.far else WAITS)

    def image(self, path: Path) -> NDArray[np.uint8]:
        """The pixels of an image file as `decode` gives them. Raises as `read`, ImageError for a damaged image."""
        return self.read(path, lambda data: decode(data, path))

    def _bytes(self, path: Path) -> bytes:
        expected = self.hashes.get(path)
        try:
            data = image_bytes(path)
        except UnreadableError as error:
            if self.far and expected is not None and not path.exists():  # the one who planned saw it
                raise OtherBytesError(f"does not see {path}") from None
            raise error
        if expected is not None and hashlib.sha256(data).hexdigest() != expected:
            if self.far:
                raise OtherBytesError(f"sees other bytes in {path} than those that the run was planned with")
            if expected == UNREADABLE:
                raise OtherBytesError(f"{path} could not be read when the run began. Run the same command again.")
            raise OtherBytesError(f"{path} changed while the run was going on. Run the same command again.")
        return data


NOT_HASHED = Expected()  # files are taken as they are


def patiently(function: Callable[[], Result], waits: tuple[float, ...] = WAITS) -> Result:
    """The result of a function that is called again, after a wait, where trouble that may pass stops it.

    Raises:
        UnreadableError: the trouble of the last call.
    """
    for wait in waits:
        try:
            return function()
        except UnreadableError:
            time.sleep(wait)
    return function()


def hash_now(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes; UNREADABLE where they cannot be read after several tries."""
    try:
        return patiently(lambda: file_hash(path))
    except UnreadableError:
        return UNREADABLE
