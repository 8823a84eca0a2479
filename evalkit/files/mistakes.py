"""What is wrong with fields that were read, in sentences instead of pydantic's words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from evalkit.errors import nearest

if TYPE_CHECKING:
    from pydantic import ValidationError

# how the name of a kind of error begins -> what stands there where all is well; {} are the error's own limits
EXPECTED = {
    "int_": "a whole number",
    "float_": "a number",
    "bool_": "true or false",
    "string_type": "text",
    "string_too_short": "text of at least {min_length} characters",
    "string_too_long": "text of at most {max_length} characters",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "model_": "a mapping of fields",
    "dataclass_": "a mapping of fields",
    "literal_error": "{expected}",
    "enum": "{expected}",
    "greater_than_equal": "{ge} or more",
    "greater_than": "more than {gt}",
    "less_than_equal": "{le} or less",
    "less_than": "less than {lt}",
    "multiple_of": "a multiple of {multiple_of}",
    "finite_number": "a finite number",
    "too_short": "{min_length} or more items",
    "too_long": "{max_length} or fewer items",
}


def mistakes(error: ValidationError, fields: Iterable[str] = ()) -> list[str]:
    """A line per mistake: where it is, and what is expected there.

    Args:
        error: what pydantic raised.
        fields: names that are known where a field is not.
    """
    return [_line(item, tuple(fields)) for item in error.errors()]


def _line(item: Mapping[str, Any], fields: tuple[str, ...]) -> str:
    where = ".".join(map(str, item["loc"]))
    return f"{where}: {_mistake(item, fields)}" if where else _mistake(item, fields)


def _mistake(item: Mapping[str, Any], fields: tuple[str, ...]) -> str:
    kind, limits = item["type"], item.get("ctx", {})
    if kind == "missing":
        return "this field is missing"
    if kind == "extra_forbidden":
        near = nearest(str(item["loc"][-1]), fields) if len(item["loc"]) == 1 else []
        return "this is not a field" + (f", did you mean {' or '.join(near)}?" if near else "")
    if kind in ("value_error", "assertion_error"):
        return str(limits["error"])
    expected = next((text.format(**limits) for start, text in EXPECTED.items() if kind.startswith(start)), "")
    given = limits["actual_length"] if kind.startswith("too_") else shown(item["input"])
    return f"expected {expected or item['msg'].removeprefix('Input should be ')}, not {given}"


def shown(value: Any) -> str:
    """A value as a reader of YAML or JSON would call it, within some words."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple | set):
        return "a list"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
