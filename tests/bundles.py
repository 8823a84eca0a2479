"""A writer of TensorFlow's bundles, from the facts of the format, that can also write wrong ones."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

MAGIC = b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"
TYPES = {"float32": 1, "float64": 2, "int32": 3, "int64": 9, "float16": 19, "uint8": 4}


def _table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


CRC = _table()


def masked_crc(data: bytes) -> int:
    """One byte after the other."""
    value = 0xFFFFFFFF
    for byte in data:
        value = CRC[(value ^ byte) & 255] ^ value >> 8
    value ^= 0xFFFFFFFF
    return ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    return varint(number << 3) + varint(value)


def header(shards: int = 1, endian: int = 0) -> bytes:
    return field(1, shards) + (field(2, endian) if endian else b"") + field(3, field(1, 1))


def entry(array: np.ndarray, place: int, **changes: Any) -> bytes:
    """A description; `changes` replace what is true: dtype, shape, shard, offset, size, crc, more."""
    array = np.asarray(array)
    about = {
        "dtype": TYPES[array.dtype.name],
        "shape": array.shape,
        "shard": 0,
        "offset": place,
        "size": array.nbytes,
        "crc": masked_crc(array.tobytes()),
        "more": b"",
    } | changes
    shape = b"".join(field(2, field(1, n)) for n in about["shape"])
    text = field(1, about["dtype"]) + field(2, shape)
    for number, key in ((3, "shard"), (4, "offset"), (5, "size")):
        text += field(number, about[key]) if about[key] else b""
    return text + varint(6 << 3 | 5) + struct.pack("<I", about["crc"]) + about["more"]


def block(items: Iterable[tuple[bytes, bytes]], interval: int = 16) -> bytes:
    """A block without its trailer; every `interval`th key is stored whole."""
    out, restarts, last = bytearray(), [], b""
    for i, (key, value) in enumerate(items):
        shared = 0
        if i % interval == 0:
            restarts.append(len(out))
        else:
            while shared < min(len(key), len(last)) and key[shared] == last[shared]:
                shared += 1
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    restarts = restarts or [0]
    return bytes(out) + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))


def table(
    blocks: list[list[tuple[bytes, bytes]]], compression: int = 0, raw: Mapping[int, bytes] | None = None
) -> bytes:
    """A whole index: these data blocks, an empty metaindex, the index of the blocks, the footer.

    Args:
        blocks: keys and values of each data block.
        compression: the byte behind each block.
        raw: number of a block -> bytes in place of its content.
    """
    out, handles = bytearray(), []

    def add(content: bytes) -> bytes:
        nonlocal out
        handle = varint(len(out)) + varint(len(content))
        out += content + bytes([compression]) + struct.pack("<I", masked_crc(content + bytes([compression])))
        return handle

    for i, items in enumerate(blocks):
        handles.append((items[-1][0] if items else b"", add((raw or {}).get(i, block(items)))))
    meta = add(block([]))
    index = add(block(handles, 1))
    return bytes(out) + (meta + index).ljust(40, b"\0") + MAGIC


def bundle(arrays: Mapping[str, np.ndarray], per_block: int = 5) -> tuple[bytes, bytes]:
    """Index and data of a checkpoint with these arrays."""
    data, items = bytearray(), [(b"", header())]
    for name in sorted(arrays, key=str.encode):
        items.append((name.encode(), entry(arrays[name], len(data))))
        data += np.asarray(arrays[name]).tobytes()
    return table([items[i : i + per_block] for i in range(0, len(items), per_block)]), bytes(data)


def hostile() -> dict[str, tuple[bytes, bytes]]:
    """Bundles that claim what they do not hold, or that nobody should read: index and data of each."""
    one = np.arange(6, dtype=np.float32).reshape(2, 3)
    data = one.tobytes()
    good, _ = bundle({"a": one})
    about = entry(one, 0)

    def described(**changes: Any) -> tuple[bytes, bytes]:
        return table([[(b"", header()), (b"a", entry(one, 0, **changes))]]), data

    def named(*items: tuple[bytes, bytes], head: bytes = header()) -> tuple[bytes, bytes]:
        return table([[(b"", head), *items]]), data

    def content(raw: bytes) -> tuple[bytes, bytes]:
        return table([[(b"", header())]], raw={0: raw}), data

    def handles(meta: bytes, index: bytes) -> tuple[bytes, bytes]:
        return good[:-48] + (meta + index)[:40].ljust(40, b"\0") + MAGIC, data

    twice = block([(b"", header()), (b"a", about)])
    start = varint(0) + varint(len(twice))
    again = twice + b"\0" + struct.pack("<I", masked_crc(twice + b"\0"))
    listing = block([(b"a", start), (b"b", start)], 1)
    place = len(again)
    again += listing + b"\0" + struct.pack("<I", masked_crc(listing + b"\0"))
    both = varint(place) + varint(len(listing))
    far, small = 2**62, struct.pack("<II", 0, 1)
    long_name = block([(b"", header())] + [(b"a" * n, about) for n in (1900, 2001)], 10**9)
    return {
        "nothing": (b"", b""),
        "only an end": (MAGIC, data),
        "only a footer": (bytes(40) + MAGIC, data),
        "half an index": (good[: len(good) // 2] + good[-48:], data),
        "no footer": (good[:-1], data),
        "half the data": (good, data[:10]),
        "no data": (good, b""),
        "other data": (good, bytes(len(data))),
        "a changed block": (good[:9] + bytes([good[9] ^ 1]) + good[10:], data),
        "a compressed index": (table([[(b"", header()), (b"a", about)]], compression=1), data),
        "an unknown compression": (table([[(b"", header()), (b"a", about)]], compression=7), data),
        "a block at 2**62": handles(varint(far) + varint(1), varint(far) + varint(1)),
        "a block of 2**62": handles(varint(0) + varint(far), varint(0) + varint(far)),
        "a number without end": handles(b"\xff" * 20, b"\xff" * 20),
        "a block that is listed twice": (again + (both + both).ljust(40, b"\0") + MAGIC, data),
        "a block that lists itself": handles(start, start),
        "a block of two bytes": content(b"\0\0"),
        "a block of 2**32 restarts": content(b"\xff" * 8),
        "an entry longer than its block": content(varint(0) + varint(2**40) + varint(0) + small),
        "a value longer than its block": content(varint(0) + varint(0) + varint(2**40) + small),
        "a name that shares too much": content(varint(9) + varint(0) + varint(0) + small),
        "a name of many bytes": content(long_name),
        "no header": (table([[(b"a", about)]]), data),
        "a name twice": named((b"a", about), (b"a", about)),
        "names in disorder": named((b"b", about), (b"a", about)),
        "a name that is not text": named((b"\xff\xfe", about)),
        "two headers": (table([[(b"", header())], [(b"", header())]]), data),
        "many data files": named((b"a", about), head=header(shards=2)),
        "a million data files": named((b"a", about), head=header(shards=2**40)),
        "big-endian values": named((b"a", about), head=header(endian=1)),
        "a header of text": named((b"a", about), head=field(1, b"x")),
        "two at one place": named((b"a", about), (b"b", about)),
        "two that overlap": named((b"a", about), (b"b", entry(one[:1], 8))),
        "another data file": described(shard=1),
        "an offset beyond the file": described(offset=8),
        "an offset of 2**62": described(offset=far),
        "a size of 2**62": described(size=far),
        "a shape of 2**62": described(shape=(far,)),
        "a shape of 2**62 without values": described(shape=(far, 0), size=0, crc=masked_crc(b"")),
        "a shape whose product wraps": described(shape=(2**32, 2**32, 6)),
        "a shape of many": described(shape=(1,) * 1000 + (6,)),
        "another shape": described(shape=(2, 2)),
        "a size that does not fit": described(size=20),
        "a wrong checksum": described(crc=0),
        "a checksum without its mask": described(crc=1),
        "no type": described(dtype=0),
        "text": described(dtype=7),
        "a resource": described(dtype=20),
        "a variant": described(dtype=21),
        "half floats": described(dtype=19, shape=(12,)),
        "slices": described(more=field(7, field(1, b""))),
        "a type of text": described(more=field(1, b"float")),
        "an unknown shape": described(more=field(2, field(3, 1))),
        "a dimension of text": described(more=field(2, field(2, field(1, b"x")))),
        "a field of an old form": described(more=varint(9 << 3 | 3)),
        "a field beyond the entry": described(more=varint(2 << 3 | 2) + varint(2**40)),
        "a pickle": (b"cos\nsystem\n(S'true'\ntR.", data),
    }
