"""The folder of model files that some metrics need, and metrics that depend on what is in it."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from evalkit.errors import DataError
from evalkit.files.read import read_file
from evalkit.metrics.image import Pair, UndefinedError

VARIABLE = "EVALKIT_MODELS"  # the environment variable with the folder; worker processes have it, too
MAX_MODEL = 2**24  # bytes
NO_MODEL = "|no model"


@dataclass(frozen=True)
class Modelled:
    """A metric whose value depends on files of the user's.

    Attributes:
        measure: (pair, the paths of the files) -> value.
        files: their names in the folder.
        source: where to get them.
        folder: that they are in; the one that is named for the program when not given.
    """

    measure: Callable[[Pair, list[Path]], float]
    files: tuple[str, ...]
    source: str
    folder: str | None = None

    def here(self) -> Modelled:
        """With the folder that is named now: for processes that were started before it was."""
        return replace(self, folder=str(models_folder() or ""))

    def _folder(self) -> Path | None:
        if self.folder is None:
            return models_folder()
        return Path(self.folder) if self.folder else None

    def __call__(self, pair: Pair) -> float:
        """The value; raises UndefinedError where a file is missing or not what it should be."""
        folder = self._folder()
        paths = [folder / name for name in self.files] if folder is not None else []
        if missing := [path.name for path in paths if not path.is_file()] or (not paths and self.files):
            where = f"in {folder}" if folder is not None else "given"
            raise UndefinedError(
                f"the model {' and '.join(missing)} is not {where}: get it from {self.source}, and name its folder "
                f"with --models or {VARIABLE}"
            )
        try:
            return self.measure(pair, paths)
        except DataError as error:
            raise UndefinedError(str(error)) from None

    @property
    def parameters(self) -> str:
        """What the value depends on besides the images: the hash of the files, for keys of stored scores."""
        folder = self._folder()
        paths = [folder / name for name in self.files] if folder is not None else []
        if not paths or not all(path.is_file() for path in paths):
            return NO_MODEL
        return "|model " + ",".join(_hash(str(path), *_stamp(path)) for path in paths)


def models_folder() -> Path | None:
    """The folder of the model files; None where nobody names one. Raises DataError where it is not a folder."""
    named = os.environ.get(VARIABLE, "")
    if not named:
        return None
    folder = Path(named).absolute()
    if not folder.is_dir():
        raise DataError(f"{named} is not a folder. Name the folder of the model files with --models or {VARIABLE}.")
    return folder


def name_models(folder: Path) -> None:
    """Take model files from a folder, here and in processes that are started from here. Raises DataError."""
    os.environ[VARIABLE] = str(folder.absolute())
    models_folder()


def _stamp(path: Path) -> tuple[int, int]:
    about = path.stat()
    return about.st_mtime_ns, about.st_size


@functools.lru_cache(maxsize=64)
def _hash(path: str, *stamp: int) -> str:
    return hashlib.sha256(read_file(path, MAX_MODEL)).hexdigest()[:16]
