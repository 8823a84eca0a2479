"""Hostile files for every place that reads weights or states, and a program that feeds each to each.

Run as `python payloads.py FOLDER`: prints as JSON, per place and payload, what was said and what was done besides.
"""

from __future__ import annotations

import importlib.util
import io
import json
import pickle
import resource
import struct
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bundles
import numpy as np
import torch

PROTOCOL_2 = b"\x80\x02"
MEMORY = 2**30  # address space beyond that of the process before


class Call:
    """Pickled as a call of a function by name."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def reduce(module: str, name: str, *arguments: bytes) -> bytes:
    return PROTOCOL_2 + named(module, name) + b"(" + b"".join(arguments) + b"tR."


def pickles(folder: Path) -> dict[str, bytes]:
    """Programs of a pickle, each with what it would do if it were run."""
    touch = f"touch '{folder / 'ran'}'"
    evaluated = f"__import__('os').system({touch!r})"
    network = "ultralytics.nn.tasks"
    config = b"}" + b"(" + text("activation") + text(evaluated) + text("backbone") + b"]" + text("head") + b"]u"
    system = named("os", "system")
    return {
        "REDUCE of os.system": reduce("os", "system", text(touch)),
        "REDUCE of eval": reduce("builtins", "eval", text(evaluated)),
        "REDUCE of DetectionModel with an activation": reduce(network, "DetectionModel", config),
        "REDUCE of SettingsManager": reduce("ultralytics.utils", "SettingsManager", text(str(folder / "ran"))),
        "REDUCE of AutoBackend": reduce("ultralytics.nn.autobackend", "AutoBackend", text("http://127.0.0.1:9/a.pt")),
        "REDUCE of a large Linear": reduce("torch.nn.modules.linear", "Linear", b"J@\r\x03\x00" * 2),
        "REDUCE of torch.load": reduce("torch.storage", "_load_from_bytes", text("x")),
        "REDUCE of getattr": reduce("builtins", "getattr", named("os", "path"), text("join")),
        "REDUCE of torch.zeros": reduce("torch", "zeros", b"\x8a\x06" + (10**12).to_bytes(6, "little")),
        "REDUCE of bytearray": reduce("builtins", "bytearray", b"\x8a\x06" + (10**12).to_bytes(6, "little")),
        "REDUCE of what a call gave": PROTOCOL_2 + named("collections", "OrderedDict") + b")R" + b")R.",
        "GLOBAL": PROTOCOL_2 + system + b".",
        "GLOBAL with dots": PROTOCOL_2 + named("torch", "nn.Module.__init__") + b".",
        "GLOBAL of a module that would be imported": PROTOCOL_2 + named("antigravity", "webbrowser") + b".",
        "STACK_GLOBAL": b"\x80\x04" + text("os") + text("system") + b"\x93" + text(touch) + b"\x85R.",
        "STACK_GLOBAL of numbers": b"\x80\x04K\x01K\x02\x93.",
        "INST": b"(S'" + touch.encode().replace(b"'", b"\\'") + b"'\nios\nsystem\n.",
        "OBJ": b"(" + system + text(touch) + b"o.",
        "BUILD with __setstate__": PROTOCOL_2 + named(network, "DetectionModel") + b")\x81}" + text("a") + b"K\x01sb.",
        "BUILD with slots": PROTOCOL_2 + named(network, "DetectionModel") + b")\x81N}" + text("x") + b"K\x01s\x86b.",
        "BUILD of a class": PROTOCOL_2 + named(network, "DetectionModel") + b"}" + text("x") + b"K\x01sb.",
        "BUILD of a list": PROTOCOL_2 + b"]}b.",
        "NEWOBJ with arguments": PROTOCOL_2 + named("torch.nn", "Linear") + b"J@\r\x03\x00" * 2 + b"\x86\x81.",
        "NEWOBJ of Popen": PROTOCOL_2 + named("subprocess", "Popen") + text(touch) + b"\x85\x81.",
        "NEWOBJ_EX": b"\x80\x04" + named("subprocess", "Popen") + b")}" + text("args") + text(touch) + b"s\x92.",
        "EXT1": PROTOCOL_2 + b"\x82\x01.",
        "EXT2": PROTOCOL_2 + b"\x83\x01\x01.",
        "EXT4": PROTOCOL_2 + b"\x84\x01\x01\x00\x00.",
        "PERSID": b"Pstorage\n.",
        "BINPERSID of text": PROTOCOL_2 + text("http://127.0.0.1:9/") + b"Q.",
        "BINPERSID of a storage that is not there": PROTOCOL_2
        + b"(" + text("storage") + named("torch", "FloatStorage") + text("../../0") + text("cpu") + b"K\x01tQ.",
        "BINPERSID of a function as type": PROTOCOL_2
        + b"(" + text("storage") + system + text("0") + text("cpu") + b"K\x01tQ.",
        "a storage in place of a tensor": PROTOCOL_2
        + b"(" + text("storage") + named("torch", "FloatStorage") + text("0") + text("cpu") + b"K\x02tQ.",
        "a tensor of a function": PROTOCOL_2 + named("torch._utils", "_rebuild_tensor_v2") + b"(" + b"NK\x00))tR.",
        "a tensor without arguments": PROTOCOL_2 + named("torch._utils", "_rebuild_tensor_v2") + b")R.",
        "deep lists": PROTOCOL_2 + b"]" * 50_000 + b"a" * 49_999 + b".",
        "deep tuples": PROTOCOL_2 + b")" + b"\x85" * 60_000 + b".",
        "deep tuples as a key": PROTOCOL_2 + b"})" + b"\x85" * 60_000 + b"K\x01s.",
        "deep dicts": PROTOCOL_2 + (b"}" + text("a")) * 40_000 + b"N" + b"s" * 40_000 + b".",
        "a list in itself": PROTOCOL_2 + b"]q\x00h\x00a.",
        "a bomb of memo": PROTOCOL_2 + b"]q\x00" + b"".join(
            b"](" + b"h" + bytes([i]) + (b"h" + bytes([i])) * 9 + b"eq" + bytes([i + 1]) for i in range(60)) + b".",
        "a bomb of copies": PROTOCOL_2 + named("builtins", "set") + b"q\x00](" + b"N" * 100_000 + b"eq\x01"
        + b"h\x00h\x01\x85R" * 100_000 + b".",
        "a long number": PROTOCOL_2 + b"\x8b" + struct.pack("<i", 5_000_000) + b"\x7f" * 5_000_000 + b".",
        "a long number as text": b"L" + b"9" * 1_000_000 + b"L\n.",
        "a number that claims 2 GB": PROTOCOL_2 + b"\x8b" + struct.pack("<i", 2**31 - 1) + b"\x7f.",
        "text that claims 4 GB": PROTOCOL_2 + b"X" + struct.pack("<I", 2**32 - 1) + b"a.",
        "text that claims 2**63 bytes": b"\x80\x04\x8d" + struct.pack("<Q", 2**63) + b"a.",
        "bytes that claim 2**40": b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"a.",
        "a frame that claims 2**60": b"\x80\x04\x95" + struct.pack("<Q", 2**60) + b".",
        "a bytearray of protocol 5": b"\x80\x05\x96" + struct.pack("<Q", 4) + b"abcd.",
        "a buffer of protocol 5": b"\x80\x05\x97.",
        "a number far up the memo": PROTOCOL_2 + b"Nr\xff\xff\xff\xffj\xff\xff\xff\xff.",
        "a memo that is not there": PROTOCOL_2 + b"h\x07.",
        "nothing on the stack": PROTOCOL_2 + b"0000.",
        "a mark as value": PROTOCOL_2 + b"(.",
        "a list as a key": PROTOCOL_2 + b"}]K\x01s.",
        "no end": PROTOCOL_2 + b"}",
        "an unknown instruction": PROTOCOL_2 + b"\xff.",
        "an object array of numpy": pickle.dumps(np.array([Call(1), "x"], dtype=object), 2),
        "a plain array of numpy": pickle.dumps(np.zeros(3), 4),
    }  # fmt: skip


def archive(program: bytes, extra: dict[str, bytes] | None = None) -> bytes:
    """A PyTorch file with this pickle and one storage of two values."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as parts:
        members = {"data.pkl": program, "data/0": bytes(8), "version": b"3\n", "byteorder": b"little"}
        for name, content in (members | (extra or {})).items():
            parts.writestr(f"archive/{name}", content)
    return buffer.getvalue()


def legacy(program: bytes) -> bytes:
    """A PyTorch file of the format before 1.6 with this pickle."""
    about = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    parts = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, about)]
    return b"".join([*parts, program, pickle.dumps([], 2)])


def tensor_program(offset: int, size: tuple, stride: tuple, values: int = 2, kind: str = "FloatStorage") -> bytes:
    storage = (
        b"(" + text("storage") + named("torch", kind) + text("0") + text("cpu") + pickle.dumps(values, 2)[2:-1] + b"tQ"
    )
    rest = b"".join(pickle.dumps(value, 2)[2:-1].replace(b"q\x00", b"") for value in (offset, size, stride))
    return PROTOCOL_2 + named("torch._utils", "_rebuild_tensor_v2") + b"(" + storage + rest + b"\x89}tR."


def torch_files() -> dict[str, bytes]:
    """PyTorch files that claim more than they hold, or are of another kind."""
    program = tensor_program(0, (2,), (1,))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as parts:
        parts.writestr("archive/data.pkl", program)
        parts.writestr("archive/data/0", bytes(10**8))
    overlapping = archive(program).replace(struct.pack("<II", 8, 8), struct.pack("<II", 2**31, 2**31))
    truths = archive(tensor_program(0, (8,), (1,), 8, "BoolStorage"), {"data/0": b"\x02" * 8})
    script = io.BytesIO()
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), script)
    return {
        "a tensor larger than its storage": archive(tensor_program(0, (10**12,), (0,))),
        "a tensor beside its storage": archive(tensor_program(5, (1,), (1,))),
        "strides beyond the storage": archive(tensor_program(0, (2,), (7,))),
        "a negative stride": archive(tensor_program(1, (2,), (-1,))),
        "a size of 2**62": archive(tensor_program(0, (2**62, 0), (1, 1))),
        "a storage larger than its part": archive(tensor_program(0, (2,), (1,), values=2**40)),
        "a storage of an unknown type": archive(tensor_program(0, (2,), (1,), kind="QInt8Storage")),
        "truth values that are neither": truths,
        "a packed part": packed.getvalue(),
        "a part that claims 2 GB": overlapping,
        "bytes in another order": archive(program, {"byteorder": b"big"}),
        "two pickles": archive(program, {"x/data.pkl": program}),
        "TorchScript": script.getvalue(),
        "half a file": archive(program)[:200],
        "an archive of nothing": archive(b""),
    }  # fmt: skip


def safetensors(header: Any, body: bytes = b"", length: int | None = None) -> bytes:
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(content) if length is None else length) + content + body


def safetensors_files() -> dict[str, bytes]:
    one = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    deep = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    return {
        "overlapping offsets": safetensors({"a": one, "b": one | {"data_offsets": [4, 12]}}, bytes(12)),
        "the same offsets": safetensors({"a": one, "b": one}, bytes(8)),
        "offsets beyond the file": safetensors({"a": one | {"shape": [2**30], "data_offsets": [0, 2**32]}}, bytes(8)),
        "offsets backwards": safetensors({"a": one | {"data_offsets": [8, 0]}}, bytes(8)),
        "negative offsets": safetensors({"a": one | {"data_offsets": [-8, 0]}}, bytes(8)),
        "a gap": safetensors({"a": one | {"data_offsets": [8, 16]}}, bytes(16)),
        "bytes at the end": safetensors({"a": one}, bytes(16)),
        "a header that claims 2**63": safetensors({"a": one}, bytes(8), 2**63),
        "a header that claims 2**32": safetensors({"a": one}, bytes(8), 2**32),
        "a huge header": safetensors(b'{"a":"' + b"x" * (20 * 2**20) + b'"}'),
        "a deep header": safetensors(deep),
        "a header of a list": safetensors([one]),
        "a name twice": safetensors(b'{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":1}'),
        "a shape of 2**62": safetensors({"a": one | {"shape": [2**62, 0], "data_offsets": [0, 0]}}),
        "a shape of many": safetensors({"a": one | {"shape": [1] * 10_000, "data_offsets": [0, 4]}}, bytes(4)),
        "an unknown type": safetensors({"a": one | {"dtype": "O"}}, bytes(8)),
        "metadata that are not text": safetensors({"a": one, "__metadata__": {"recipe": {}}}, bytes(8)),
        "not a number in metadata": safetensors({"__metadata__": {"recipe": "NaN", "state": "NaN"}}),
        "a state that calls": safetensors({"__metadata__": {"state": '{"call": "os.system"}', "recipe": "{}"}}),
        "a state without its tensor": safetensors({"__metadata__": {"state": '{"tensor": "7"}', "recipe": "{}"}}),
        "a pickle": reduce("os", "system", text("true")),
        "an empty file": b"",
        "an array of numpy": b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n",
    }  # fmt: skip


def places(folder: Path) -> dict[str, tuple[Callable[[Path], Any], str]]:
    """Every place that reads a serialised file -> its reader, and the name that the file must have."""
    from evalkit.downstream.detection import state as detector_states
    from evalkit.downstream.detection.weights import pretrained as detector
    from evalkit.downstream.detection.weights import read_weights
    from evalkit.downstream.segmentation import history as segmenter_states
    from evalkit.errors import EvalkitError
    from evalkit.methods.checkpoints import as_state, read_checkpoint
    from evalkit.methods.states import last_state
    from evalkit.training.find_recipe import recipes
    from evalkit.training.pretrained import pretrained
    from evalkit.training.state import read_recipe, read_resume
    from evalkit.training.trained import trained_method

    recipe = recipes()["SMFNet-small"]
    begins = recipe.model_copy(update={"weights": {"part": "a.pth"}})

    def told(read: Callable[[Callable[[str], None]], Any]) -> None:
        sentences: list[str] = []
        if read(sentences.append) is not None:
            raise AssertionError("it was taken for a state")
        raise EvalkitError(sentences[0])

    def state_of(fits: Callable[[Any], bool]) -> Callable[[Path], None]:
        return lambda path: told(lambda tell: last_state(path, tell, fits))

    def weights_of_a_training(path: Path) -> None:
        content = pretrained(begins, "part", path.parent, "weights")
        as_state(content[0] if content else None, path)

    def checkpoint(path: Path) -> None:
        as_state(read_checkpoint(path), path)

    def trained(path: Path) -> None:
        if trained_method(path, "SMFNet") is None:  # not by evalkit: any other weights
            checkpoint(path)

    def encoder(path: Path) -> None:
        if importlib.util.find_spec("mmseg") is None:  # then by the function that reads the file for it
            checkpoint(path)
            return
        from evalkit.downstream.segmentation.models import load_encoder

        load_encoder(torch.nn.ModuleDict({"backbone": torch.nn.Linear(1, 1)}), path)

    return {
        "fuse --checkpoint": (checkpoint, "a.pth"),
        "weights that evalkit trained": (trained, "a.safetensors"),
        "their recipe": (lambda path: read_recipe(path) or checkpoint(path), "a.safetensors"),
        "train --weights": (weights_of_a_training, "a.pth"),
        "resume of an older version": (
            lambda path: told(lambda tell: read_resume(path.parent, recipe, "x", tell)), "resume.pt"),
        "resume": (lambda path: told(lambda tell: read_resume(path.parent, recipe, "x", tell)), "resume.safetensors"),
        "resume of a detector": (state_of(detector_states.is_state), detector_states.STATE),
        "resume of a segmenter": (state_of(segmenter_states.is_state), segmenter_states.STATE),
        "a detector's weights": (read_weights, "a.pt"),
        "a detector's pretrained weights": (lambda path: detector(torch.nn.Linear(1, 1), path), "a.pt"),
        "a segmenter's encoder": (encoder, "a.pth"),
        "a TensorFlow checkpoint": (checkpoint, "a.index"),
    }  # fmt: skip


def main(folder: Path) -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
    from fuzz import Watch

    from evalkit.errors import EvalkitError

    if importlib.util.find_spec("mmseg"):
        import evalkit.downstream.segmentation.models  # noqa: F401 - before anything is watched
    readers, watch, results = places(folder), Watch(), []
    programs = pickles(folder)
    forms = {"archive": archive, "legacy": legacy, "bare": bytes}
    files = {f"{name}, {form}": make(program) for name, program in programs.items() for form, make in forms.items()
             if form == "archive" or len(program) < 10_000} | torch_files()  # fmt: skip
    tensors, halves = safetensors_files(), bundles.hostile()
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for place, (read, name) in readers.items():
        payloads = {".safetensors": tensors, ".index": halves}.get(Path(name).suffix, files)
        for payload, data in payloads.items():
            path = folder / "case" / name
            path.parent.mkdir(exist_ok=True)
            if isinstance(data, tuple):
                data, beside = data
                path.with_name("a.data-00000-of-00001").write_bytes(beside)
            path.write_bytes(data)
            watch.folder, watch.seen, started = str(path.parent), [], time.process_time()
            try:
                read(path)
                said = "READ"
            except EvalkitError as error:
                said = str(error)
            except BaseException as error:
                said = f"UNCAUGHT {type(error).__name__}: {str(error)[:200]}"
            watch.folder = ""
            took = time.process_time() - started
            for part in (path, path.with_name("a.data-00000-of-00001")):
                part.unlink(missing_ok=True)
            left = [str(other) for other in folder.rglob("*") if other.is_file()]
            results.append(
                {"place": place, "payload": payload, "said": said, "did": watch.seen + left, "seconds": took}
            )
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    print(json.dumps({"results": results, "mb": grown}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
