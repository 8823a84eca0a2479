"""What a pickle says, without doing it: no name is imported, no class is made, no function is called.

A pickle is a program for a stack machine. Here its instructions are followed on plain values only. A name becomes a
`Name`, an object of a class an `Instance` with its state beside it, and the few calls that rebuild tensors and
containers (`REBUILDERS`) are carried out by functions of evalkit. A pickle that asks for anything else is refused.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

MAX_PICKLE = 64 * 2**20  # bytes: a network of a thousand layers has less than one million
MAX_STEPS = 2_000_000  # instructions, and values that calls copy
MAX_DEPTH = 100  # containers inside each other
PLAIN_KEYS = (str, int, bool, bytes, type(None))


class PickleError(ValueError):
    """A pickle that is damaged, beyond a limit, or asks for more than data; the text is the reason."""


class CodeError(PickleError):
    """A pickle that names or calls code."""


class KindError(PickleError):
    """A file of another kind; the text says which, and what to do."""


class Name(NamedTuple):
    """A class or function that a pickle refers to; only its name."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"[:120]


class Instance:
    """What would be an object: the name of its class, and the state that it was saved with."""

    __slots__ = ("kind", "state")

    def __init__(self, kind: Name) -> None:
        self.kind = kind
        self.state: Any = None


Rebuild = Callable[..., Any]


def _ordered(pairs: Any = ()) -> dict[Any, Any]:
    content: dict[Any, Any] = {}
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise PickleError("a pair of a mapping is not one")
        _put(content, *pair)
    return content


def _listed(values: Any = ()) -> list[Any]:
    if not isinstance(values, list | tuple):
        raise PickleError("the values of a set are not a list")
    return list(values)


def _encoded(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise PickleError("bytes are written in an unknown way")
    return text.encode("latin1")


CONTAINERS: dict[Name, Rebuild] = {
    Name("collections", "OrderedDict"): _ordered,
    Name("torch", "Size"): lambda values=(): tuple(_listed(values)),
    Name("_codecs", "encode"): _encoded,
    **{Name(module, "set"): _listed for module in ("builtins", "__builtin__")},
    **{Name(module, "frozenset"): _listed for module in ("builtins", "__builtin__")},
}


def read_pickle(
    file: io.BytesIO,
    rebuilders: Mapping[Name, Rebuild],
    persistent: Callable[[Any], Any],
    names: Callable[[Name], bool],
    classes: Callable[[Name], bool] = lambda name: False,
) -> Any:
    """The value of the pickle at the file's position; the position is behind it afterwards.

    Args:
        file: in memory, at the pickle's first byte.
        rebuilders: function or class -> what stands for its call. Nothing else is called.
        persistent: gives the value for what the pickle says lies outside of it.
        names: which names may stand as values, such as the type of a storage.
        classes: which classes' objects become an `Instance`, without their constructor.

    Returns:
        None, bool, int, float, str, bytes, list, tuple, dict, Name, Instance, and what the functions given return.
        Sets become lists.

    Raises:
        CodeError: it names or calls anything else. PickleError: damaged, or beyond a limit.
    """
    machine = _Machine({**CONTAINERS, **rebuilders}, persistent, names, classes)
    try:
        return machine.run(file)
    except PickleError:
        raise
    except RecursionError:
        raise PickleError("nested too deeply") from None
    except (ValueError, LookupError, TypeError, OverflowError, AttributeError) as error:
        raise PickleError(" ".join(str(error).split())[:100] or type(error).__name__) from None


_MARK = object()


def _put(target: Any, key: Any, value: Any) -> None:
    if not isinstance(target, dict):
        raise PickleError("items are set in what is not a mapping")
    if isinstance(key, tuple) and all(isinstance(part, PLAIN_KEYS) for part in key):
        target[key] = value
        return
    if not isinstance(key, PLAIN_KEYS) or (isinstance(key, int) and abs(key) >= 2**53):
        raise PickleError(f"a key of a mapping is a {type(key).__name__}, which is not plain")
    target[key] = value


class _Machine:
    def __init__(
        self,
        rebuilders: Mapping[Name, Rebuild],
        persistent: Callable[[Any], Any],
        names: Callable[[Name], bool],
        classes: Callable[[Name], bool],
    ) -> None:
        self.rebuilders, self.persistent, self.names, self.classes = rebuilders, persistent, names, classes
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.copied = 0

    def run(self, file: io.BytesIO) -> Any:
        start = file.tell()
        for count, (code, argument, position) in enumerate(pickletools.genops(file)):
            if count > MAX_STEPS or (position or 0) - start > MAX_PICKLE:
                raise PickleError("it is longer than the pickle of any network")
            if code.name == "STOP":
                return self.pop()
            self.step(code.name, argument)
        raise PickleError("it has no end")

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise PickleError("a mark is used as a value")
        return value

    def top(self) -> Any:
        if self.stack[-1] is _MARK:
            raise PickleError("a mark is used as a value")
        return self.stack[-1]

    def since_mark(self) -> list[Any]:
        place = len(self.stack) - 1
        while self.stack[place] is not _MARK:
            place -= 1
            if place < 0:
                raise PickleError("there is no mark")
        values = self.stack[place + 1 :]
        del self.stack[place:]
        return values

    def step(self, code: str, argument: Any) -> None:
        stack = self.stack
        if code in _VALUES:
            stack.append(argument)
        elif code in _CONSTANTS:
            stack.append(_CONSTANTS[code]())
        elif code in ("PROTO", "FRAME"):
            pass
        elif code == "MARK":
            stack.append(_MARK)
        elif code == "POP":
            stack.pop()
        elif code == "POP_MARK":
            self.since_mark()
        elif code == "DUP":
            stack.append(self.top())
        elif code in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self.top()
        elif code == "MEMOIZE":
            self.memo[len(self.memo)] = self.top()
        elif code in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif code == "TUPLE":
            stack.append(tuple(self.since_mark()))
        elif code in ("TUPLE1", "TUPLE2", "TUPLE3"):
            values = [self.pop() for _ in range(int(code[-1]))]
            stack.append(tuple(reversed(values)))
        elif code in ("LIST", "FROZENSET"):
            stack.append(self.since_mark())
        elif code == "DICT":
            stack.append(self.items({}, self.since_mark()))
        elif code in ("APPENDS", "ADDITEMS"):
            self.extend(self.since_mark())
        elif code == "APPEND":
            self.extend([self.pop()])
        elif code == "SETITEMS":
            values = self.since_mark()
            self.items(self.top(), values)
        elif code == "SETITEM":
            value, key = self.pop(), self.pop()
            _put(self.top(), key, value)
        elif code == "GLOBAL":
            self.name(*argument.split(" ", 1))
        elif code == "STACK_GLOBAL":
            name, module = self.pop(), self.pop()
            self.name(module, name)
        elif code == "REDUCE":
            arguments, function = self.pop(), self.pop()
            self.call(function, arguments)
        elif code == "NEWOBJ":
            arguments, kind = self.pop(), self.pop()
            self.new(kind, arguments)
        elif code == "BUILD":
            self.build(self.pop())
        elif code == "BINPERSID":
            stack.append(self.persistent(self.pop()))
        else:  # PERSID, INST, OBJ, NEWOBJ_EX, EXT1, EXT2, EXT4, NEXT_BUFFER, READONLY_BUFFER: no checkpoint has them
            raise CodeError(f"uses the instruction {code}, which no file of weights needs")

    def items(self, target: Any, values: list[Any]) -> Any:
        if len(values) % 2:
            raise PickleError("a key has no value")
        for key, value in zip(values[::2], values[1::2], strict=True):
            _put(target, key, value)
        return target

    def extend(self, values: list[Any]) -> None:
        target = self.top()
        if not isinstance(target, list):
            raise PickleError("values are appended to what is not a list")
        target.extend(values)

    def name(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise PickleError("a name is not text")
        known = Name(module, name)
        if known not in self.rebuilders and not self.names(known) and not self.classes(known):
            raise CodeError(f"names {known}")
        self.stack.append(known)

    def call(self, function: Any, arguments: Any) -> None:
        if not isinstance(arguments, tuple) or not isinstance(function, Name) or function not in self.rebuilders:
            raise CodeError(f"calls {function if isinstance(function, Name) else 'what is not a name'}")
        self.copied += sum(len(one) for one in arguments if isinstance(one, list | tuple | dict | str | bytes))
        if self.copied > MAX_STEPS:
            raise PickleError("it copies the same values again and again")
        self.stack.append(self.rebuilders[function](*arguments))

    def new(self, kind: Any, arguments: Any) -> None:
        if kind == Name("collections", "OrderedDict") and arguments == ():
            self.stack.append({})
        elif isinstance(kind, Name) and self.classes(kind) and arguments == ():
            self.stack.append(Instance(kind))
        else:
            raise CodeError(f"makes a {kind if isinstance(kind, Name) else type(kind).__name__}")

    def build(self, state: Any) -> None:
        target = self.top()
        if isinstance(target, Instance):
            if target.state is not None:
                raise PickleError("an object has two states")
            target.state = state
        elif not isinstance(target, dict):  # a state dict's attributes (its _metadata) are passed over
            raise CodeError(f"sets the state of a {type(target).__name__}")


_VALUES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING"),
    *("SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES"),
    *("BINBYTES8",),
}
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": list,
}


def walk(content: Any, limit: int = 500_000) -> Iterator[Any]:
    """Every value in plain containers, in order, as often as it is written out.

    Raises:
        PickleError: nested too deeply, containing itself, or more than `limit` values.
    """
    left, count = [(content, 0)], 0
    while left:
        value, depth = left.pop()
        count += 1
        if depth > MAX_DEPTH:
            raise PickleError("nested too deeply, or a value contains itself")
        if count > limit:
            raise PickleError(f"it stands for more than {limit} values")
        yield value
        if isinstance(value, dict):
            left += [(inner, depth + 1) for inner in reversed(value.values())]
        elif isinstance(value, list | tuple) and not isinstance(value, Name):
            left += [(inner, depth + 1) for inner in reversed(value)]
        if len(left) > 2 * limit:
            raise PickleError(f"it stands for more than {limit} values")
