"""Opening the engine that a run was asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from evalkit.engine.base import Engine, Local, Name
from evalkit.errors import EvalkitError


@contextmanager
def open_engine(
    name: Name = "local",
    workers: int | None = None,
    address: str | None = None,
    cluster: str | None = None,
    timeout: float | None = None,
    must_see: Iterable[Path] = (),
) -> Iterator[Engine]:
    """The engine that `--engine` and its companions name; a cluster that is started here ends with it.

    Args:
        name: "local" or "dask".
        workers: processes or, of a cluster started here, workers.
        address: of a dask scheduler, e.g. tcp://head:8786.
        cluster: a kind that dask.CLUSTERS names, set up by dask's own configuration.
        timeout: seconds for one unit.
        must_see: files and folders that every worker of a cluster has to see.

    Raises:
        EvalkitError: options that do not go together, distributed is not installed, no scheduler or no worker there.
    """
    if name == "local":
        if address or cluster:
            raise EvalkitError("--address and --cluster are of --engine dask.")
        yield Local(workers, timeout)
        return
    if address and cluster:
        raise EvalkitError("name --address or --cluster, not both.")
    try:
        from evalkit.engine import dask  # an extra: who does not name this engine does not need it
    except ImportError:
        raise EvalkitError("--engine dask needs dask.distributed: pip install 'evalkit[cluster]'.") from None
    dask.quiet()
    if address:
        started: Any = None
    elif cluster:
        started = dask.start_cluster(cluster, workers)
    else:
        started = dask.start_local(Local(workers).slots())
    try:
        client = dask.connect(address, started)
        with client:
            dask.wait_for_worker(client, address)
            yield dask.Dask(client, timeout, tuple(must_see))
    finally:
        if started is not None:
            started.close()
