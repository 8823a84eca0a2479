"""One registry for every kind of thing that evalkit has and a user can add, and the plug-ins that add them.

What ships is registered the same way as what comes from outside: a kind's home module does it when the kind is first
asked for. Plug-ins are loaded then, too: installed packages that declare the entry point group `evalkit`, and what
`--plugin` or the environment variable EVALKIT_PLUGINS names.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import platform
import re
import secrets
import sys
import warnings
from collections.abc import Callable, ItemsView, Iterator, Mapping, ValuesView
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass
from importlib import metadata
from pathlib import Path
from typing import Generic, TypeVar

from evalkit.errors import EvalkitError, PluginError, PluginWarning, UnknownNameError, nearest
from evalkit.files.read import read_file

Item = TypeVar("Item")

GROUP = "evalkit"  # of entry points
VARIABLE = "EVALKIT_PLUGINS"  # paths and module names, between os.pathsep as in PATH; worker processes inherit it
MOST_BYTES = 2**30  # of a plug-in's files, which are hashed
MOST_TOLD = 300  # characters of what a plug-in raised
YAML = (".yaml", ".yml")


@dataclass(frozen=True)
class Plugin:
    """Where something that does not ship comes from."""

    name: str
    version: str = ""
    hash: str = ""  # SHA-256 of its files

    def __str__(self) -> str:
        return f"{self.name} {self.version}".strip()

    @property
    def revision(self) -> str:
        """What stored results of its code depend on; nothing for evalkit's own, which counts its revisions itself."""
        if self is SHIPPED:
            return ""
        return f"{_THIS_RUN}-{_registered_by_program}" if self is PROGRAM else self.hash


SHIPPED = Plugin("evalkit")
PROGRAM = Plugin("this program")  # registered by the running program itself, which no other process can load
_THIS_RUN = secrets.token_hex(16)  # stands for the program's code, of which no hash is known: nothing of it is reused
_registered_by_program = 0  # a cell of a notebook that runs again registers other code under the same name


class Registry(Mapping[str, Item], Generic[Item]):
    """The items of one kind by name, in the order in which they were registered; those that ship come first.

    A mapping by exact names. `find` takes any case, aliases, and where the kind has a reader, the path of a YAML file.

    Args:
        kind: in words, for messages: "data set".
        home: the module whose `register_shipped` registers what ships, called when the kind is first asked for.
        read: makes an item from a YAML file.
        hint: for the message about an unknown name.
    """

    def __init__(self, kind: str, home: str, read: Callable[[str], Item] | None = None, hint: str = "") -> None:
        self.kind, self.home, self.read, self.hint = kind, home, read, hint
        self._items: dict[str, Item] = {}
        self._names: dict[str, str] = {}  # folded name or alias -> name
        self._origins: dict[str, Plugin] = {}
        _REGISTRIES.append(self)

    def add(self, name: str, item: Item, aliases: tuple[str, ...] = ()) -> None:
        """Register an item; the running program may register its own anew, as a cell of a notebook does.

        Args:
            name: what it is listed as; found in any case.
            item: what the name stands for.
            aliases: other names that find it, in any case; they are not listed.

        Raises:
            EvalkitError: the name or an alias is taken; names both who registered it.
        """
        global _registered_by_program
        if _origin is not SHIPPED:
            self._fill()
        for each in dict.fromkeys((name, *aliases)):
            other = self._names.get(each.casefold())
            if other is not None and not (other == name and _origin is PROGRAM is self._origins[other]):
                raise EvalkitError(
                    f"{_origin} registers the {self.kind} {each!r}, which {self._origins[other]} has registered"
                    f"{'' if other == each else f' as {other!r}'}. Give it another name."
                )
        for each in (name, *aliases):
            self._names[each.casefold()] = name
        self._items[name], self._origins[name] = item, _origin
        _registered_by_program += _origin is PROGRAM

    def find(self, name: str) -> Item:
        """The item of that name or alias, whatever the case, or of a YAML file.

        Raises:
            UnknownNameError: with the nearest names.
            DataError: a YAML file that cannot be read.
            PluginError: a plug-in that was named cannot be loaded.
        """
        if self.read is not None and name.lower().endswith(YAML):
            return self.read(name)
        return self[self.name_of(name)]

    def name_of(self, name: str) -> str:
        """The registered spelling of a name or alias. Raises UnknownNameError."""
        self._ready()
        try:
            return self._names[name.casefold()]
        except KeyError:
            plugin = "" if nearest(name, self._items) else "What a plug-in adds is known with --plugin FILE.py."
            raise UnknownNameError(self.kind, name, self._items, f"{self.hint} {plugin}".strip()) from None

    def origin(self, name: str) -> Plugin:
        """Who registered the item of that exact name."""
        self._ready()
        return self._origins[name]

    def __getitem__(self, name: str) -> Item:
        self._ready()
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        self._ready()
        return iter(self._items)

    def __len__(self) -> int:
        self._ready()
        return len(self._items)

    def values(self) -> ValuesView[Item]:
        """All items; ready once, not once for each."""
        self._ready()
        return self._items.values()

    def items(self) -> ItemsView[str, Item]:
        """All names with their items; ready once, not once for each."""
        self._ready()
        return self._items.items()

    def _ready(self) -> None:
        self._fill()
        load_plugins()

    def _fill(self) -> None:
        if self.home not in _homes:
            _homes.add(self.home)  # first: registering may look at what is registered so far
            with _registering(SHIPPED):
                importlib.import_module(self.home).register_shipped()

    def _forget(self, origin: Plugin) -> None:
        for name in [name for name, its in self._origins.items() if its is origin]:  # two may be equal
            del self._items[name], self._origins[name]
        self._names = {each: name for each, name in self._names.items() if name in self._items}


_REGISTRIES: list[Registry] = []
_homes: set[str] = set()  # whose things are registered
_origin: Plugin = PROGRAM
_loaded: dict[str, Plugin] = {}  # what was named -> what it is
_installed_are_loaded = False


@contextmanager
def _registering(origin: Plugin) -> Iterator[None]:
    global _origin
    before, _origin = _origin, origin
    try:
        yield
    finally:
        _origin = before


def origin_of(kind: str, name: str) -> Plugin:
    """Who registered the thing of that kind and exact name."""
    return next(registry.origin(name) for registry in _REGISTRIES if registry.kind == kind and name in registry)


def current_origin() -> Plugin:
    """Who registers now: a plug-in that is being loaded, evalkit, or the running program."""
    return _origin


def name_plugin(plugin: str) -> None:
    """Have a plug-in loaded, here and in worker processes: the path of a .py file, or the name of a module.

    Raises:
        PluginError: a path that EVALKIT_PLUGINS cannot hold.
    """
    if os.pathsep in plugin:
        raise PluginError(f"the plug-in {plugin} cannot be loaded: its path holds {os.pathsep!r}.")
    named = named_plugins()
    if _absolute(plugin) not in named:
        os.environ[VARIABLE] = os.pathsep.join([*named, _absolute(plugin)])


def named_plugins() -> list[str]:
    """What `--plugin` and EVALKIT_PLUGINS name; files by their absolute paths."""
    return [_absolute(part) for part in os.environ.get(VARIABLE, "").split(os.pathsep) if part]


def _absolute(plugin: str) -> str:
    return os.path.abspath(plugin) if plugin.endswith(".py") else plugin


def load_plugins() -> None:
    """Load every plug-in that was not loaded yet; does nothing while one is being loaded.

    An installed one that cannot be loaded is warned of and left out; what it registered before it failed is undone.

    Raises:
        PluginError: one that was named by `--plugin` or EVALKIT_PLUGINS cannot be loaded.
    """
    global _installed_are_loaded
    if _origin is not PROGRAM:
        return
    if not _installed_are_loaded:
        _installed_are_loaded = True
        for entry in sorted(metadata.entry_points(group=GROUP), key=lambda entry: (entry.name, entry.value)):
            version = entry.dist.version if entry.dist else ""
            try:
                _load(entry.value, Plugin(entry.dist.name if entry.dist else entry.name, version))
            except PluginError as error:
                warnings.warn(f"{error} The rest goes on without it.", PluginWarning, stacklevel=2)
    for name in named_plugins():
        _load(name, Plugin(os.path.basename(name)))


def plugins() -> list[dict[str, str]]:
    """The loaded plug-ins, as records name them: name, version, hash."""
    load_plugins()
    return [asdict(plugin) for plugin in sorted(set(_loaded.values()), key=astuple)]


@dataclass(frozen=True)
class Plugins:
    """What a process has loaded, for its workers."""

    named: tuple[str, ...]
    loaded: tuple[Plugin, ...]

    @classmethod
    def here(cls) -> Plugins:
        """Those of this process."""
        load_plugins()
        return cls(tuple(named_plugins()), tuple(dict.fromkeys(_loaded.values())))

    def need(self) -> None:
        """Load the same ones in this process.

        Raises:
            PluginError: one is not here, or has other files here.
        """
        os.environ[VARIABLE] = os.pathsep.join(self.named)
        load_plugins()
        for plugin in self.loaded:
            if plugin not in _loaded.values():
                own = next((f"with the hash {p.hash[:12]}" for p in _loaded.values() if p.name == plugin.name), "not")
                raise PluginError(
                    f"a worker on {platform.node()} has the plug-in {plugin} {own}; where the run was started it has "
                    f"the hash {plugin.hash[:12]}. Have the same files everywhere, and start run and workers anew."
                )


def _load(name: str, plugin: Plugin) -> None:
    module = name if name.endswith(".py") else name.partition(":")[0]
    if module in _loaded:
        return
    shown = name if name.endswith(".py") else str(plugin)
    try:
        if name.endswith(".py"):
            data = read_file(name)  # once: what is hashed is what runs
            plugin = Plugin(plugin.name, "", hashlib.sha256(data).hexdigest())
            with _registering(plugin):
                _run(data, Path(name), plugin.hash)
        else:
            plugin = Plugin(plugin.name, plugin.version, _hash_of_package(module))
            with _registering(plugin):
                importlib.import_module(module)
    except Exception as error:  # a plug-in is a stranger's code: it may raise anything
        for registry in _REGISTRIES:
            registry._forget(plugin)
        reason = str(error) if isinstance(error, EvalkitError) else f"{type(error).__name__}: {error}"
        if isinstance(error, SyntaxError):
            reason = f"line {error.lineno} is not Python ({error.msg})"
        reason = " ".join(reason.split())[:MOST_TOLD].removesuffix(".")
        raise PluginError(f"the plug-in {shown} cannot be loaded: {reason}.") from error
    _loaded[module] = plugin


def _run(data: bytes, path: Path, sha: str) -> None:
    # a module of its own, by which workers find its functions again; two files may have one name
    name = f"evalkit_plugin_{re.sub(r'[^0-9A-Za-z_]', '_', path.stem)}_{sha[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs: dataclasses look themselves up there
    try:
        exec(compile(data, str(path), "exec"), module.__dict__)  # noqa: S102 - the user names code to run
    except BaseException:
        del sys.modules[name]
        raise


def _hash_of_package(module: str) -> str:
    """SHA-256 of all files of a module's package, or of the file of a module without one. Nothing of it is run."""
    package = module.partition(".")[0]
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise EvalkitError(f"there is no module {package}. Install it, or give the path of a .py file")
    files = {Path(spec.origin).name: Path(spec.origin)} if spec.origin else {}
    for folder in map(Path, spec.submodule_search_locations or ()):
        inside = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        files |= {path.relative_to(folder).as_posix(): path for path in inside}
    digest = hashlib.sha256()
    for name, path in sorted(files.items()):
        digest.update(hashlib.sha256(read_file(path, MOST_BYTES)).digest() + name.encode(errors="replace") + b"\n")
    return digest.hexdigest()
