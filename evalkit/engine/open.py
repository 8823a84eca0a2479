"""Opening the engine that a run was asked for."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from evalkit.engine.base import Engine, Local, Name
from evalkit.errors import EvalkitError


@contextmanager
def open_engine(
    engine: Name = "local",
    workers: int | None = None,
    address: str | None = None,
    scheduler_file: str | os.PathLike[str] | None = None,
    timeout: float | None = None,
    must_see: Iterable[Path] = (),
) -> Iterator[Engine]:
    """The engine that `--engine` and its companions name; a cluster that is started here ends with it.

    Args:
        engine: "local" or "dask".
        workers: processes or, of a cluster started here, workers.
        address: of a dask scheduler, e.g. tcp://head:8786. Without it and a scheduler file, dask's own configuration
            may name one (scheduler-address); else a cluster is started here.
        scheduler_file: what `dask scheduler --scheduler-file` wrote, instead of the address.
        timeout: seconds for one unit.
        must_see: files and folders that every worker of a cluster has to see.

    Raises:
        EvalkitError: options that do not go together, distributed is not installed, no scheduler or no worker there.
    """
    if engine == "local":
        if address or scheduler_file:
            raise EvalkitError("--address and --scheduler-file are of --engine dask.")
        yield Local(workers, timeout)
        return
    if address and scheduler_file:
        raise EvalkitError("name --address or --scheduler-file, not both.")
    try:
        from evalkit.engine import dask  # an extra: who does not name this engine does not need it
    except ImportError:
        raise EvalkitError("--engine dask needs dask.distributed: pip install 'evalkit[cluster]'.") from None
    dask.quiet()
    address = dask.find_address(address, Path(scheduler_file) if scheduler_file else None)
    started = None if address else dask.start_local(Local(workers).slots())
    try:
        client = dask.connect(address, started)
        with client:
            dask.wait_for_worker(client, address)
            yield dask.Dask(client, timeout, tuple(must_see))
    finally:
        if started is not None:
            started.close()
