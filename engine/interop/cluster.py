"""Where `engine run --executor` sends replicas, labels and trainings."""

from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import InputError


@contextmanager
def local_dask(workers: int) -> Iterator[str]:
    """Start a Dask cluster on this machine and give the address of its scheduler.

    Workers are spawned processes that listen to this machine only. Durability is not
    here: finished labels are in the label store of the run.

    Raises:
        InputError: ``distributed`` is not installed, or ``workers`` is below 1.
    """
    if workers < 1:
        raise InputError(f"--workers {workers}: at least 1")
    try:
        from distributed import LocalCluster
    except ImportError as error:
        raise InputError(
            "--executor dask needs the extra: pip install 'scalebridge[cluster]'"
        ) from error
    with LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address=None,  # type: ignore[arg-type]
    ) as cluster:
        yield cluster.scheduler_address


@contextmanager
def execution(executor: str | None, workers: int) -> Iterator[list[str]]:
    """Give the scenario settings of an ``--executor``.

    Args:
        executor: None, ``processes``, ``dask`` (a cluster on this machine),
            ``dask=tcp://HOST:PORT`` (one that runs already), or ``slurm``.
        workers: number of workers.

    Raises:
        InputError: unknown.
    """
    kind, _, address = (executor or "").partition("=")
    if executor is None:
        yield []
    elif kind == "processes" and not address:
        yield [f'execution={{kind="processes", workers={workers}}}']
    elif kind == "dask" and address:
        yield [f'execution={{kind="dask", address="{address}"}}']
    elif kind == "dask":
        with local_dask(workers) as found:
            yield [f'execution={{kind="dask", address="{found}"}}']
    elif kind == "slurm" and not address:
        yield [f'execution={{kind="slurm", workers={workers}}}']
    else:
        raise InputError(
            f"--executor {executor}: allowed are processes, dask, dask=ADDRESS, slurm"
        )
