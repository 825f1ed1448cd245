"""Where labels are computed: any ``concurrent.futures.Executor``, two of our own.

Workers are spawned, never forked (neither torch nor Taichi survives a fork), and each runs
one label at a time in a process of its own, so that a label which kills its worker is
known by name and its neighbours are not touched. A worker whose controller was killed
finishes the label in hand, writes it and leaves.
"""

import multiprocessing
import multiprocessing.util
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait as wait_for_handles
from typing import Any

import torch

from ..errors import EngineError, InputError, Interrupted
from ..protocols import Label, Labeler, Sample
from .label_store import LabelStore, compute

Pool = Callable[[], Executor]
"""Makes an executor; called again when the executor it made is broken."""

_busy = threading.Lock()


class WorkerDied(EngineError):
    """The process that computed a label was killed or crashed."""


def serial() -> Executor:
    """Return an executor that computes in this process, at once."""
    return _Serial()


class _Serial(Executor):
    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def processes(workers: int, threads: int = 1) -> Pool:
    """Return the maker of a pool of spawned worker processes.

    Args:
        workers: number of processes.
        threads: number of threads of each.
    """
    return lambda: Workers(workers, threads)


class Workers(Executor):
    """Spawned processes; one that dies fails its own task alone and is replaced."""

    def __init__(self, workers: int, threads: int = 1) -> None:
        if workers < 1:
            raise InputError(f"workers: {workers} is too few; at least 1")
        self._threads = threads
        self._guides = ThreadPoolExecutor(workers, thread_name_prefix="labels")
        self._idle: queue.SimpleQueue[ProcessPoolExecutor] = queue.SimpleQueue()
        self._slots = [self._fresh() for _ in range(workers)]
        for slot in self._slots:
            slot.submit(os.getpid)  # starts the process while the first models train
            self._idle.put(slot)

    def _fresh(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            1,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_begin_worker,
            initargs=(self._threads,),
        )

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run ``fn`` in the next idle worker.

        Raises (from the future):
            WorkerDied: the process ended before its answer.
        """
        return self._guides.submit(self._run, fn, args, kwargs)

    def _run(self, fn: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        slot = self._idle.get()
        try:
            return slot.submit(_uninterrupted, fn, args, kwargs).result()
        except BrokenProcessPool as error:
            slot.shutdown(wait=False)
            slot = self._fresh()
            raise WorkerDied("the worker process died while computing it") from error
        finally:
            self._idle.put(slot)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Finish the labels in hand and end the processes."""
        self._guides.shutdown(wait=True, cancel_futures=cancel_futures)
        slots = [self._idle.get() for _ in range(self._idle.qsize())]
        with ThreadPoolExecutor(len(slots)) as enders:  # side by side: each takes a while
            list(enders.map(lambda slot: slot.shutdown(wait=wait), slots))


def _begin_worker(threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the controller's business
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "SCALEBRIDGE_THREADS"):
        os.environ[name] = str(threads)
    torch.set_num_threads(threads)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    # Taking torch apart at the end takes half a second and nobody needs it.
    multiprocessing.util.Finalize(None, os._exit, args=(0,), exitpriority=-100)


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    wait_for_handles([parent.sentinel])
    with _busy:
        os._exit(0)


def _uninterrupted(fn: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    with _busy:
        return fn(*args, **kwargs)


def dask(address: str, timeout: float = 10.0) -> Pool:
    """Return the maker of an executor on a running Dask scheduler.

    Args:
        address: of the scheduler, ``tcp://host:8786``.
        timeout: seconds to wait for it.

    Raises (when called):
        InputError: the scheduler does not answer, or ``distributed`` is not installed.
    """

    def connect() -> Executor:
        try:
            from distributed import Client
        except ImportError as error:
            raise InputError(
                "execution.kind: dask needs the extra: pip install 'scalebridge[cluster]'"
            ) from error
        try:
            client = Client(address, timeout=timeout, set_as_default=False)
        except (OSError, ValueError) as error:
            raise InputError(
                f"execution.address: no Dask scheduler answers at {address} "
                f"within {timeout:g} s; finished labels are kept"
            ) from error
        return _Remote(client)

    return connect


class _Remote(Executor):
    """A Dask client; what it started (a cluster of Slurm jobs) ends with it."""

    def __init__(self, client: Any, cluster: Any = None) -> None:
        self._client, self._cluster = client, cluster
        self._executor = client.get_executor(pure=False, retries=0)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        return self._executor.submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._executor.shutdown(wait=wait)
        self._client.close()
        if self._cluster is not None:
            self._cluster.close()


def slurm(workers: int, walltime: str, memory: str, queue: str | None = None) -> Pool:
    """Return the maker of an executor whose workers are Slurm jobs (dask-jobqueue).

    Args:
        workers: number of jobs, one label at a time each.
        walltime: of a job, ``HH:MM:SS``.
        memory: of a job, such as ``8GB``.
        queue: partition; the cluster's default without.

    Raises (when called):
        InputError: dask-jobqueue or Slurm is not there.
    """

    def connect() -> Executor:
        try:
            from dask_jobqueue.slurm import SLURMCluster
        except ImportError as error:
            raise InputError(
                "execution.kind: slurm needs the extra: pip install 'scalebridge[cluster]'"
            ) from error
        cluster = SLURMCluster(
            cores=1, processes=1, memory=memory, walltime=walltime, queue=queue
        )
        try:
            cluster.scale(jobs=workers)
        except (OSError, RuntimeError) as error:
            raise InputError(f"execution: Slurm does not answer: {error}") from error
        return _Remote(cluster.get_client(), cluster)

    return connect


@contextmanager
def opened(make: Pool) -> Iterator["Line"]:
    """Give the line to a pool's executor; running labels end before it closes."""
    line = Line(make)
    try:
        yield line
    finally:
        line.close()


class Line:
    """The executor in use, made anew when it breaks."""

    def __init__(self, make: Pool) -> None:
        self._make = make
        self._executor = make()

    def submit(self, fn: Callable[..., Any], *args: Any) -> Future[Any]:
        """Submit to the executor, or to its successor."""
        try:
            return self._executor.submit(fn, *args)
        except BrokenExecutor:
            self._executor.shutdown(wait=False)
            self._executor = self._make()
            return self._executor.submit(fn, *args)

    def close(self) -> None:
        """Drop what has not begun, wait for what has."""
        self._executor.shutdown(wait=True, cancel_futures=True)


def label_all(
    line: Line,
    store: LabelStore[Sample, Label],
    labeler: Labeler[Sample, Label],
    samples: Sequence[Sample],
    attempts: int = 3,
    asked: threading.Event | None = None,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Ask for every label that is missing; return when each is there or quarantined.

    A failed attempt is recorded with its reason and tried again; after ``attempts``
    failures, restarts included, the sample is left in quarantine.

    Raises:
        Interrupted: ``asked`` was set; labels in hand are finished, the rest is dropped.
    """
    unique = {store.key(sample): sample for sample in samples}
    waiting: dict[Future[Any], str] = {}

    def ask(key: str) -> None:
        if not store.has(key) and len(store.failures(key)) < attempts:
            waiting[line.submit(compute, store, labeler, unique[key])] = key

    for key in unique:
        ask(key)
    while waiting:
        done, _ = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
        for future in done:
            key = waiting.pop(future)
            error = future.exception()
            if error is not None:
                store.add_failure(key, f"{type(error).__name__}: {error}")
                ask(key)
        tell(len(unique) - len(waiting), len(unique))
        if asked is not None and asked.is_set() and waiting:
            for future in waiting:
                future.cancel()
            raise Interrupted("stopped while labelling; finished labels are kept")
