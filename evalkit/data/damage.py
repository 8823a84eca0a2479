"""Damage that decoders notice but pass over: what libpng and libjpeg warn of is an error here.

Pillow skips the checksums of a PNG's pixels, and libjpeg paints what is missing gray; either gives a number for an
image that is not the one that was saved.
"""

from __future__ import annotations

import io
import re
import zlib

from PIL import Image

PIXELS_PER_BYTE = 8192  # a Huffman code has a bit or more, and each 8x8 block (one in 16 of its component) has a code
FILL = bytes.fromhex("f59c6ae1784b2d93") * 2  # begins with 1: libjpeg fills up with 0, and encoders pad with 1
_MARKER = re.compile(rb"\xff+[\x01-\xfe]")
_SCAN, _END, _RESTARTS, _FRAMES, _ARITHMETIC = 0xDA, 0xD9, range(0xD0, 0xD8), (0xC0, 0xC1, 0xC2), (0xC9, 0xCA, 0xCB)


def png_damage(data: bytes) -> str:
    """What is wrong with the chunks of a PNG file: a checksum, or its end is missing. Empty where all is well.

    Source: PNG (third edition), 5.3 and 5.4: every chunk ends with the CRC of its type and content.
    """
    place, view = 8, memoryview(data)
    while place + 12 <= len(data):
        length, kind = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        end = place + 12 + length
        if end > len(data):
            break
        if zlib.crc32(view[place + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            return f"the checksum of its {kind.decode('latin-1')!a} chunk is wrong"
        if kind == b"IEND":
            return ""
        place = end
    return "its end is missing"


def jpeg_claim(data: bytes, width: int, height: int) -> str:
    """Whether a JPEG file is too short for the size that it claims, whatever it shows; empty where it may hold it.

    Args:
        data: the file's bytes.
        width, height: that its header claims, in pixels.
    """
    if width * height > PIXELS_PER_BYTE * len(data) and not _structure(data)[1]:
        return f"it claims {width}x{height} pixels but has {len(data)} bytes"
    return ""


def jpeg_damage(data: bytes, pixels: bytes) -> str:
    """Whether image data of a JPEG file are missing; empty where all is well.

    libjpeg does not tell: it reads zeros where data end too early. So the file is decoded once more, with other bytes
    put in where each stretch of image data ends. A whole file never reads them, and gives the same pixels.

    Args:
        data: the file, which Pillow could decode.
        pixels: what it was decoded to, as `Image.tobytes` gives it.

    Source: ITU-T T.81, B.1.1 and B.2: markers; F.1.2.3: padding with ones.
    """
    ends, arithmetic, lacking = _structure(data)
    if arithmetic:  # its decoder may read zeros beyond the end of a whole file
        return ""
    if not ends or ends[-1][1] != _END:
        return "its end marker is missing"
    if lacking:
        return "scans are missing"
    padded, last, restarts = [], 0, 0
    for place, marker in ends:
        padded += [data[last:place], FILL]
        if marker in _RESTARTS:
            if marker != _RESTARTS[restarts % 8]:
                return "a restart marker is missing"
            restarts += 1
        else:  # one more stretch, for a decoder that still looks for one
            padded += [bytes((0xFF, _RESTARTS[restarts % 8])), FILL]
            restarts = 0
        last = place
    padded.append(data[last:])
    with Image.open(io.BytesIO(b"".join(padded)), formats=("JPEG",)) as image:
        return "" if image.tobytes() == pixels else "image data are missing"


def _structure(data: bytes) -> tuple[list[tuple[int, int]], bool, bool]:
    """Place and kind of the markers that end stretches of image data, whether these are coded arithmetically,
    and whether a coefficient of a component is in no scan to its last bit, as in a progressive file cut between two.
    """
    ends, arithmetic, start, scan = [], False, 2, False
    open_: dict[int, set[int]] = {}  # component -> coefficients whose last bit is in no scan yet
    while match := _MARKER.search(data, start):
        marker, start = data[match.end() - 1], match.end()
        if scan:
            ends.append((match.start(), marker))
        if marker == _END:
            break
        if marker in _RESTARTS or marker == 0x01:  # stand alone
            continue
        content = data[start + 2 : start + int.from_bytes(data[start : start + 2], "big")]
        start += len(content) + 2
        if marker in _FRAMES:
            open_ = {content[6 + 3 * i]: set(range(64)) for i in range(content[5])}
        if marker == _SCAN and content[-1] & 15 == 0:  # no bits are left for another scan
            for i in range(content[0]):
                open_.get(content[1 + 2 * i], set()).difference_update(range(content[-3], content[-2] + 1))
        arithmetic |= marker in _ARITHMETIC
        scan = marker == _SCAN
    return ends, arithmetic, any(open_.values())
