"""Run the suite in the settings that must not matter: ``python tests/settings.py``.

The number of threads, the instructions that BLAS and torch choose and the order of the
tests change how sums are rounded and what ran before a test. A bound that follows from the
arithmetic holds in all of them. Further arguments go to pytest; the exit status is the
number of settings that are not green.
"""

import functools
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTEST = (sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadfile", "-q")
RANDOM = ("-p", "randomly", "--randomly-seed=7", "--randomly-dont-reset-seed")


def _threads(count: int) -> dict[str, str]:
    """The kernels' threads, and with them torch's; those of BLAS and OpenMP beside them."""
    names = ("SCALEBRIDGE_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    return dict.fromkeys(names, str(count))


SETTINGS: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
    "one thread": (_threads(1), ()),
    "two threads": (_threads(2), ()),
    "MKL_CBWR=COMPATIBLE": (_threads(1) | {"MKL_CBWR": "COMPATIBLE"}, ()),
    "ATEN_CPU_CAPABILITY=default": (_threads(1) | {"ATEN_CPU_CAPABILITY": "default"}, ()),
    "random order": (_threads(1), RANDOM),
}


@dataclass(frozen=True)
class Suite:
    """A run of all tests.

    Attributes:
        green: whether every test passed.
        minutes: wall time.
        said: the last line of it.
    """

    green: bool
    minutes: float
    said: str


@functools.cache
def suite(name: str, *more: str) -> Suite:
    """Run the suite in one of ``SETTINGS``, on two cores; once in a process."""
    environment, arguments = SETTINGS[name]
    cores = sorted(os.sched_getaffinity(0))[:2]
    begun = time.perf_counter()
    done = subprocess.run(
        [*PYTEST, *arguments, *more], cwd=ROOT, env=os.environ | environment, text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cores), stdout=subprocess.PIPE,
    )  # fmt: skip
    print(f"== {name}\n{done.stdout}", flush=True)
    minutes = (time.perf_counter() - begun) / 60
    last = done.stdout.strip().rpartition("\n")[2].strip("= ")
    return Suite(not done.returncode, minutes, last)


def settings_green(*more: str) -> dict[str, bool]:
    """Run the suite in each of ``SETTINGS``, one after the other."""
    return {name: suite(name, *more).green for name in SETTINGS}


if __name__ == "__main__":
    found = settings_green(*sys.argv[1:])
    for name, passed in found.items():
        print(f"{name:30s} {'green' if passed else 'RED'}")
    print(f"settings_green {sum(found.values())} of {len(found)}")
    sys.exit(len(found) - sum(found.values()))
