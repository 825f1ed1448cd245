"""Run the suite in the settings that must not matter: ``python tests/settings.py``.

The number of threads, the instructions that BLAS and torch choose and the order of the
tests change how sums are rounded and what ran before a test. A bound that follows from the
arithmetic holds in all of them. Further arguments go to pytest; the exit status is the
number of settings that are not green.
"""

import os
import subprocess
import sys
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


def green(name: str, *more: str) -> bool:
    """Run the suite in one of ``SETTINGS``; True if every test passed."""
    environment, arguments = SETTINGS[name]
    command = [*PYTEST, *arguments, *more]
    return not subprocess.run(command, cwd=ROOT, env=os.environ | environment).returncode


def settings_green(*more: str) -> dict[str, bool]:
    """Run the suite in each of ``SETTINGS``, one after the other."""
    return {name: green(name, *more) for name in SETTINGS}


if __name__ == "__main__":
    found = settings_green(*sys.argv[1:])
    for name, passed in found.items():
        print(f"{name:30s} {'green' if passed else 'RED'}")
    print(f"settings_green {sum(found.values())} of {len(found)}")
    sys.exit(len(found) - sum(found.values()))
