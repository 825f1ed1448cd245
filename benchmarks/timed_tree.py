"""One side of an interleaved timing: ``python timed_tree.py ROOT CASE``.

Makes the steps of CASE with the benchmarks of the tree ROOT, whose packages the import
path names, and takes a block of them for every line on its standard input: the answer is
the block's seconds. It waits for the next line without using the processor.
"""

import importlib.util
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import torch

F64 = torch.float64
Steps = Callable[[int], None]


def load(root: Path, name: str) -> ModuleType:
    """Import ``benchmarks/NAME.py`` of a tree."""
    sys.path.insert(0, str(root / "benchmarks"))
    spec = importlib.util.spec_from_file_location(name, root / f"benchmarks/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def stepping(world) -> Steps:
    """Return what advances a world by a number of steps."""
    state = [world.init()]

    def take(count: int) -> None:
        for _ in range(count):
            state[0] = world.step(state[0])

    return take


def lennard_jones(root: Path) -> Steps:
    """32,000 atoms, f64."""
    return stepping(load(root, "md").melt(20, F64))


def water(root: Path) -> Steps:
    """A compressed Deep Potential on 192 atoms of water, f64."""
    md = load(root, "md")
    start = md.from_atoms(md.water(1), ("O", "H"), seed=1, dtype=F64)
    potential = md.twin("smooth", F64)
    return stepping(md.MolecularDynamics(potential, md.Verlet(), start, 0.5, (330.0,), 1.0))


def bgk(root: Path) -> Steps:
    """BGK in one dimension: 16 Knudsen numbers, 200 cells, 60 velocities, f64."""
    gas = load(root, "gas")
    gas.best = lambda take, *_: take
    return gas.kinetic_time(*gas.wave_world(16, 200, 60), 1, 1)


def euler(root: Path) -> Steps:
    """Euler by MUSCL on 256 x 256 cells, f64."""
    gas = load(root, "gas")
    gas.best = lambda take, *_: take
    return gas.fluid_time(256, "muscl", 1)


CASES: dict[str, tuple[Callable[[Path], Steps], int]] = {
    "Lennard-Jones, 32,000 atoms": (lennard_jones, 50),
    "Deep Potential water, 192 atoms": (water, 50),
    "BGK 1D": (bgk, 50),
    "Euler 2D, 256^2": (euler, 20),
}
"""Name -> what makes its steps, and the steps of a block."""


def main(root: str, name: str) -> None:
    """Answer every line with the seconds of one block."""
    make, count = CASES[name]
    take = make(Path(root))
    take(count)
    print("ready", flush=True)
    for _ in sys.stdin:
        begun = time.perf_counter()
        take(count)
        print(time.perf_counter() - begun, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
