"""The workers of a dask cluster, and what is checked before one of them does anything."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from traceback import walk_tb
from typing import Any

import cloudpickle
import cv2
import dask
from distributed import Client, Future, KilledWorker, LocalCluster, TimeoutError, get_worker
from distributed.comm import CommClosedError
from distributed.comm.addressing import get_address_host_port

from evalkit.compiled.kernels import compiled
from evalkit.data.images import max_pixels
from evalkit.engine.base import Result, Unit
from evalkit.engine.processes import keep_freed_memory, within
from evalkit.errors import DataError, EvalkitError, OtherBytesError
from evalkit.files.read import parse_json, read_file
from evalkit.provenance import source_hash, version_of
from evalkit.registry import Plugins

PACKAGES = ("evalkit", "numpy", "opencv-python", "pillow", "scipy")  # what a number may depend on
AHEAD = 512  # units that wait at the scheduler; adaptive clusters grow by what waits
CONNECT = 30  # seconds
FIRST_WORKER = 60  # seconds until a cluster that is already there must have a worker
LOOK = 10  # seconds between two looks whether there are workers
NO_WORKERS = 600  # seconds: a queue may start the next ones later
VISIBLE = 10  # seconds until a file of this machine must be seen by a worker: network folders are slow


@dataclass(frozen=True)
class Dask:
    """The workers of a dask cluster. Those with the resource GPU take the units for a GPU, where there are any.

    Attributes:
        must_see: files and folders that a worker has to see before it does anything.
    """

    client: Client
    timeout: float | None = None
    must_see: tuple[Path, ...] = ()
    remote: bool = field(default=True, init=False)

    def slots(self) -> int:
        return max(1, sum(self.client.nthreads().values()))

    def map(
        self, function: Callable[[Unit], Result], units: Iterable[Unit], *, gpu: bool = False, limited: bool = True
    ) -> Iterator[Result]:
        """Results of `function` in the order of the units, AHEAD of them at most given out.

        Args:
            function: what is done with a unit; picklable with cloudpickle.
            units: plain data, with absolute paths.
            gpu: a unit uses a GPU: where the cluster has workers with the resource GPU, these do it.
            limited: the timeout holds for each unit.

        Raises:
            EvalkitError: workers died or hung on the same unit again and again, or cannot be reached any more.
        """
        resources = {"GPU": 1} if gpu and self._has_gpu() else None
        timeout = self.timeout if limited else None
        waiting: deque[Future] = deque()
        plugins = Plugins.here()
        try:
            for unit in units:
                # what a plug-in defines can be read again only by a worker that has loaded it: as bytes until then
                work = cloudpickle.dumps((function, unit))
                arguments = work, environment(), plugins, self.must_see, timeout
                waiting.append(self.client.submit(_do, *arguments, pure=False, resources=resources))
                if len(waiting) >= AHEAD:
                    yield self._result(waiting.popleft())
            while waiting:
                yield self._result(waiting.popleft())
        finally:
            if waiting and self.client.status == "running":
                self.client.cancel(list(waiting))

    def _has_gpu(self) -> bool:
        workers = self.client.scheduler_info(n_workers=-1)["workers"].values()
        return any(worker["resources"].get("GPU") for worker in workers)

    def _result(self, future: Future) -> Any:
        try:
            return self._wait(future)
        except KilledWorker:
            raise EvalkitError(
                "workers died again and again on the same unit of work: memory ran out, or it took longer than "
                "--timeout. Their logs say which. Give them more memory; what was done is kept."
            ) from None
        except (CancelledError, CommClosedError):
            raise EvalkitError(
                f"the connection to the scheduler at {self._address} is lost. "
                "Run the same command again when it is back: what was done is kept."
            ) from None
        except Exception as error:
            if isinstance(error, EvalkitError) or _has_begun(error):
                raise
            raise EvalkitError(
                f"a worker or the scheduler at {self._address} cannot run evalkit as it is here "
                f"({str(error.__cause__ or error).splitlines()[0]}). Install the same version of evalkit everywhere."
            ) from None

    @property
    def _address(self) -> str:
        return getattr(self.client.scheduler, "address", "?")

    def _wait(self, future: Future) -> Any:
        """The result. Raises EvalkitError where there is no worker any more that could give it."""
        last_seen = time.monotonic()
        while True:
            try:
                return future.result(timeout=LOOK)
            except TimeoutError:
                if future.done():  # meanwhile, or the error is the unit's own
                    return future.result()
                if self.client.nthreads():
                    last_seen = time.monotonic()
                elif time.monotonic() - last_seen > NO_WORKERS:
                    raise EvalkitError(
                        f"the scheduler at {self._address} has had no worker for {NO_WORKERS:g} seconds: their logs "
                        "say why. Start some, and run the same command again: what was done is kept."
                    ) from None


def _has_begun(error: BaseException) -> bool:
    """Whether an error comes from the unit itself, and not from a worker that could not even load it."""
    return any(frame.f_code.co_name == _do.__name__ for frame, _ in walk_tb(error.__traceback__))


def _do(
    work: bytes, expected: dict[str, str], plugins: Plugins, must_see: Sequence[Path], timeout: float | None
) -> Any:
    """One unit, on a worker: refused where the worker's numbers or files could be others."""
    _wait_for([*must_see, *(Path(plugin) for plugin in plugins.named if plugin.endswith(".py"))])
    plugins.need()
    own = environment()
    if different := [name for name in sorted({*own, *expected}) if own.get(name) != expected.get(name)]:
        each = [f"{name} {own.get(name, 'missing')} (here {expected.get(name, 'missing')})" for name in different]
        raise EvalkitError(f"{_worker()} has {', '.join(each)}. Install the same versions everywhere.")
    cv2.setNumThreads(1)
    keep_freed_memory()
    function, unit = cloudpickle.loads(work)
    try:
        return within(timeout, function, unit)
    except OtherBytesError as error:
        raise EvalkitError(
            f"{_worker()} {str(error).rstrip('.')}. All workers must see the same files under the same path; what was "
            "done is kept."
        ) from None


def _worker() -> str:
    return f"the worker {get_worker().address} on {os.uname().nodename}"


def _wait_for(files: Sequence[Path]) -> None:
    deadline = time.monotonic() + VISIBLE
    while missing := [file for file in files if not file.exists()]:
        if time.monotonic() > deadline:
            raise EvalkitError(
                f"{_worker()} does not see {missing[0]}. Data, outputs and --out must lie in "
                "folders that all workers see under the same path."
            )
        time.sleep(0.5)


@cache
def environment() -> dict[str, str]:
    """What the numbers of this process may depend on besides plug-ins: versions, and the limit on pixels."""
    return {name: version_of(name) or "none" for name in PACKAGES} | {
        "evalkit's code": source_hash()[:12],
        "a limit of pixels": str(max_pixels()),
        "metrics by": "compiled kernels" if compiled() else "NumPy",
    }


def quiet() -> None:
    """What dask logs of lost connections, with tracebacks, ends here as one sentence of an error."""
    for name in ("distributed", "distributed.client", "tornado", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def start_local(workers: int) -> LocalCluster:
    """Workers of this machine, one thread each."""
    return LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=":0")


def find_address(address: str | None, scheduler_file: Path | None) -> str | None:
    """Where the scheduler is: as named, as its file says, or as dask's own configuration has it.

    Raises:
        DataError: the file cannot be read, or is not one that `dask scheduler --scheduler-file` wrote.
    """
    if scheduler_file is None:
        return address or dask.config.get("scheduler-address", None)
    content = parse_json(read_file(scheduler_file), scheduler_file)
    if not isinstance(content, dict) or not isinstance(content.get("address"), str):
        raise DataError(
            f"{scheduler_file} does not say where a scheduler is. Give the file of dask scheduler --scheduler-file."
        )
    return content["address"]


def connect(address: str | None, started: LocalCluster | None) -> Client:
    """A client of the scheduler at an address, or of the cluster that was started.

    Certificates for tls:// addresses are those of dask's own configuration (distributed.comm.tls).

    Raises:
        EvalkitError: what is not an address, no scheduler there, or no certificates.
    """
    try:
        if address and not address.startswith("inproc:"):
            get_address_host_port(address)  # a client of what is not an address would never end
        return Client(address or started, timeout=CONNECT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise EvalkitError(f"no dask scheduler answers at {address}: {error}") from None
    except TypeError:  # how distributed says that it has no certificates
        raise EvalkitError(
            f"{address} needs certificates: name them in dask's configuration, distributed.comm.tls, or by "
            "DASK_DISTRIBUTED__COMM__TLS__CA_FILE, ...__CLIENT__CERT and ...__CLIENT__KEY."
        ) from None


def wait_for_worker(client: Client, address: str | None) -> None:
    """A cluster that is already there has a worker, or gets one soon.

    Raises:
        EvalkitError: it gets none, or one of them has no evalkit.
    """
    if address is None:
        return
    try:
        client.wait_for_workers(1, timeout=FIRST_WORKER)
    except (TimeoutError, OSError):
        raise EvalkitError(
            f"the scheduler at {address} has no workers. Start some: dask worker {address} --nthreads 1"
        ) from None
    # one that has none would end with the first unit, and so would whoever gets that unit next
    tried = client.run(import_module, "evalkit", on_error="return")
    for worker, outcome in tried.items():
        if isinstance(outcome, BaseException):
            raise EvalkitError(
                f"the worker {worker} cannot import evalkit ({outcome}). Install the same version everywhere."
            )
