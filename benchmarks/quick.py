"""Steps of a minute: is anything slower than it was on this machine?

CPU time of one step on one thread, the best of several blocks. The history of results keeps
every run, and a step that takes over a fifth longer than the last time on the same machine
ends the program with exit status 1.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.append(str(Path(__file__).resolve().parent))

import speed

from scalebridge.engine import runtime
from scalebridge.engine.bench import Recorder
from scalebridge.engine.errors import EngineError
from scalebridge.engine.jobs import assemble
from scalebridge.engine.scenario import load

SLOWER = 1.2
"""How much longer a step may take than the last time."""

STEPS = {"lj": 40, "deep potential": 4, "bgk": 4, "euler": 10}
SCENARIOS = {"dsmc": ("dsmc_couette", 20), "vmc": ("vmc_helium", 4)}
"""Name -> scenario and steps of a block."""


def _of_scenario(name: str) -> Callable[[], None]:
    job: Any = assemble(*load(name))
    world = job.world
    held = [world.init(torch.Generator().manual_seed(1))]

    def step() -> None:
        held[0] = world.step(held[0])

    return step


def seconds(step: Callable[[], None], steps: int, blocks: int = 7) -> float:
    """Return the best CPU seconds of a step."""
    found = []
    for _ in range(blocks + 1):
        begun = time.process_time()
        for _ in range(steps):
            step()
        found.append((time.process_time() - begun) / steps)
    return min(found[1:])


def measure(quick: bool, record: Recorder) -> None:
    """Measure all steps; compare each with the last time.

    Raises:
        EngineError: a step is slower.
    """
    runtime.start("cpu")
    work = {kind: (speed.work(kind), steps) for kind, steps in STEPS.items()}
    for kind, (name, steps) in SCENARIOS.items():
        work[kind] = _of_scenario(name), steps
    slower = []
    for kind, (step, steps) in work.items():
        figure = f"{kind.replace(' ', '_')}_step_ms"
        if not record.wants(figure):
            continue
        before, now = record.before(figure), 1e3 * seconds(step, steps)
        record(figure, now, "ms", note="CPU time, best of seven blocks")
        if before is not None and now > SLOWER * before:
            slower.append(f"{figure} {now:.3g} after {before:.3g}")
    if slower:
        raise EngineError(f"slower than the last time here: {', '.join(slower)}")
