"""Where the work is done: in processes of this machine, or by the workers of a dask cluster. One function, `map`.

A unit is a chunk of pairs to fuse or to measure, or one training. Units are plain data (paths and names); a worker
reads the images itself and writes fused images itself, so that only scores and reasons travel. Scores are written by
the process that started the run, each when its turn comes: a unit that was done twice because a worker died counts
once, and files do not depend on who did what.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from evalkit.errors import EvalkitError, UnknownNameError

if TYPE_CHECKING:
    from distributed import Client, Future

Unit = TypeVar("Unit")
Result = TypeVar("Result")
Item = TypeVar("Item")
Name = Literal["local", "dask"]

# how --cluster names what dask's own configuration describes (~/.config/dask/)
CLUSTERS = {
    "htcondor": "dask_jobqueue.HTCondorCluster",
    "kubernetes": "dask_kubernetes.operator.KubeCluster",
    "lsf": "dask_jobqueue.LSFCluster",
    "oar": "dask_jobqueue.OARCluster",
    "pbs": "dask_jobqueue.PBSCluster",
    "sge": "dask_jobqueue.SGECluster",
    "slurm": "dask_jobqueue.SLURMCluster",
}
PACKAGES = ("evalkit", "numpy", "opencv-python", "pillow", "scipy")  # what a number may depend on
AHEAD = 512  # units that wait at the scheduler; adaptive clusters grow by what waits
CONNECT = 30  # seconds
FIRST_WORKER = 60  # seconds until a cluster that is already there must have a worker
VISIBLE = 10  # seconds until a file of this machine must be seen by a worker: network folders are slow


class Engine(Protocol):
    """Does units of work, in the order given."""

    @property
    def remote(self) -> bool:
        """Whether units travel to other machines, with absolute paths."""

    def slots(self) -> int:
        """How many units run at once, about."""

    def map(
        self, function: Callable[[Unit], Result], units: Iterable[Unit], *, gpu: bool = False, limited: bool = True
    ) -> Iterator[Result]:
        """Results of `function` in the order of the units.

        Args:
            gpu: a unit uses a GPU, or all processors where there is none.
            limited: the engine's timeout holds for each unit; not for trainings.

        Raises:
            EvalkitError: workers died or hung on the same unit again and again, or cannot be reached any more.
        """


@dataclass(frozen=True)
class Local:
    """Processes of this machine; units for a GPU run in this process, one after the other."""

    workers: int | None = None
    timeout: float | None = None
    remote: bool = field(default=False, init=False)

    def slots(self) -> int:
        from evalkit.engine.processes import default_workers

        return self.workers or default_workers()

    def map(
        self, function: Callable[[Unit], Result], units: Iterable[Unit], *, gpu: bool = False, limited: bool = True
    ) -> Iterator[Result]:
        from evalkit.engine.processes import in_processes

        if gpu:
            return map(function, units)
        return in_processes(function, units, self.workers, self.timeout if limited else None)


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
        resources = {"GPU": 1} if gpu and self._has_gpu() else None
        timeout = self.timeout if limited else None
        waiting: deque[Future] = deque()
        try:
            for unit in units:
                arguments = function, unit, environment(), self.must_see, timeout
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
        from concurrent.futures import CancelledError

        from distributed import KilledWorker
        from distributed.comm import CommClosedError

        try:
            return future.result()
        except KilledWorker:
            raise EvalkitError(
                "workers died again and again on the same unit of work: memory ran out, or it took longer than "
                "--timeout. Their logs say which. Give them more memory; what was done is kept."
            ) from None
        except (CancelledError, CommClosedError):
            raise EvalkitError(
                f"the connection to the scheduler at {self.client.scheduler.address} is lost. "
                "Run the same command again when it is back: what was done is kept."
            ) from None


def _do(
    function: Callable[[Unit], Result],
    unit: Unit,
    expected: dict[str, str],
    must_see: Sequence[Path],
    timeout: float | None,
) -> Result:
    """One unit, on a worker: refused where the worker's numbers or files could be others."""
    import cv2

    from evalkit.engine.processes import keep_freed_memory, within

    if different := {name: version for name, version in environment().items() if version != expected[name]}:
        what = ", ".join(f"{name} {version} (here {expected[name]})" for name, version in different.items())
        raise EvalkitError(f"a worker on {os.uname().nodename} has {what}. Install the same versions everywhere.")
    _wait_for(must_see)
    cv2.setNumThreads(1)
    keep_freed_memory()
    return within(timeout, function, unit)


def _wait_for(files: Sequence[Path]) -> None:
    deadline = time.monotonic() + VISIBLE
    while missing := [file for file in files if not file.exists()]:
        if time.monotonic() > deadline:
            raise EvalkitError(
                f"a worker on {os.uname().nodename} does not see {missing[0]}. Data, outputs and --out must lie in "
                "folders that all workers see under the same path."
            )
        time.sleep(0.5)


@cache
def environment() -> dict[str, str]:
    """What the numbers of this process may depend on: versions, and the limit on pixels."""
    from evalkit.data.images import max_pixels
    from evalkit.provenance import version_of

    return {name: version_of(name) or "none" for name in PACKAGES} | {"a limit of pixels": str(max_pixels())}


def chunks(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    """Neighbours, at most `size` together."""
    return [items[i : i + size] for i in range(0, len(items), size)]


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
        cluster: one of CLUSTERS, set up by dask's own configuration.
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
        from distributed import Client, LocalCluster
    except ImportError:
        raise EvalkitError("--engine dask needs dask.distributed: pip install 'evalkit[cluster]'.") from None
    _quiet()
    if address:
        started: Any = None
    elif cluster:
        started = _start_cluster(cluster, workers)
    else:
        slots = Local(workers).slots()
        started = LocalCluster(n_workers=slots, threads_per_worker=1, dashboard_address=":0")
    try:
        try:
            client = Client(address or started, timeout=CONNECT, set_as_default=False)
        except (OSError, ValueError) as error:
            raise EvalkitError(f"no dask scheduler answers at {address}: {error}") from None
        with client:
            _wait_for_worker(client, address)
            yield Dask(client, timeout, tuple(must_see))
    finally:
        if started is not None:
            started.close()


def _quiet() -> None:
    """What dask logs of lost connections, with tracebacks, ends here as one sentence of an error."""
    for name in ("distributed", "distributed.client", "tornado", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _start_cluster(name: str, workers: int | None) -> Any:
    if name not in CLUSTERS:
        raise UnknownNameError("kind of cluster", name, CLUSTERS)
    if workers is None:
        raise EvalkitError("--cluster needs --workers: how many it shall start.")
    module, _, kind = CLUSTERS[name].rpartition(".")
    try:
        made = getattr(import_module(module), kind)()
    except ImportError:
        raise EvalkitError(f"--cluster {name} needs {module.partition('.')[0]}: pip install it.") from None
    except Exception as error:  # whatever a configuration that lacks something makes it raise
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise EvalkitError(f"--cluster {name} cannot be set up from dask's configuration: {first}") from None
    made.scale(workers)
    return made


def _wait_for_worker(client: Client, address: str | None) -> None:
    """A queue may take hours to start the first worker; a cluster that is already there has one."""
    if address is None:
        return
    from distributed import TimeoutError

    try:
        client.wait_for_workers(1, timeout=FIRST_WORKER)
    except (TimeoutError, OSError):
        raise EvalkitError(
            f"the scheduler at {address} has no workers. Start some: dask worker {address} --nthreads 1"
        ) from None
