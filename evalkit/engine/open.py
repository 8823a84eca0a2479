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
        workers: processes or, of a cluster started here, workers.
        address: of a dask scheduler, e.g. tcp://head:8786.
        cluster: a kind that dask.CLUSTERS names, set up by dask's own configuration.
        timeout: seconds for one unit.

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
        from distributed import Client, LocalCluster  # an extra: who does not name this engine does not need it
        from distributed.comm.addressing import get_address_host_port

        from evalkit.engine import dask
    except ImportError:
        raise EvalkitError("--engine dask needs dask.distributed: pip install 'evalkit[cluster]'.") from None
    dask.quiet()
    if address:
        started: Any = None
    elif cluster:
        started = dask.start_cluster(cluster, workers)
    else:
        slots = Local(workers).slots()
        started = LocalCluster(n_workers=slots, threads_per_worker=1, dashboard_address=":0")
    try:
        try:
            if address and not address.startswith("inproc:"):
                get_address_host_port(address)  # a client of what is not an address would never end
            client = Client(address or started, timeout=dask.CONNECT, set_as_default=False)
        except (OSError, ValueError) as error:
            raise EvalkitError(f"no dask scheduler answers at {address}: {error}") from None
        with client:
            dask.wait_for_worker(client, address)
            yield dask.Dask(client, timeout, tuple(must_see))
    finally:
        if started is not None:
            started.close()
