"""Where labels are computed: any ``concurrent.futures.Executor``, two of our own.

What a scenario names is a part that makes an executor when it is called, and that may have
``missing()`` as labelers do (:mod:`.labelers`).

Workers are spawned, never forked (neither torch nor Taichi survives a fork), and each runs
one label at a time in a process of its own, so that a label which kills its worker is
known by name and the others go on. A worker whose controller was killed finishes its
current label, writes it and ends.
"""

import contextlib
import importlib.util
import inspect
import multiprocessing
import multiprocessing.util
import os
import queue
import re
import shutil
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
from dataclasses import field
from multiprocessing.connection import wait as wait_for_handles
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt, Le
from pydantic import Field

from ...models.parts import Family, part
from ..errors import EngineError, InputError, Interrupted
from ..protocols import Label, Labeler, Sample
from .label_store import LabelStore, compute
from .labelers import absent

EXECUTORS = Family(
    "executor",
    __name__.rpartition(".")[0],
    {
        "serial": "execution:Serial",
        "processes": "execution:Processes",
        "dask": "execution:Dask",
        "slurm": "execution:Slurm",
        "pbs": "execution:Pbs",
        "lsf": "execution:Lsf",
        "sge": "execution:Sge",
    },
)
"""Every place of computing that a scenario can name."""

Count = Annotated[int, Ge(1), Le(1000)]
Option = str | int | float | bool | None | list[Any] | dict[str, Any]
Pool = Callable[[], Executor]
"""Makes an executor; called again when the executor it made is broken."""

_busy = threading.Lock()


class WorkerDied(EngineError):
    """The process that computed a label was killed or crashed."""


class LabelTooLong(EngineError):
    """A label took longer than its time limit."""


@part
class Serial:
    """Labels are computed one by one in the controller's process."""

    kind: Literal["serial"] = "serial"

    def __call__(self) -> Executor:
        """Return an executor that computes at once."""
        return _Immediate()


class _Immediate(Executor):
    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


@part
class Processes:
    """Labels are computed by worker processes of this machine."""

    workers: Count = 2
    """Processes."""
    threads: Count = 1
    """Threads of each."""
    seconds: Annotated[float, Gt(0)] | None = None
    """Time limit of a label: its worker is killed with all that it started, and the label
    has failed."""
    kind: Literal["processes"] = "processes"

    def __call__(self) -> Executor:
        """Return a pool of spawned processes."""
        return Workers(self.workers, self.threads, self.seconds)


class Workers(Executor):
    """Spawned processes; one that dies fails its own task only and is replaced."""

    def __init__(
        self, workers: int, threads: int = 1, seconds: float | None = None
    ) -> None:
        if workers < 1:
            raise InputError(f"workers: {workers} is too few; at least 1")
        self._threads, self._seconds = threads, seconds
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
            LabelTooLong: the time limit was reached.
        """
        return self._guides.submit(self._run, fn, args, kwargs)

    def _run(self, fn: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        slot = self._idle.get()
        try:
            # the start of a process and its imports do not count
            slot.submit(_imported, fn, args).result()
            task = slot.submit(_uninterrupted, fn, args, kwargs)
            return task.result(self._seconds)
        except TimeoutError as error:
            workers = list(slot._processes)
            _signal(workers, signal.SIGTERM)
            wait([task], _GRACE)
            _signal(workers, signal.SIGKILL)
            slot.shutdown(wait=False)
            slot = self._fresh()
            raise LabelTooLong(f"took longer than {self._seconds:g} s") from error
        except BrokenProcessPool as error:
            slot.shutdown(wait=False)
            slot = self._fresh()
            raise WorkerDied("the worker process died while computing it") from error
        finally:
            self._idle.put(slot)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Finish the running labels and end the processes."""
        self._guides.shutdown(wait=True, cancel_futures=cancel_futures)
        slots = [self._idle.get() for _ in range(self._idle.qsize())]
        with ThreadPoolExecutor(len(slots)) as enders:  # side by side: each takes a while
            list(enders.map(lambda slot: slot.shutdown(wait=wait), slots))


_GRACE = 2.0
"""Seconds in which a label that is told to end may end what it started."""


def _signal(groups: Sequence[int], number: signal.Signals) -> None:
    for group in groups:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, number)


def _give_up(number: int, frame: Any) -> None:
    if not _busy.locked():
        os._exit(0)
    raise LabelTooLong("told to end")  # a labeler ends programs in groups of their own


def _begin_worker(threads: int) -> None:
    os.setpgrp()  # so that a label can be ended with the programs that it started
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is handled by the controller
    signal.signal(signal.SIGTERM, _give_up)
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


def _imported(fn: Callable[..., Any], args: Any) -> None:
    """Unpack a task, and do nothing."""


def _uninterrupted(fn: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    with _busy:
        return fn(*args, **kwargs)


@part
class Dask:
    """Labels are computed by the workers of a running Dask scheduler."""

    address: str
    """Of the scheduler, tcp://HOST:PORT; the workers must see the run folder."""
    timeout: Annotated[float, Gt(0)] = 10.0
    """How long to wait for it, seconds."""
    kind: Literal["dask"] = "dask"

    def __post_init__(self) -> None:
        if not re.fullmatch(
            r"(tcp|tls)://(\[[\da-fA-F:.]+\]|[^\s:/]+):\d{1,5}", self.address
        ):
            raise ValueError(f"address {self.address!r}: the form is tcp://HOST:PORT")

    def missing(self) -> str:
        """Return how to install Dask; empty if it is there."""
        return absent("distributed", "cluster")

    def __call__(self) -> Executor:
        """Return an executor on the scheduler.

        Raises:
            InputError: it does not answer.
        """
        from distributed import Client

        try:
            client = Client(self.address, timeout=self.timeout, set_as_default=False)
        except (OSError, ValueError) as error:
            raise InputError(
                f"execution.address: no Dask scheduler answers at {self.address} "
                f"within {self.timeout:g} s; finished labels are kept"
            ) from error
        return _Remote(client)


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


_OWN = frozenset(
    (
        "self", "args", "kwargs", "job_kwargs", "base_class_kwargs", "n_workers", "job_cls",
        "loop", "asynchronous", "scheduler", "name", "cores", "processes", "memory",
        "walltime", "queue", "account", "project", "job_extra_directives", "job_extra",
        "job_script_prologue", "env_extra", "job_directives_skip", "header_skip",
        "interface", "local_directory", "python", "extra", "scheduler_cls", "security",
    )
)  # fmt: skip
"""Arguments of dask-jobqueue that have a key of their own, or that no file can hold."""


@part
class _Queue:
    """Labels are computed by jobs of a batch system (dask-jobqueue)."""

    workers: Count = 4
    """Jobs, one label at a time each."""
    walltime: Annotated[str, Field(pattern=r"^\d+:\d\d:\d\d$")] = "04:00:00"
    """Of a job; labels that it cuts off are asked for again."""
    memory: Annotated[str, Field(pattern=r"^\d+(\.\d+)? ?[kKMGT]?i?B$")] = "4GB"
    """Of a job, such as 8GB."""
    cores: Count = 1
    """Of a job; one label uses all."""
    queue: str | None = None
    """Partition or queue; the cluster's default without."""
    account: str | None = None
    """That pays for the jobs."""
    directives: tuple[str, ...] = ()
    """Further options of the batch system, one a line of the job script, without its
    prefix: "--gres=gpu:1", "--qos=high", "--constraint=skylake"."""
    prologue: tuple[str, ...] = ()
    """Lines of the job script before the worker: "module load vasp", "export ..."."""
    skip: tuple[str, ...] = ()
    """Lines of the job script that contain one of these are left out."""
    interface: str | None = None
    """Network of the workers: "ib0"."""
    scratch: str | None = None
    """Local folder of the workers."""
    python: str | None = None
    """Interpreter on the nodes; this one's without."""
    options: dict[str, Option] = field(default_factory=dict)
    """Every other option of dask-jobqueue for this batch system, by its name:
    {job_name = "labels", log_directory = "logs", death_timeout = 600, job_mem = "6GB"}."""
    retry: Annotated[float, Gt(0)] = 30.0
    """Seconds after which jobs that ended are submitted again."""

    def __post_init__(self) -> None:
        known = self._options()
        unknown = [name for name in self.options if name not in known]
        if unknown and known:
            raise ValueError(
                f"options.{unknown[0]}: no option of dask-jobqueue for {self._system}; "
                f"allowed are {', '.join(sorted(known))}"
            )

        self._worker()

    def _worker(self) -> list[str]:
        """Return further arguments of the worker's command.

        Raises:
            ValueError: they are no list of texts.
        """
        given = self.options.get("worker_extra_args", [])
        if isinstance(given, list):
            texts = [word for word in given if isinstance(word, str)]
            if len(texts) == len(given):
                return texts
        raise ValueError(f"options.worker_extra_args: {given!r} is no list of texts")

    def _options(self) -> set[str]:
        """Return what ``options`` may hold; nothing where dask-jobqueue is not here."""
        if importlib.util.find_spec("dask_jobqueue") is None:
            return set()
        cluster = self._kind()
        names: set[str] = set()
        for place in (*cluster.__mro__, *cluster.job_cls.__mro__):
            if place.__module__.startswith("dask_jobqueue"):
                names |= set(inspect.signature(place.__init__).parameters)
        return names - _OWN

    def missing(self) -> str:
        """Return what is not here: dask-jobqueue or the command that submits."""
        if shutil.which(self._submits) is None:
            said = f"{self._submits} of {self._system} is not on PATH"
            return absent("dask_jobqueue", "cluster") or said
        return absent("dask_jobqueue", "cluster")

    def __call__(self) -> Executor:
        """Return an executor whose workers are jobs.

        Raises:
            InputError: the batch system does not answer.
        """
        cluster = self.cluster()
        try:
            # adaptive: a job that is gone, cut off or refused is submitted again
            cluster.adapt(
                minimum_jobs=self.workers, maximum_jobs=self.workers,
                interval=f"{self.retry:g}s",
            )  # fmt: skip
        except (OSError, RuntimeError) as error:
            said = f"execution: {self._system} does not answer: {error}"
            raise InputError(said) from error
        return _Remote(cluster.get_client(), cluster)

    def cluster(self) -> Any:
        """Return the cluster of dask-jobqueue, with no job yet."""
        own = {
            "cores": self.cores, "processes": 1, "memory": self.memory,
            "walltime": self.walltime, "queue": self.queue, self._payer: self.account,
            "job_extra_directives": list(self.directives),
            "job_script_prologue": [
                f"export OMP_NUM_THREADS={self.cores}", *self.prologue
            ],
            "job_directives_skip": list(self.skip), "interface": self.interface,
            "local_directory": self.scratch, "python": self.python,
        }  # fmt: skip
        # one label at a time, however many cores it uses
        worker = ["--nthreads", "1", *self._worker()]
        given = {key: value for key, value in own.items() if value is not None}
        return self._kind()(**{**given, **self.options, "worker_extra_args": worker})

    _system = ""
    _submits = ""
    _payer = "account"

    def _kind(self) -> Any:
        """Return dask-jobqueue's class of clusters of this batch system."""
        module = importlib.import_module(f"dask_jobqueue.{self._system.lower()}")
        return getattr(module, f"{self._system.upper()}Cluster")


@part
class Slurm(_Queue):
    """Labels are computed by Slurm jobs."""

    kind: Literal["slurm"] = "slurm"
    _system = "Slurm"
    _submits = "sbatch"


@part
class Pbs(_Queue):
    """Labels are computed by PBS jobs."""

    kind: Literal["pbs"] = "pbs"
    _system = "PBS"
    _submits = "qsub"


@part
class Lsf(_Queue):
    """Labels are computed by LSF jobs."""

    walltime: Annotated[str, Field(pattern=r"^\d+:\d\d$")] = "04:00"
    """Of a job, hours and minutes; labels that it cuts off are asked for again."""
    kind: Literal["lsf"] = "lsf"
    _system = "LSF"
    _submits = "bsub"
    _payer = "project"


@part
class Sge(_Queue):
    """Labels are computed by jobs of the Sun Grid Engine."""

    kind: Literal["sge"] = "sge"
    _system = "SGE"
    _submits = "qsub"
    _payer = "project"


@contextmanager
def opened(make: Pool) -> Iterator["Line"]:
    """Give the :class:`Line` of a pool; running labels end before it closes."""
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
        """Cancel what has not begun, wait for what has."""
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
    """Compute every label that is missing; return when each exists or is quarantined.

    A failed attempt is recorded with its reason and tried again; after ``attempts``
    failures, restarts included, the sample is quarantined.

    Raises:
        Interrupted: ``asked`` was set; running labels are finished, the others cancelled.
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
