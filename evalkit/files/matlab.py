"""Matrices of numbers from MATLAB's MAT-files of version 5 to 7, read within limits; nothing else in them is read."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from evalkit.errors import DataError
from evalkit.files.read import read_file

MAX_FILE, MAX_INFLATED = 2**24, 2**26  # bytes
MATRIX, COMPRESSED = 14, 15  # types of elements
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}  # by type
CLASSES = range(6, 16)  # of arrays that hold plain numbers: double, single and integers
COMPLEX = 0x0800  # flag


def read_matrices(path: str | os.PathLike[str]) -> dict[str, NDArray[np.float64]]:
    """Name -> matrix of float64 of every two-dimensional real matrix in the file; others are left out.

    Raises:
        DataError: the file cannot be read, is not a MAT-file of version 5 to 7, or is damaged.
    """
    data = read_file(path, MAX_FILE)
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if order is None or not data.startswith(b"MATLAB 5.0"):
        raise DataError(f"{path} is not a MAT-file of version 5 to 7. Save it with MATLAB's save(..., '-v7').")
    try:
        matrices = {}
        for kind, content in _elements(data[128:], order):
            if kind == COMPRESSED:
                inner = _inflated(content)
                kind, content = next(_elements(inner, order))
            if kind == MATRIX and (matrix := _matrix(content, order)) is not None:
                matrices[matrix[0]] = matrix[1]
        return matrices
    except (ValueError, struct.error, zlib.error, StopIteration, UnicodeDecodeError) as error:
        raise DataError(f"{path} is a damaged MAT-file: {error or 'it ends too early'}. Get it again.") from None


def _inflated(content: bytes) -> bytes:
    stream = zlib.decompressobj()
    inner = stream.decompress(content, MAX_INFLATED)
    if stream.unconsumed_tail:
        raise ValueError(f"an element has more than {MAX_INFLATED} bytes")
    return inner


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Type and content of each element, which begin at multiples of eight bytes; small ones lie in their own tag."""
    place = 0
    while place + 8 <= len(data):
        kind, size = struct.unpack(f"{order}II", data[place : place + 8])
        if kind >> 16:
            kind, size = kind & 0xFFFF, kind >> 16
            start, following = place + 4, place + 8
        else:
            start = place + 8
            following = start + size + (-size % 8 if kind != COMPRESSED else 0)
        if start + size > len(data) or (size > 4 and start == place + 4):
            raise ValueError("it ends too early")
        yield kind, data[start : start + size]
        place = following


def _matrix(content: bytes, order: str) -> tuple[str, NDArray[np.float64]] | None:
    parts = _elements(content, order)
    (_, flags), (_, shape) = next(parts), next(parts)
    (word,) = struct.unpack(f"{order}I", flags[:4])
    if word & 0xFF not in CLASSES or word & COMPLEX or len(shape) != 8:
        return None
    (_, name), (kind, numbers) = next(parts), next(parts)
    rows, columns = struct.unpack(f"{order}ii", shape)
    if kind not in NUMBERS:
        raise ValueError(f"numbers of the type {kind}")
    values = np.frombuffer(numbers, np.dtype(order + NUMBERS[kind]))
    if min(rows, columns) < 0 or values.size != rows * columns:
        raise ValueError(f"{values.size} numbers for {rows} x {columns}")
    return name.decode("ascii"), values.reshape(rows, columns, order="F").astype(np.float64)
