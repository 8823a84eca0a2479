"""The hashes with which workers on other machines compare the files that they read."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

from evalkit.data.expected import NOT_HASHED, Expected, hash_now
from evalkit.engine.base import Engine
from evalkit.engine.processes import on_threads


def expected_by(engine: Engine, units: Sequence[Sequence[Path]]) -> Iterator[Expected]:
    """What the files of each unit must be for its worker: hashed here where the engine is remote, else taken as they
    are.
    """
    if not engine.remote:
        yield from itertools.repeat(NOT_HASHED, len(units))
        return
    paths = list(dict.fromkeys(itertools.chain.from_iterable(units)))
    hashes = dict(zip(paths, on_threads(hash_now, paths, None), strict=True))
    for files in units:
        yield Expected({path: hashes[path] for path in files}, far=True)
