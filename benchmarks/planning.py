"""What a run costs: memory and CPU time per atom, cell or particle, for planning.

Every kind runs in fresh processes of one thread, at a small and at a large size; memory is
the difference of their peaks over that of their sizes, so that what Python and the kernels
take in any case (a few hundred MB) is not in it. ``docs`` shows the table.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE))

F64 = torch.float64


def _melt(size: int) -> tuple[Any, Any, int]:
    import md

    world = md.melt(size, F64)
    return world, world.init(), world.start.atoms


def _water(size: int) -> tuple[Any, Any, int]:
    import md

    world = md.water_world("default", F64, size)
    return world, world.init(), world.start.atoms


def _euler(scheme: str) -> Callable[[int], tuple[Any, Any, int]]:
    def made(size: int) -> tuple[Any, Any, int]:
        import gas

        return *gas.euler_world(size, scheme), size * size

    return made


def _kinetic(size: int) -> tuple[Any, Any, int]:
    import gas

    return *gas.plane_world(size, 32), size * size * 32 * 32


def _particles(size: int) -> tuple[Any, Any, int]:
    from scalebridge.engine.jobs import assemble
    from scalebridge.engine.scenario import load

    job: Any = assemble(*load("dsmc_couette", [f"model.particles={size}"]))
    state = job.world.init(torch.Generator().manual_seed(1))
    return job.world, state, job.world.expected


KINDS: dict[str, tuple[str, str, Callable[[int], tuple[Any, Any, int]], int, int, int]] = {
    "lennard_jones": ("atom", "Lennard-Jones, f64", _melt, 12, 32, 12),
    "learned_potential": (
        *("atom", "higher moments, default sizes, 6 angstrom, water, compressed, f64"),
        *(_water, 1, 3, 6),
    ),
    "euler_muscl": ("cell", "Euler 2D, MUSCL, f64", _euler("muscl"), 64, 768, 10),
    "euler_weno": ("cell", "Euler 2D, WENO5, f64", _euler("weno5"), 64, 768, 6),
    "kinetic": (
        *("phase cell", "BGK, two space and two velocity dimensions, in place, f64"),
        *(_kinetic, 16, 64, 4),
    ),
    "particles": ("particle", "DSMC, hard spheres, 1D, f64", _particles, 100, 20000, 10),
}
"""Kind -> what is counted, what it is, a world of a size, two sizes and steps."""


def one(kind: str, size: int) -> tuple[int, float, int]:
    """Return how many there are, CPU seconds of a step, and the peak of memory in bytes."""
    _, _, made, _, _, steps = KINDS[kind]
    world, state, count = made(size)
    for _ in range(3):
        state = world.step(state)
    found = []
    for _ in range(3):
        begun = time.process_time()
        for _ in range(steps):
            state = world.step(state)
        found.append((time.process_time() - begun) / steps)
    return count, min(found), 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _alone(kind: str, size: int) -> tuple[int, float, int]:
    threads = ("SCALEBRIDGE_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    answer = subprocess.run(
        [sys.executable, __file__, kind, str(size)], capture_output=True, text=True,
        check=True, env=os.environ | dict.fromkeys(threads, "1"),
    )  # fmt: skip
    return tuple(json.loads(answer.stdout.splitlines()[-1]))  # type: ignore[return-value]


def measure(quick: bool, record: Any) -> None:
    """Measure all kinds."""
    for kind, (unit, what, _, small, large, _) in KINDS.items():
        if not record.wants(f"{kind}_bytes", f"{kind}_us"):
            continue
        (few, _, low), (many, seconds, high) = _alone(kind, small), _alone(kind, large)
        note = f"{what}; {many:,} {unit}s"
        record(f"{kind}_bytes", (high - low) / (many - few), f"bytes per {unit}", note=note)
        record(f"{kind}_us", 1e6 * seconds / many, f"CPU us per {unit} and step", note=note)


if __name__ == "__main__":
    print(json.dumps(one(sys.argv[1], int(sys.argv[2]))))
