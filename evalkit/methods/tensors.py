"""The one reader of files with weights and states: PyTorch's, of either format, safetensors, TensorFlow's bundles.

Nothing in a file is executed (see `evalkit.files.pickles`), and nothing it claims is believed: a tensor is made of
bytes that the file holds, and of no more than it holds. A file is read once.
"""

from __future__ import annotations

import io
import math
import re
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from evalkit.errors import CheckpointError, DataError, UnreadableError
from evalkit.files.bundles import DATA, INDEX, read_bundle, with_data
from evalkit.files.bundles import MAGIC as TENSORFLOW
from evalkit.files.pickles import (
    MAX_DEPTH,
    MAX_PICKLE,
    CodeError,
    Instance,
    KindError,
    Name,
    PickleError,
    read_pickle,
    walk,
)
from evalkit.files.read import parse_json, read_file

MAX_FILE = 4 * 2**30  # bytes
MAX_HEADER = 16 * 2**20  # bytes of a safetensors header
MAX_PARTS = 100_000  # of an archive, and tensors of a file
MAX_VIEWS = 4  # times the bytes of the file that its tensors may have together

STORAGES = {
    "Double": torch.float64,
    "Float": torch.float32,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
    "ComplexFloat": torch.complex64,
    "ComplexDouble": torch.complex128,
}
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "U16": torch.uint16,
    "U32": torch.uint32,
    "U64": torch.uint64,
}
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # of PyTorch's format before 1.6
PATHS = ("Posix", "Windows", "PurePosix", "PureWindows")
HARMLESS = ("argparse.Namespace",)  # the options of a training, beside the weights
NAMED = re.compile(rb"\x00{2}[\x00-\x20]{0,8}[A-Za-z_][\w.-]*/[\w./-]+")  # how such an index begins that was cut


class _Storage(NamedTuple):
    key: str
    dtype: torch.dtype
    values: int


class _Claim:
    """A tensor as the pickle describes it, before its bytes are there."""

    __slots__ = ("offset", "size", "storage", "stride")

    def __init__(self, storage: _Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> None:
        self.storage, self.offset, self.size, self.stride = storage, offset, size, stride


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> _Claim:
    """torch._utils._rebuild_tensor and _rebuild_tensor_v2."""
    numbers = (offset, *size, *stride)
    if not isinstance(storage, _Storage) or not all(type(n) is int and 0 <= n < 2**48 for n in numbers):
        raise PickleError("a tensor is described in an unknown way")
    if len(size) != len(stride) or len(size) > 16:
        raise PickleError("a tensor has other dimensions than strides")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) if 0 not in size else offset - 1
    if math.prod(size) > storage.values or last >= storage.values:
        raise PickleError(f"it holds a tensor of shape {size} with fewer values than that")
    return _Claim(storage, offset, tuple(size), tuple(stride))


def _parameter(data: Any, *_: Any) -> Any:
    if not isinstance(data, _Claim):
        raise PickleError("a parameter is not a tensor")
    return data


def _numpy_type(code: Any, *_: Any) -> Instance:
    return Instance(Name("numpy", f"dtype {code}"[:40]))


def _text_of_path(*parts: Any) -> str:
    return "/".join(str(part)[:200] for part in parts[:50])


REBUILDERS: dict[Name, Callable[..., Any]] = {
    Name("torch._utils", "_rebuild_tensor"): _tensor,
    Name("torch._utils", "_rebuild_tensor_v2"): _tensor,
    Name("torch._utils", "_rebuild_parameter"): _parameter,
    Name("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    Name("torch", "device"): lambda kind, *_: str(kind)[:20],
    Name("numpy", "dtype"): _numpy_type,
    **{Name(f"numpy.{core}.multiarray", "scalar"): lambda *_: None for core in ("core", "_core")},  # a best score
    **{Name(module, f"{kind}Path"): _text_of_path for module in ("pathlib", "pathlib._local") for kind in PATHS},
}


def _is_value(name: Name) -> bool:
    """The type of a storage or of values."""
    kind = name.name.removesuffix("Storage")
    storage = name.name.endswith("Storage") and kind in STORAGES and name.module in ("torch", "torch.cuda")
    return storage or (name.module == "torch" and isinstance(getattr(torch, name.name, None), torch.dtype))


def read_tensors(path: Path, classes: tuple[str, ...] = ()) -> Any:
    """What a file of weights holds, on the CPU.

    Args:
        path: a PyTorch file (state dict, or what it is wrapped in), a `.safetensors` file, or the `.index` of a
            TensorFlow checkpoint, beside which its `.data-00000-of-00001` lies; kernels of convolutions are as that
            stores them: height, width, in, out.
        classes: beginnings of class names, such as "torch.nn.modules.": objects of these classes may be in the file. A
            network among them is given as its state dict, anything else as None. Their constructors are not called.

    Returns:
        Tensors and plain values in dicts, lists and tuples.

    Raises:
        CheckpointError: no such file, damaged, of another kind, beyond a limit, or one that names code.
        UnreadableError: trouble that may pass.
    """
    if not path.is_file():
        beside = f"{path.name}.index"
        if (path.parent / beside).is_file():
            raise CheckpointError(f"{path} is the prefix of a TensorFlow checkpoint ({beside}): name that file.")
        raise CheckpointError(f"there is no checkpoint {path}. Name the folder that holds it with --checkpoints DIR.")
    if path.name.endswith(DATA):
        index = path.name.removesuffix(DATA) + INDEX
        raise CheckpointError(f"{path} is the data of a TensorFlow checkpoint: name {index}, which lies beside it.")
    data = read_whole(path)
    try:
        if path.suffix == ".safetensors":
            return parse_safetensors(data)[0]
        if path.suffix == INDEX:
            return _read_bundle(data, path)
        _refuse_other_kinds(data)
        if data.startswith(b"PK"):
            return _Archive(data, classes).content()
        return _read_legacy(data, classes)
    except MemoryError:
        raise UnreadableError(f"cannot read {path}: memory ran out.") from None
    except KindError as error:
        raise CheckpointError(f"the checkpoint {path} is {error}") from None
    except CodeError as error:
        raise CheckpointError(
            f"the checkpoint {path} holds more than tensors and could run code when opened (it {error}); it was not "
            "opened. Take the file from the authors, or convert it to safetensors on a machine you can lose."
        ) from None
    except (PickleError, zipfile.BadZipFile, DataError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise damaged(path, error) from None
    except (RuntimeError, ValueError, LookupError, TypeError, OverflowError, OSError, EOFError, struct.error) as error:
        raise damaged(path, error) from None


def read_header(path: Path) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """Shapes and metadata of a safetensors file. Raises CheckpointError."""
    data = read_whole(path)
    try:
        entries, metadata, _ = _parse_header(data)
    except (ValueError, DataError) as error:
        raise damaged(path, error) from None
    return {name: shape for name, (_, shape, _, _) in entries.items()}, metadata


def damaged(path: Path, error: Exception) -> CheckpointError:
    """What to say of a file that is not as its format wants."""
    first = (str(error) or type(error).__name__).splitlines()[0]
    return CheckpointError(f"the checkpoint {path} is damaged or no checkpoint ({first[:120]}). Copy it again.")


def read_whole(path: Path) -> bytes:
    """The bytes of a file of weights. Raises CheckpointError."""
    try:
        return read_file(path, MAX_FILE)
    except UnreadableError:
        raise  # trouble that may pass says nothing about the file
    except DataError as error:
        raise CheckpointError(str(error)) from None


def _refuse_other_kinds(data: bytes) -> None:
    """Raises KindError for what people have in place of weights of PyTorch."""
    start = data[:1000].lstrip().lower()
    if start.startswith(b"version https://git-lfs"):
        raise KindError(
            "a Git LFS pointer: the weights themselves were not fetched. Run `git lfs pull` where it comes from."
        )
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise KindError("a web page: the site sent a page in place of the file. Download it with a browser.")
    if data.endswith(TENSORFLOW) or NAMED.match(data):
        raise KindError(f"a part of a TensorFlow checkpoint: name its {INDEX}, with its {DATA} beside it.")
    if data.startswith(b"\x89HDF"):
        raise KindError("an HDF5 file, as Keras writes it, not a PyTorch file.")


# --- PyTorch


class _Archive:
    """PyTorch's format since 1.6: a zip file, its parts as they are."""

    def __init__(self, data: bytes, classes: tuple[str, ...]) -> None:
        self.classes = classes
        self.zip = zipfile.ZipFile(io.BytesIO(data))
        parts = self.zip.infolist()
        if len(parts) > MAX_PARTS:
            raise PickleError(f"it has {len(parts)} parts")
        packed = [part.filename for part in parts if part.compress_type != zipfile.ZIP_STORED]
        places = [part.filename.partition("/")[2] for part in parts]
        if "constants.pkl" in places or any(place.startswith("code/") for place in places):
            raise KindError(
                "a TorchScript program, code and weights in one: save the state dict of its network instead."
            )
        if packed:
            raise PickleError(f"its part {packed[0]!r:.60} is compressed, which PyTorch never does")
        size = sum(part.file_size for part in parts)
        if size > len(data):
            raise PickleError(f"its parts claim {size} bytes, more than the file has")
        mains = [part.filename for part in parts if part.filename.endswith("/data.pkl")]
        if len(mains) != 1:
            raise PickleError("it has no part data.pkl")
        self.main, self.folder = mains[0], mains[0].removesuffix("data.pkl")
        self.sizes = {part.filename: part.file_size for part in parts}
        self.size = len(data)

    def content(self) -> Any:
        if self.sizes.get(self.folder + "byteorder") and self.zip.read(self.folder + "byteorder") != b"little":
            raise PickleError("its bytes are in another order")
        if self.sizes[self.main] > MAX_PICKLE:
            raise PickleError("it is longer than the pickle of any network")
        value = _unpickled(io.BytesIO(self.zip.read(self.main)), self.persistent, self.classes)
        return _loaded(value, lambda storage: self.zip.read(f"{self.folder}data/{storage.key}"), self.size)

    def persistent(self, value: Any) -> _Storage:
        storage = _storage(value)
        held = self.sizes.get(f"{self.folder}data/{storage.key}", -1)
        if held != storage.values * storage.dtype.itemsize:
            raise PickleError(f"it claims {storage.values} values where it holds {held} bytes")
        return storage


def _read_legacy(data: bytes, classes: tuple[str, ...]) -> Any:
    """PyTorch's format before 1.6: five pickles, then the storages."""
    file = io.BytesIO(data)

    def simple() -> Any:
        return _unpickled(file, _refused, ())

    if simple() != MAGIC or simple() != PROTOCOL:
        raise PickleError("it does not begin as a file of PyTorch's does")
    about = simple()
    if not isinstance(about, dict) or about.get("little_endian") is not True:
        raise PickleError("its bytes are in another order")
    storages: dict[str, _Storage] = {}

    def persistent(value: Any) -> _Storage:
        storage = _storage(value)
        if storage.values * storage.dtype.itemsize > len(data) or storages.setdefault(storage.key, storage) != storage:
            raise PickleError(f"it claims {storage.values} values, more than it holds")
        return storage

    value = _unpickled(file, persistent, classes)
    keys = simple()
    held: dict[str, bytes] = {}
    for key in keys if isinstance(keys, list) else []:
        if not isinstance(key, str) or key in held:
            raise PickleError("its list of storages is wrong")
        count = struct.unpack("<q", file.read(8))[0]
        storage = storages.get(key)
        if storage is None or count != storage.values:
            raise PickleError("a storage has another size than the pickle says")
        held[key] = file.read(count * storage.dtype.itemsize)
    return _loaded(value, lambda storage: held[storage.key], len(data))


def _refused(_: Any) -> Any:
    raise PickleError("it refers to what lies outside of it")


def _unpickled(file: io.BytesIO, persistent: Callable[[Any], Any], classes: tuple[str, ...]) -> Any:
    def is_class(name: Name) -> bool:
        return f"{name.module}.{name.name}".startswith((*HARMLESS, *classes))

    return read_pickle(file, REBUILDERS, persistent, _is_value, is_class)


def _storage(value: Any) -> _Storage:
    """("storage", type, key, location, number of values[, view])."""
    if (
        not isinstance(value, tuple)
        or len(value) not in (5, 6)
        or value[0] != "storage"
        or value[5:] not in ((), (None,))
    ):
        raise PickleError("it refers to something unknown outside of it")
    kind, key, _, count = value[1:5]
    if not isinstance(kind, Name) or not isinstance(key, str) or type(count) is not int or not 0 <= count < 2**48:
        raise PickleError("a storage is described in an unknown way")
    dtype = STORAGES.get(kind.name.removesuffix("Storage"))
    if dtype is None:
        raise PickleError("a storage is of an unknown type")
    return _Storage(key, dtype, count)


def _loaded(content: Any, read: Callable[[_Storage], bytes], size: int) -> Any:
    """The content with its tensors. Raises PickleError where they are more than `size` bytes could mean."""
    buffers: dict[_Storage, Tensor] = {}
    claimed = 0

    def tensor(claim: _Claim) -> Tensor:
        nonlocal claimed
        claimed += math.prod(claim.size) * claim.storage.dtype.itemsize
        if claimed > MAX_VIEWS * size:
            raise PickleError("its tensors are larger than the file")
        storage = claim.storage
        if storage not in buffers:
            buffers[storage] = as_tensor(read(storage), storage.dtype, (storage.values,))
        return buffers[storage].as_strided(claim.size, claim.stride, claim.offset)

    def made(value: Any) -> Any:
        if isinstance(value, _Claim):
            return tensor(value)
        if isinstance(value, Instance):
            return {name: tensor(claim) for name, claim in _module_state(value)} or None
        if isinstance(value, dict):
            return {key: made(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [made(inner) for inner in value]
        if isinstance(value, Name):
            return str(value)
        if isinstance(value, tuple):
            return tuple(made(inner) for inner in value)
        return value

    for value in walk(content):  # before anything recursive
        if isinstance(value, int) and abs(value) >= 2**64:
            raise PickleError("a whole number has more than 64 bits")
        if isinstance(value, _Storage):
            raise PickleError("a storage stands where a tensor should")
    return made(content)


def _module_state(network: Instance) -> Iterator[tuple[str, _Claim]]:
    """The names and tensors of a network's state dict."""
    left: list[tuple[str, Any, int]] = [("", network, 0)]
    count = 0
    while left:
        prefix, module, depth = left.pop()
        count += 1
        state = module.state if isinstance(module, Instance) else None
        if isinstance(state, tuple) and len(state) == 2:  # with slots
            state = state[0]
        if depth > MAX_DEPTH or count > MAX_PARTS or not isinstance(state, dict):
            if isinstance(state, dict):
                raise PickleError("it has too many layers, or one contains itself")
            continue
        hidden = state.get("_non_persistent_buffers_set") or []
        for group in ("_parameters", "_buffers"):
            for name, value in _mapping(state.get(group)).items():
                if isinstance(value, _Claim) and not (group == "_buffers" and name in hidden):
                    yield prefix + str(name)[:200], value
        inner = _mapping(state.get("_modules"))
        left += [(f"{prefix}{name}."[:2000], child, depth + 1) for name, child in reversed(inner.items())]


def _mapping(value: Any) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}


def as_tensor(data: bytes | memoryview, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    """A tensor of its own memory.

    Args:
        data: the values one after the other, last axis fastest, in the machine's byte order.
        dtype: of the tensor; a truth value is a byte, 0 or 1.
        shape: of the tensor; () for a scalar.

    Raises:
        ValueError: the bytes are not as many as the shape needs, or a truth value is neither 0 nor 1.
    """
    if len(data) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"a tensor of shape {shape} has {len(data)} bytes")
    if dtype == torch.bool and data and max(data) > 1:
        raise ValueError("a truth value is neither 0 nor 1")
    if not data:
        return torch.zeros(shape, dtype=dtype)
    return torch.frombuffer(bytearray(data), dtype=dtype).reshape(shape)


def _read_bundle(index: bytes, path: Path) -> dict[str, Tensor]:
    """The tensors of a TensorFlow checkpoint. Raises CheckpointError, KindError, ValueError."""
    beside = with_data(path)[1]
    if not beside.is_file():
        raise CheckpointError(f"the checkpoint {path} is an index alone: put its {beside.name} beside it.")
    arrays = read_bundle(index, read_whole(beside))
    return {name: torch.from_numpy(np.array(array, array.dtype.newbyteorder("="))) for name, array in arrays.items()}


# --- safetensors

Entries = dict[str, tuple[torch.dtype, tuple[int, ...], int, int]]


def _parse_header(data: bytes) -> tuple[Entries, dict[str, str], int]:
    """Name -> (type, shape, first byte, end), the metadata, and where the tensors begin. Raises ValueError."""
    if len(data) < 8:
        raise ValueError("it is too short")
    length = struct.unpack("<Q", data[:8])[0]
    if length > min(MAX_HEADER, len(data) - 8):
        raise ValueError(f"its header claims {length} bytes")
    content = parse_json(data[8 : 8 + length], "its header")
    if not isinstance(content, dict) or len(content) > MAX_PARTS:
        raise ValueError("its header is not a mapping of tensors")
    metadata = content.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("its metadata are not text")
    entries: Entries = {}
    for name, fields in content.items():
        about = fields if isinstance(fields, dict) else {}
        dtype, shape, offsets = DTYPES.get(str(about.get("dtype"))), about.get("shape", 0), about.get("data_offsets", 0)
        if dtype is None or not _counts(shape, 16) or not _counts(offsets, 2) or len(offsets) != 2:
            raise ValueError(f"its tensor {name[:60]!r} is described in an unknown way")
        if offsets[1] - offsets[0] != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"its tensor {name[:60]!r} of shape {tuple(shape)} has another number of bytes")
        entries[name] = (dtype, tuple(shape), offsets[0], offsets[1])
    end = 0
    for name, (_, _, first, last) in sorted(entries.items(), key=lambda entry: entry[1][2:]):
        if first != end:
            raise ValueError(f"its tensor {name[:60]!r} overlaps another one, or bytes lie between them")
        end = last
    if end != len(data) - 8 - length:
        raise ValueError(f"its tensors need {end} bytes, and it holds {len(data) - 8 - length}")
    return entries, metadata, 8 + length


def _counts(values: Any, most: int) -> bool:
    return (
        isinstance(values, list)
        and len(values) <= most
        and all(type(value) is int and 0 <= value < 2**48 for value in values)
    )


def parse_safetensors(data: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata. Raises ValueError or DataError."""
    entries, metadata, start = _parse_header(data)
    view = memoryview(data)
    tensors = {
        name: as_tensor(view[start + first : start + last], dtype, shape)
        for name, (dtype, shape, first, last) in entries.items()
    }
    return tensors, metadata
