"""A reader of TensorFlow's checkpoints ("bundles") that needs no TensorFlow: two files, and nothing in them is run.

`PREFIX.index` is a LevelDB table of names and descriptions, `PREFIX.data-00000-of-00001` the bytes of the tensors. Both
are taken for hostile: a length is used after it was compared with the bytes that are there, each block and each tensor
must have its checksum, and tensors lie in the data side by side, so that together they are no larger than the file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evalkit.files.pickles import KindError

INDEX, DATA = ".index", ".data-00000-of-00001"  # what the names of the two files end with
MAGIC = b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"  # the end of an index
FOOTER = 48  # bytes: where two blocks lie, filling, MAGIC
TRAILER = 5  # bytes behind a block: how it is compressed, checksum
MAX_INDEX = 64 * 2**20  # bytes
MAX_TENSORS = 100_000
MAX_NAME = 2000  # bytes; names share their beginnings, so a short file could hold very many very long ones
DTYPES: dict[int, np.dtype[Any]] = {1: np.dtype("<f4"), 2: np.dtype("<f8"), 3: np.dtype("<i4"), 9: np.dtype("<i8")}

_PIECE = 2**20  # bytes that a checksum takes at once
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # how a field of a protocol buffer is stored


class _Entry(NamedTuple):
    """A tensor as the index describes it."""

    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int
    size: int  # bytes
    checksum: int


def read_bundle(index: bytes, data: bytes) -> dict[str, NDArray]:
    """The tensors of a bundle of one data file.

    Args:
        index: the bytes of `PREFIX.index`.
        data: the bytes of `PREFIX.data-00000-of-00001`.

    Returns:
        Name -> values, float32, float64, int32 or int64, of the stored shape (a convolution's kernel is height, width,
        in, out); views of `data` that cannot be written to. In the order of the names' bytes.

    Raises:
        KindError: compressed blocks, several data files, big-endian values, other types, or tensors in slices.
        ValueError: what does not fit together, a wrong checksum, or beyond a limit.
    """
    if len(index) > MAX_INDEX:
        raise ValueError(f"its index has {len(index)} bytes")
    entries: dict[str, _Entry] = {}
    has_header = False
    for key, value in _table(index):
        if not key:
            _check_header(value)
            has_header = True
        elif not has_header:
            raise ValueError("its index has no header")
        else:
            entries[key.decode("utf-8")] = _entry(key, value)
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].offset, item[1].size)):
        if entry.offset < end:
            raise ValueError(f"its tensor {name[:60]!r} overlaps another one")
        end = entry.offset + entry.size
        if end > len(data):
            raise ValueError(f"its tensor {name[:60]!r} ends at byte {end} of {len(data)}")
    tensors = {}
    for name, entry in entries.items():
        content = memoryview(data)[entry.offset : entry.offset + entry.size]
        if masked(crc32c(content)) != entry.checksum:
            raise ValueError(f"the checksum of its tensor {name[:60]!r} is wrong")
        tensors[name] = np.frombuffer(content, entry.dtype).reshape(entry.shape)
    return tensors


def with_data(path: Path) -> tuple[Path, ...]:
    """A file, and where it is the index of a bundle the data beside it."""
    return (path, path.with_name(path.name.removesuffix(INDEX) + DATA)) if path.name.endswith(INDEX) else (path,)


# --- the table


def _table(index: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a LevelDB table, in order."""
    if len(index) < FOOTER or not index.endswith(MAGIC):
        raise ValueError("its index does not end as one")
    start = len(index) - FOOTER
    handles = index[start : -len(MAGIC)]
    position = 0
    blocks = []
    for _ in range(2):
        offset, position = _varint(handles, position)
        size, position = _varint(handles, position)
        blocks.append(_block(index[:start], offset, size))
    if any(handles[position:]):
        raise ValueError("its index does not end as one")
    last, count, end = None, 0, 0
    for _, handle in _items(blocks[1]):
        offset, position = _varint(handle, 0)
        size, position = _varint(handle, position)
        if position != len(handle) or offset < end:
            raise ValueError("the blocks of its index do not lie one behind the other")
        end = offset + size
        for key, value in _items(_block(index[:start], offset, size)):
            count += 1
            if (last is not None and key <= last) or count > MAX_TENSORS:
                raise ValueError(
                    "the names in its index are not in order" if count <= MAX_TENSORS else "too many names"
                )
            last = key
            yield key, value


def _block(index: bytes, offset: int, size: int) -> bytes:
    """The content of a block, whose checksum is right."""
    end = offset + size
    if end + TRAILER > len(index):
        raise ValueError(f"a block of its index ends at byte {end} of {len(index)}")
    if masked(crc32c(memoryview(index)[offset : end + 1])) != int.from_bytes(index[end + 1 : end + TRAILER], "little"):
        raise ValueError("the checksum of a block of its index is wrong")
    if index[end]:
        raise KindError("a TensorFlow checkpoint with a compressed index, which evalkit does not read.")
    return index[offset:end]


def _items(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a block: each key is stored as what differs from the key before it."""
    restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 * (restarts + 1)
    if len(block) < 4 or end < 0:
        raise ValueError(f"a block of its index claims {restarts} places to start from")
    position, key = 0, b""
    while position < end:
        shared, position = _varint(block, position)
        own, position = _varint(block, position)
        length, position = _varint(block, position)
        middle = position + own
        if shared > len(key) or middle + length > end:
            raise ValueError("an entry of its index is longer than its block")
        if shared + own > MAX_NAME:
            raise ValueError(f"a name in its index has {shared + own} bytes")
        key = key[:shared] + block[position:middle]
        position = middle + length
        yield key, block[middle:position]


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """A number of up to 63 bits, seven in each byte, and the position behind it."""
    value = 0
    for shift in range(0, 63, 7):
        if position >= len(data):
            raise ValueError("its index ends within a number")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("a number in its index has more than 63 bits")


# --- the protocol buffers in it


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field: an integer, or bytes."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        kind = tag & 7
        if kind == _VARINT:
            value, position = _varint(message, position)
            yield tag >> 3, value
            continue
        if kind == _BYTES:
            length, position = _varint(message, position)
        elif kind in (_FIXED32, _FIXED64):
            length = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError("a description in its index is of an unknown form")
        content = message[position : position + length]
        if len(content) != length:
            raise ValueError("a description in its index is cut")
        position += length
        yield tag >> 3, content if kind == _BYTES else int.from_bytes(content, "little")


def _check_header(value: bytes) -> None:
    fields = dict(_fields(value))
    if fields.get(1) != 1:
        raise KindError("a TensorFlow checkpoint of several data files, which evalkit does not read.")
    if fields.get(2, 0) != 0:
        raise KindError("a TensorFlow checkpoint whose values are big-endian, which evalkit does not read.")


def _entry(key: bytes, value: bytes) -> _Entry:
    name = key.decode("utf-8")[:60]
    shape: list[int] = []
    numbers = {}
    for number, content in _fields(value):
        if number == 2 and isinstance(content, bytes):
            for part, dimension in _fields(content):
                if part == 2 and isinstance(dimension, bytes):
                    shape.append(_whole(dict(_fields(dimension)).get(1, 0), name))
                else:
                    raise ValueError(f"the shape of its tensor {name!r} is not known")
        elif number == 7:
            raise KindError(f"a TensorFlow checkpoint with the tensor {name!r} in slices, which evalkit does not read.")
        elif number in (1, 3, 4, 5, 6):
            numbers[number] = _whole(content, name)
    if numbers.get(3, 0) != 0:
        raise ValueError(f"its tensor {name!r} lies in another data file")
    dtype = DTYPES.get(numbers.get(1, 0))
    if dtype is None:
        raise KindError(
            f"a TensorFlow checkpoint whose tensor {name!r} is of type {numbers.get(1, 0)}; evalkit reads float32, "
            "float64, int32 and int64."
        )
    size = numbers.get(5, 0)
    if len(shape) > 16 or math.prod(shape) * dtype.itemsize != size or max(shape, default=0) >= 2**48:
        raise ValueError(f"its tensor {name!r} of shape {tuple(shape[:16])} has {size} bytes")
    return _Entry(dtype, tuple(shape), numbers.get(4, 0), size, numbers.get(6, 0))


def _whole(value: int | bytes, name: str) -> int:
    if not isinstance(value, int):
        raise ValueError(f"its tensor {name!r} is described in an unknown way")
    return value


# --- checksums


def _first_tables() -> NDArray[np.uint32]:
    """(4, 256): what each byte of a checksum becomes when a zero byte follows, polynomial 0x1EDC6F41 reflected."""
    values = np.arange(256, dtype=np.uint32)
    low = values
    for _ in range(8):
        low = ((low >> 1) ^ (low & 1) * 0x82F63B78).astype(np.uint32)
    return np.stack((low, values, values << 8, values << 16))


def _advanced(tables: NDArray[np.uint32], values: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Checksums after the zero bytes that these tables stand for."""
    return (
        tables[0][values & 255] ^ tables[1][values >> 8 & 255] ^ tables[2][values >> 16 & 255] ^ tables[3][values >> 24]
    )


def _doubled(tables: NDArray[np.uint32], times: int) -> list[NDArray[np.uint32]]:
    """Tables of 1, 2, 4, ... times as many zero bytes."""
    every = [tables]
    for _ in range(times):
        every.append(_advanced(every[-1], every[-1]))
    return every


_TABLES = _doubled(_first_tables(), _PIECE.bit_length())


def crc32c(data: bytes | memoryview) -> int:
    """The CRC-32C (Castagnoli) of RFC 3720, section 12.1, computed on whole arrays.

    A checksum is linear: that of two parts is the first, advanced by as many zero bytes as the second has, plus the
    second. So bytes are joined to pairs, pairs to fours, and so on.

    Args:
        data: any number of bytes.

    Returns:
        32 bits.
    """
    total = np.array([0xFFFFFFFF], np.uint32)
    for start in range(0, len(data), _PIECE):
        piece = np.frombuffer(data[start : start + _PIECE], np.uint8)
        for power, tables in enumerate(_TABLES):
            if len(piece) >> power & 1:
                total = _advanced(tables, total)
        sums = _TABLES[0][0][piece]
        for tables in _TABLES:
            if len(sums) == 1:
                break
            if len(sums) % 2:  # zeros in front change nothing
                sums = np.concatenate((np.zeros(1, np.uint32), sums))
            sums = _advanced(tables, sums[0::2]) ^ sums[1::2]
        total = total ^ sums
    return int(total[0]) ^ 0xFFFFFFFF


def masked(checksum: int) -> int:
    """A checksum as LevelDB and TensorFlow store it, so that it may itself be part of what is summed."""
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF
