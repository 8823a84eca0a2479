"""Valid inputs of every kind that evalkit reads, and how they are damaged: bytes, lines, values, containers."""

from __future__ import annotations

import csv
import io
import json
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import yaml
from PIL import Image, PngImagePlugin

Mutator = Callable[[bytes, Random], bytes]
NAMES = ["../../x", "/etc/passwd", "=cmd|' /C calc'!A1", "-1+1", "<script>x</script>", "$\\alpha$", "a\nb",
         "a\x00b", "\u202eabc", "\ud800", "[x]", "x" * 5000, "", ".", "..", "%s%n", "{0.__class__}", "'=1",
         "\\input{x}"]  # fmt: skip
VALUES: list[Any] = [None, True, -1, 0, 10**12, 2**63, 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf"), [], {},
                     [[]], {"a": {"b": []}}, [1] * 600, *NAMES]  # fmt: skip
TOKENS = [b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b'"', b"'", b",", b"\n", b"\r\n", b":", b"- ", b"[" * 3000,
          b"{" * 3000, b"&a [*a]", b"!!python/object/apply:os.system [x]", b"!!int ''", b"!!timestamp x", b"2001-99-99",
          b"<<: [*a]", b"1e99999", b"9" * 5000, b"NaN", b"Infinity", b"<!DOCTYPE x [<!ENTITY a 'b'>]>", b"&lt;",
          b"0x" + b"f" * 99]  # fmt: skip


@dataclass(frozen=True)
class Reader:
    """Valid files (name, content), ways to damage them, and everything that is read from such a file."""

    files: list[tuple[str, bytes]]
    mutators: list[Mutator]
    calls: list[Callable[[Path], Any]]


def image(form: str, mode: str, seed: int, **options: Any) -> bytes:
    rng = np.random.default_rng(seed)
    shape = (20, 24) if mode in ("L", "P", "I;16") else (20, 24, len(mode))
    top = 65536 if mode == "I;16" else 256
    pixels = rng.integers(0, top, shape, dtype=np.uint16 if top > 256 else np.uint8)
    picture = Image.fromarray(pixels if mode != "P" else pixels % 9)
    if mode == "P":
        picture = picture.convert("P")
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def images() -> list[bytes]:
    import cv2

    text = PngImagePlugin.PngInfo()
    text.add_text("evalkit", "abc")
    text.add_text("zipped", "y" * 3000, zip=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = np.random.default_rng(9).integers(0, 65536, (20, 24, 3), dtype=np.uint16)
    return [
        image("PNG", "L", 1, pnginfo=text), image("PNG", "RGB", 2), image("PNG", "RGBA", 3), image("PNG", "P", 4),
        image("PNG", "I;16", 5), image("JPEG", "L", 6), image("JPEG", "RGB", 7, exif=exif),
        image("JPEG", "RGB", 8, progressive=True), image("BMP", "L", 9), image("BMP", "RGB", 10),
        image("TIFF", "L", 11), image("TIFF", "RGB", 12, compression="tiff_lzw"), image("TIFF", "I;16", 13),
        image("TIFF", "RGB", 14, compression="tiff_adobe_deflate"), bytes(cv2.imencode(".png", deep)[1]),
    ]  # fmt: skip


def flipped(data: bytes, rng: Random) -> bytes:
    """Some bytes are others, gone, repeated, swapped, or a token that parsers stumble over."""
    found = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4, 16])):
        at, end = sorted(rng.randrange(len(found) + 1) for _ in range(2))
        end = min(end, at + 64)
        kind = rng.randrange(6)
        if kind == 0 and at < len(found):
            found[at] = rng.choice([0, 1, 127, 128, 255, rng.randrange(256)])
        elif kind == 1:
            del found[at:end]
        elif kind == 2:
            found[at:at] = found[at:end]
        elif kind == 3:
            found[at:at] = rng.choice(TOKENS)
        elif kind == 4:
            found[at : at + 4] = struct.pack(rng.choice("<>") + "I", rng.choice([0, 1, 2**31 - 1, 2**32 - 1, 65536]))
        elif rng.random() < 0.2:
            del found[at:]
    return bytes(found)


def png(data: bytes, rng: Random) -> bytes:
    """A PNG file whose chunks are damaged, doubled, out of order or bombs, under checksums that are right."""
    if not data.startswith(b"\x89PNG"):
        return flipped(data, rng)
    chunks, at = [], 8
    while at + 12 <= len(data):
        size = struct.unpack(">I", data[at : at + 4])[0]
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    i = rng.randrange(len(chunks))
    name, body = chunks[i]
    kind = rng.randrange(5)
    if kind == 0:
        chunks[i] = (name, flipped(body or b"\0", rng))
    elif kind == 1:
        sides = [rng.choice([0, 1, 24, 65535, 2**31 - 1, 10**6]) for _ in range(2)]
        depth, colour = rng.choice([1, 2, 4, 8, 16, 3]), rng.choice([0, 2, 3, 4, 6, 7])
        chunks[0] = (b"IHDR", struct.pack(">IIBBBBB", *sides, depth, colour, 0, 0, rng.randrange(3)))
    elif kind == 2:
        chunks.insert(rng.randrange(len(chunks) + 1), rng.choice(chunks))
    elif kind == 3:
        bomb = zlib.compress(b"\0" * rng.choice([10**5, 2 * 10**6, 8 * 10**6]))
        chunks.insert(1, (rng.choice([b"zTXt", b"iCCP"]), b"evalkit\0\0" + bomb))
    else:
        chunks.insert(1, (b"acTL", struct.pack(">II", rng.choice([0, 1, 2, 2**31]), 0)))
    return data[:8] + b"".join(
        struct.pack(">I", len(b)) + n + b + struct.pack(">I", zlib.crc32(n + b)) for n, b in chunks
    )


def with_other_value(tree: Any, rng: Random) -> Any:
    """The same lists and mappings with one value, key or length that is not what a reader expects."""
    if isinstance(tree, dict) and tree and rng.random() < 0.9:
        key = rng.choice(list(tree))
        kind = rng.random()
        if kind < 0.08:
            return {k: v for k, v in tree.items() if k != key}
        if kind < 0.16:
            return {**tree, rng.choice(NAMES): tree[key]}
        return {**tree, key: with_other_value(tree[key], rng)}
    if isinstance(tree, list) and tree and rng.random() < 0.9:
        i = rng.randrange(len(tree))
        return [*tree[:i], with_other_value(tree[i], rng), *tree[i + 1 :]]
    if rng.random() < 0.02:
        deep: Any = tree
        for _ in range(rng.choice([50, 3000])):
            deep = [deep]
        return deep
    return rng.choice(VALUES)


def json_values(data: bytes, rng: Random) -> bytes:
    tree = json.loads(data)
    for _ in range(rng.choice([1, 1, 2, 5])):
        tree = with_other_value(tree, rng)
    try:
        return json.dumps(tree).encode()
    except RecursionError:
        return b"[" * 5000 + b"]" * 5000


_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the files here are evalkit's own


def yaml_values(data: bytes, rng: Random) -> bytes:
    tree = with_other_value(yaml.load(data, _LOADER), rng)  # noqa: S506
    if rng.random() < 0.05:
        lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x]"]
        lines += [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]" for i in range(1, rng.choice([3, 9]))]
        return "\n".join(lines).encode() + b"\n" + data
    try:
        return json.dumps(tree).encode()  # JSON is YAML
    except RecursionError:
        return b"[" * 5000


def csv_values(data: bytes, rng: Random) -> bytes:
    rows = list(csv.reader(io.StringIO(data.decode())))
    for _ in range(rng.choice([1, 2, 4])):
        row = rng.choice(rows)
        i = rng.randrange(len(row) or 1)
        cell = str(rng.choice([*VALUES, '{"EN": "flat"}', '{"EN": 1}', "nan", "1e-99", "٣", "1_0"]))
        kind = rng.randrange(4)
        if kind == 0:
            row.insert(i, cell)
        elif kind == 1 and row:
            row.pop(i if i < len(row) else -1)
        elif kind == 2:
            rows.insert(rng.randrange(len(rows)), list(row))
        elif row:
            row[i] = cell
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue().encode(errors="surrogatepass")


def safetensors_header(data: bytes, rng: Random) -> bytes:
    """Another header in front of the tensors: sizes, offsets, metadata; or another length of the header."""
    size = struct.unpack("<Q", data[:8])[0]
    if rng.random() < 0.15:
        return struct.pack("<Q", rng.choice([0, 1, size - 1, size + 1, 2**32, 2**63, 2**64 - 1])) + data[8:]
    header = json.loads(data[8 : 8 + size])
    metadata = header.get("__metadata__", {})
    if metadata and rng.random() < 0.7:
        key = rng.choice(list(metadata))
        recipe = json_values(metadata[key].encode(), rng)
        header["__metadata__"] = {**metadata, key: recipe.decode()}
    else:
        header = with_other_value(header, rng)
    try:
        text = json.dumps(header).encode()
    except RecursionError:
        text = b"[" * 5000
    return struct.pack("<Q", len(text)) + text + data[8 + size :]


class _Runs:
    """A pickle that runs code when it is opened."""

    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        self.call = call, arguments

    def __reduce__(self) -> Any:
        return self.call


def archive(data: bytes, rng: Random) -> bytes:
    """A PyTorch file whose pickle is damaged, or another one that runs code or claims memory; or packed."""
    import builtins
    import os

    import torch

    buffer = io.BytesIO()
    hostile = rng.choice([
        _Runs(os.system, "touch /tmp/evalkit-was-here"), _Runs(builtins.eval, "1+1"), _Runs(exec, "x=1"),
        _Runs(torch.zeros, (10**12,)), _Runs(bytearray, 10**12), _Runs(open, "evalkit-was-here", "w"), [[[]]], 7, None,
    ])  # fmt: skip
    kind = rng.randrange(4)
    if kind == 0:
        return pickle.dumps(hostile, rng.randrange(6))
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w") as new:
        for entry in old.infolist():
            body = old.read(entry)
            if entry.filename.endswith("data.pkl"):
                body = pickle.dumps(hostile, 2) if kind == 1 else flipped(body, rng)
            elif rng.random() < 0.1:
                body = flipped(body, rng) if body else b"x"
            method = zipfile.ZIP_DEFLATED if kind == 3 and rng.random() < 0.3 else zipfile.ZIP_STORED
            if method == zipfile.ZIP_DEFLATED:
                body = bytes(10**7)
            new.writestr(entry.filename, body, method)
    return buffer.getvalue()


def weights() -> list[bytes]:
    """Checkpoints: a state dict as PyTorch and safetensors write it, and one with a recipe inside."""
    import torch
    from safetensors.torch import save

    from evalkit.methods.states import to_state
    from evalkit.training.find_recipe import recipes
    from evalkit.training.system import build_system

    state = {
        "a.weight": torch.ones(2, 3),
        "b": torch.zeros(4, dtype=torch.float16),
        "c": torch.ones((), dtype=torch.int64),
    }
    buffers = [io.BytesIO(), io.BytesIO()]
    torch.save(state, buffers[0])
    torch.save({"state_dict": state, "epoch": 3, "recipe": "x", "data": "y"}, buffers[1])
    torch.manual_seed(0)
    recipe = recipes()["SMFNet-small"]
    own = {key: value.contiguous().clone() for key, value in build_system(recipe).network.state_dict().items()}
    about = json.dumps({"epoch": 1, "evalkit": "0"})
    older, whole = io.BytesIO(), io.BytesIO()
    torch.save(state, older, _use_new_zipfile_serialization=False)
    torch.save({"epoch": 1, "ema": torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))}, whole)
    names = dict.fromkeys(("recipe", "data", "network", "optimisers", "mean", "precision", "progress"), "x")
    return [
        *(b.getvalue() for b in (*buffers, older, whole)),
        save(state),
        to_state({**names, "network": state, "optimisers": {"a": {0: {"step": torch.ones(())}}}, "data": "y"}),
        save(own, {"recipe": recipe.model_dump_json(), "about": about}),
    ]


def container(data: bytes, rng: Random) -> bytes:
    """`archive` of a PyTorch file, bytes of one of the older format, `safetensors_header` of the others."""
    if data.startswith(b"PK"):
        return archive(data, rng)
    return flipped(data, rng) if data.startswith(b"\x80") else safetensors_header(data, rng)
