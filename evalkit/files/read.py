"""What comes from outside: files, YAML and JSON, read within limits, refused with a sentence, never run."""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from evalkit.errors import DataError, UnreadableError
from evalkit.files.mistakes import mistakes, shown

if TYPE_CHECKING:
    from pydantic import BaseModel

Model = TypeVar("Model", bound="BaseModel")

PARTS = {"detection", "segmentation"}  # of a recipe for a table that has both
MAX_TEXT = 64 * 2**20  # bytes of a text file: the longest score file of a public data set has a hundredth of it
MAX_YAML = 2**20  # bytes: the longest protocol has a fiftieth of it
MAX_NODES = 100_000  # values of a YAML file with every alias written out
MAX_DEPTH = 40  # lists and mappings inside each other
MAX_INTEGER = 2**63

# what PyYAML's safe constructors raise on scalars they cannot make, such as `!!int ""` or 2001-99-99
_CONSTRUCTION = (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError)


def read_file(path: str | os.PathLike[str], limit: int = MAX_TEXT) -> bytes:
    """The bytes of a regular file; a pipe or a device is refused, for reading it may never end.

    Raises:
        DataError: no such file, not a file, not readable, or larger than `limit` bytes.
    """
    try:
        with open(path, "rb", opener=_no_wait) as file:
            about = os.fstat(file.fileno())
            if not stat.S_ISREG(about.st_mode):
                kind = "a folder" if stat.S_ISDIR(about.st_mode) else "a pipe or a device"
                raise DataError(f"cannot read {path}: it is {kind}, not a file.")
            data = file.read(about.st_size + 1) if about.st_size <= limit else b""  # not limit: that much memory
            if len(data) > about.st_size:  # it grows
                data += file.read(limit + 1 - len(data))
            if about.st_size > limit or len(data) > limit:
                raise DataError(f"cannot read {path}: it has {about.st_size} bytes, more than the limit of {limit}.")
            return data
    except IsADirectoryError:
        raise UnreadableError(f"cannot read {path}: it is a folder, not a file.") from None
    except (OSError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or str(error) or "memory ran out"
        raise UnreadableError(f"cannot read {path}: {reason}") from None
    except ValueError as error:  # a zero byte in the name
        raise DataError(f"cannot read {str(path)!r}: {error}") from None


def _no_wait(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # opening a pipe would wait for a writer


def read_text(path: str | os.PathLike[str], limit: int = MAX_TEXT) -> str:
    """The text of a regular UTF-8 file, without its byte order mark. Raises DataError as `read_file` does."""
    try:
        return read_file(path, limit).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"cannot read {path}: it is not UTF-8 text ({error.reason} at byte {error.start}).") from None


def parse_json(text: str | bytes, where: object) -> Any:
    """JSON as the standard has it: no NaN, no Infinity, no key twice. Raises DataError."""
    try:
        value = json.loads(text, parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_once)
        if re.search(r"\\u[dD][89a-fA-F]", text if isinstance(text, str) else text.decode(errors="replace")):
            json.dumps(value, ensure_ascii=False).encode()  # half a character, which no file could hold
        return value
    except RecursionError:
        raise DataError(f"{where} is not readable JSON: it is nested too deeply.") from None
    except ValueError as error:
        raise DataError(f"{where} is not readable JSON: {error}.") from None


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")


def _finite(text: str) -> float:
    if math.isinf(value := float(text)):
        raise ValueError(f"{text[:30]} is too large")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(n for n in names if names.count(n) > 1)!r} is there twice")
    return mapping


class _Loader(yaml.SafeLoader):
    """Stops at deep nesting while it still reads: PyYAML's time grows with the square of the depth."""

    def fetch_flow_collection_start(self, token_class: Any) -> None:
        if self.flow_level > MAX_DEPTH:
            raise ValueError("it is nested too deeply")
        super().fetch_flow_collection_start(token_class)

    def add_indent(self, column: int) -> bool:
        if len(self.indents) > MAX_DEPTH:
            raise ValueError("it is nested too deeply")
        return super().add_indent(column)


def parse_yaml(text: str, where: object) -> Any:
    """Plain values from YAML text: no tags that make objects, no aliases that grow beyond MAX_NODES, no key twice.

    Raises:
        DataError: not YAML, or beyond a limit.
    """
    if len(text) > MAX_YAML:
        raise DataError(f"{where} has {len(text)} characters, more than the limit of {MAX_YAML}.")
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _measured(node, {}, 0)
        value = loader.construct_document(node)
        _check_scalars(value)
        return value
    except RecursionError:
        raise DataError(f"{where} is not valid YAML: it is nested too deeply.") from None
    except _CONSTRUCTION as error:
        reason = " ".join(str(error).replace(' in "<unicode string>",', " in").split())[:300]
        raise DataError(f"{where} is not valid YAML: {reason}") from None
    finally:
        if loader is not None:
            loader.dispose()


def model_from_yaml(
    model: type[Model], text: str, where: str, defaults: Mapping[str, Any] = MappingProxyType({}), part: str = ""
) -> Model:
    """A model from the fields of a YAML text.

    Args:
        model: the pydantic class.
        text: YAML, a mapping of its fields.
        where: what is read, for the error: "the recipe mine.yaml".
        defaults: of fields that the text leaves out.
        part: one of PARTS: a text that is divided into such parts holds the fields below that name.

    Raises:
        DataError: not YAML, no mapping, or fields that are missing, unknown or wrong; names each with its mistake.
    """
    from pydantic import ValidationError  # `evalkit --help` does without pydantic

    fields = parse_yaml(text, where)
    if not isinstance(fields, dict):
        raise DataError(f"{where} is not a YAML mapping of fields: it is {shown(fields)}.")
    if part and fields and fields.keys() <= PARTS:
        if not isinstance(fields.get(part), dict):
            raise DataError(f"{where} has the parts {', '.join(fields)}: the fields of {part} are missing.")
        fields = fields[part]
    try:
        return model.model_validate({**defaults, **fields})
    except ValidationError as error:
        lines = [f"  {line}" for line in mistakes(error, model.model_fields)]
        count = "1 mistake" if len(lines) == 1 else f"{len(lines)} mistakes"
        raise DataError(f"{where} has {count}:\n" + "\n".join(lines)) from None


def _measured(node: yaml.Node, sizes: dict[int, int], depth: int) -> int:
    """How many values a node stands for with its aliases written out. Raises ValueError beyond a limit."""
    if depth > MAX_DEPTH:
        raise ValueError(f"more than {MAX_DEPTH} lists or mappings lie inside each other")
    if id(node) in sizes:
        if sizes[id(node)] == 0:
            raise ValueError("a value contains itself")
        return sizes[id(node)]
    sizes[id(node)] = 0
    size = 1
    if isinstance(node, yaml.SequenceNode):
        size += sum(_measured(child, sizes, depth + 1) for child in node.value)
    elif isinstance(node, yaml.MappingNode):
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if len(set(keys)) < len(keys):
            raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} is there twice")
        size += sum(_measured(part, sizes, depth + 1) for pair in node.value for part in pair)
    if size > MAX_NODES:
        raise ValueError(f"its aliases stand for more than {MAX_NODES} values")
    sizes[id(node)] = size
    return size


def _check_scalars(value: Any) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _check_scalars(key)
            _check_scalars(item)
    elif isinstance(value, list | tuple | set):
        for item in value:
            _check_scalars(item)
    elif isinstance(value, str):
        value.encode()  # half a character, which no file could hold, is a ValueError
    elif isinstance(value, int) and abs(value) >= MAX_INTEGER:
        raise ValueError("a whole number has more than 63 bits")
