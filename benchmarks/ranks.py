"""One gas on one process and on two (torch.distributed, gloo): the same numbers, and how
long a step takes when every process keeps as many velocities.

Run by itself this file is one of the processes: python ranks.py TASK RANK SIZE PORT STEPS
OUT.
"""

import math
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file

from scalebridge.engine.gas.grid import Grid
from scalebridge.engine.gas.kinetic.distributed import DistributedBgk, processes
from scalebridge.engine.gas.kinetic.velocities import Velocities
from scalebridge.engine.gas.material import Gas


def world(cells: int = 16, nodes: tuple[int, int] = (24, 24)) -> DistributedBgk:
    """A gas of two dimensions in a periodic box."""
    grid = Grid((cells, cells // 2), (0.0, 0.0), (1.0, 0.5))
    velocities = Velocities(nodes, (-6.0, -6.0), (6.0, 6.0))
    dt = 0.4 / (2 * 6.0 * cells)
    return DistributedBgk(grid, velocities, Gas(dimension=2), torch.tensor([0.05]), dt)


def start(gas: DistributedBgk):
    """A wave of density and a shear."""
    x, y = torch.meshgrid(
        *((torch.arange(n) + 0.5).double() / n for n in gas.grid.shape), indexing="ij"
    )
    density = 1.0 + 0.3 * torch.sin(2 * math.pi * x)
    shear = 0.2 * torch.sin(2 * math.pi * y)
    velocity = torch.stack([shear, torch.zeros_like(shear)], -1)
    return gas.equilibrium(density[None], velocity[None], torch.ones_like(density)[None])


def fields(steps: int) -> dict[str, torch.Tensor]:
    """Step and return the fields, in this process's share of the work."""
    torch.set_num_threads(1)
    gas = world()
    state = start(gas)
    for _ in range(steps):
        state = gas.step(state)
    return {name: value.contiguous() for name, value in gas.observe(state).items()}


def pace(steps: int) -> dict[str, torch.Tensor]:
    """Time steps of a gas that has 32 x 32 velocities for every process, 32 x 16 cells.

    Returns:
        ``seconds`` per step, the fastest of three rounds, of the slowest process.
    """
    torch.set_num_threads(1)
    gas = world(32, (32 * processes(), 32))
    state, rounds = gas.step(start(gas)), []
    for _ in range(3):
        begun = time.perf_counter()
        for _ in range(steps):
            state = gas.step(state)
        spent = torch.tensor((time.perf_counter() - begun) / steps, dtype=torch.float64)
        if dist.is_initialized():
            dist.all_reduce(spent, dist.ReduceOp.MAX)
        rounds.append(spent)
    return {"seconds": torch.stack(rounds).amin()}


TASKS = {"fields": fields, "pace": pace}


def on_ranks(size: int, steps: int = 20, task: str = "fields") -> dict[str, torch.Tensor]:
    """Return what a task gives on ``size`` processes."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "fields.safetensors"
        processes = [
            subprocess.Popen(
                [sys.executable, __file__, task, *map(str, (k, size, port, steps, out))]
            )
            for k in range(size)
        ]
        if any(process.wait(300) for process in processes):
            raise RuntimeError("a rank failed")
        return load_file(out)


def ranks2_difference(steps: int = 20) -> float:
    """Largest relative difference of the density between two ranks and one."""
    one, two = fields(steps), on_ranks(2, steps)
    return float((two["density"] / one["density"] - 1).abs().max())


def weak_scaling(steps: int = 20) -> tuple[float, float]:
    """Return the seconds per step on one process, and on two with twice the velocities."""
    one, two = (on_ranks(size, steps, "pace")["seconds"] for size in (1, 2))
    return float(one), float(two)


def beside_copies(steps: int = 20) -> tuple[float, float]:
    """Return the seconds per step of two one-process gases side by side, and of one gas of
    twice the velocities on two processes."""
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: on_ranks(1, steps, "pace")["seconds"], range(2)))
    return float(max(both)), float(on_ranks(2, steps, "pace")["seconds"])


if __name__ == "__main__":
    task, rank, size, port, steps, out = sys.argv[1:]
    dist.init_process_group(
        "gloo",
        init_method=f"tcp://127.0.0.1:{port}",
        rank=int(rank),
        world_size=int(size),
    )
    result = TASKS[task](int(steps))
    if rank == "0":
        save_file(result, out)
    dist.barrier()
    dist.destroy_process_group()
