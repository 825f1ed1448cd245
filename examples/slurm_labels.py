"""Labels of a learning run as Slurm jobs, one label at a time in each.

Run on a login node whose working folder the jobs see: python examples/slurm_labels.py
It is what `engine run elt_h4 --executor slurm --workers 8` does; cut short or killed, the
same command with --out DIR --resume asks only for the labels that are missing.
"""

import subprocess
import sys

COMMAND = [
    sys.executable, "-m", "scalebridge.engine.cli", "run", "elt_h4",
    "--executor", "slurm", "--workers", "8", "--out", "runs/elt_h4", "--resume",
]  # fmt: skip


def script(workers: int = 8, walltime: str = "04:00:00", memory: str = "4GB") -> str:
    """Return the job script that is submitted for each worker."""
    from dask_jobqueue.slurm import SLURMCluster

    with SLURMCluster(
        cores=1, processes=1, memory=memory, walltime=walltime, n_workers=0
    ) as cluster:
        return cluster.job_script()


if __name__ == "__main__":
    sys.exit(subprocess.call(COMMAND))
