"""A one-dimensional world for the loop: learn f(x) on [0, 3] from few labels.

Run as a program it is one controller: ``python learn_toy.py FOLDER WORKERS SECONDS``; with
the name of a phase after them it kills itself (SIGKILL) in that phase.
"""

import json
import math
import os
import signal
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from scalebridge.engine import runtime
from scalebridge.engine.learn import execution, label_store
from scalebridge.engine.learn import loop as loops
from scalebridge.engine.learn import state as states
from scalebridge.engine.learn.indicators import Conformal, spread
from scalebridge.engine.learn.label_store import Codec, LabelError
from scalebridge.engine.learn.loop import Loop
from scalebridge.engine.learn.selection import Batch
from scalebridge.engine.learn.stopping import StopRule
from scalebridge.engine.protocols import Outcome
from scalebridge.engine.run import Reporter
from scalebridge.engine.rundir import RunFolder, write_text


def truth(x: float) -> float:
    return math.sin(x**3)  # faster and faster: 27 rad per unit at the right end


@dataclass(frozen=True)
class Point:
    x: float


def pack_point(p: Point) -> dict[str, Tensor]:
    return {"x": torch.tensor(p.x, dtype=torch.float64)}


def unpack_point(t: dict[str, Tensor]) -> Point:
    return Point(float(t["x"]))


def pack_value(y: float) -> dict[str, Tensor]:
    return {"y": torch.tensor(y, dtype=torch.float64)}


def unpack_value(t: dict[str, Tensor]) -> float:
    return float(t["y"])


POINTS = Codec(pack_point, unpack_point)
VALUES = Codec(pack_value, unpack_value)


class Waves(torch.nn.Module):
    """Ridge regression on random waves; ``seed`` makes members differ."""

    def __init__(self, rng: torch.Generator, size: int = 150) -> None:
        super().__init__()
        k = 12.0 * torch.randn(size, generator=rng, dtype=torch.float64)
        phase = 2 * math.pi * torch.rand(size, generator=rng, dtype=torch.float64)
        self.register_buffer("k", k)
        self.register_buffer("phase", phase)
        self.register_buffer("weights", torch.zeros(size, dtype=torch.float64))

    def basis(self, x: Tensor) -> Tensor:
        return torch.cos(x[:, None] * self.k + self.phase)

    def forward(self, x: Tensor) -> Tensor:
        return self.basis(x) @ self.weights


def committee(rng: torch.Generator) -> list[Waves]:
    return [Waves(rng) for _ in range(4)]


def xs(points: list[Point]) -> Tensor:
    return torch.tensor([p.x for p in points], dtype=torch.float64)


def deviation(models: list[Waves], points: list[Point]) -> Tensor:
    return spread([model(xs(points))[:, None] for model in models])


def mean(models: list[Waves], x: Tensor) -> Tensor:
    return torch.stack([model(x) for model in models]).mean(0)


def errors(models: list[Waves], data: list[tuple[Point, float]]) -> Tensor:
    if not data:
        return torch.empty(0, dtype=torch.float64)
    exact = torch.tensor([label for _, label in data], dtype=torch.float64)
    return (mean(models, xs([point for point, _ in data])) - exact).abs()


def features(models: list[Waves], points: list[Point]) -> Tensor:
    return xs(points)[:, None]


def stratum(point: Point) -> str:
    return "left" if point.x < 1 else "middle" if point.x < 2 else "right"


@dataclass(frozen=True)
class Wander:
    """Visits points of [0, 3] at random."""

    points: int = 300

    def explore(self, models: list[Waves], rng: torch.Generator):
        for x in (3.0 * torch.rand(self.points, generator=rng)).tolist():
            yield Point(x)


@dataclass(frozen=True)
class Teacher:
    """Knows the truth; can be slow, wrong on purpose, or deadly."""

    seconds: float = 0.0
    refuses: float = math.nan
    kills: float = math.nan
    lies: float = math.nan

    def label(self, point: Point) -> float:
        if abs(point.x - self.kills) < 0.1:
            os._exit(9)
        if abs(point.x - self.refuses) < 0.1:
            raise LabelError("SCF did not converge in 50 cycles")
        if abs(point.x - self.lies) < 0.1:
            return math.nan
        end = time.perf_counter() + self.seconds
        while time.perf_counter() < end:
            time.sleep(self.seconds / 4)
        return truth(point.x)


@dataclass(frozen=True)
class Ridge:
    """Fits every member in closed form."""

    strength: float = 1e-6

    def train(self, models, dataset, rng):
        x = xs([point for point, _ in dataset])
        y = torch.tensor([label for _, label in dataset], dtype=torch.float64)
        fitted = []
        for old in models:
            new = Waves(torch.Generator())
            new.load_state_dict(old.state_dict())
            basis = new.basis(x)
            gram = basis.T @ basis + self.strength * torch.eye(basis.shape[1])
            new.weights = torch.linalg.solve(gram, basis.T @ y)
            fitted.append(new)
        return fitted


START = tuple(Point(x) for x in (0.2, 0.6, 1.0, 1.4, 1.8, 2.2))


def loop(**changes) -> Loop:
    base = Loop(
        committee=committee,
        start=START,
        explorer=lambda round, trusted: Wander(),
        indicator=deviation,
        features=features,
        labeler=Teacher(),
        trainer=Ridge(),
        errors=errors,
        target=0.05,
        samples=POINTS,
        labels=VALUES,
        threshold=Conformal(prior=2.0),
        batch=Batch(10, random=0.2),
        stop=StopRule(),
        stratum=stratum,
        rounds=15,
        seed=3,
    )
    return replace(base, **changes)


def run(path: Path, job: Loop):
    make = (
        (lambda: RunFolder.open(path))
        if (path / "resolved.json").exists()
        else (lambda: RunFolder.create(path, "", {}))
    )
    with make() as folder:
        return job.run(folder, Reporter(quiet=True))


def final_data(path: Path, job: Loop) -> list[tuple[float, float]]:
    """The labelled data of a finished run, in order."""
    from scalebridge.engine.learn.label_store import LabelStore, identity
    from scalebridge.engine.learn.state import recall

    store = LabelStore(path / "labels", identity(job.labeler), POINTS, VALUES)
    with RunFolder.open(path) as folder:
        state = recall(folder, store, committee(runtime.generator(job.seed)), list)
    return [(point.x, y) for point, y in state.dataset]


AUDITED = tuple(Point(x) for x in (0.35, 1.25, 2.05))


def reached(phase: str) -> None:
    """Called by the audit in each of its phases."""


def audit(folder, models, dataset, ask):
    """Write the data set, then have a few more labels, as an audit does."""
    text = json.dumps([[point.x, y] for point, y in dataset])
    write_text(folder.path / "dataset.json", text)
    reached("saved")
    labels = []
    for point in AUDITED:
        labels += ask([point])
        reached("audit label")
    write_text(folder.path / "audit.json", json.dumps(labels))
    reached("audited")
    return Outcome()


PHASES: dict[str, tuple[object, str, str, int]] = {
    "exploring": (loops.Loop, "_explore", "after", 2),
    "planned": (loops, "save_plan", "after", 3),
    "labelling": (loops.Loop, "_label", "before", 3),
    "between file and log": (label_store.LabelStore, "put", "after", 15),
    "labelled": (loops, "evaluate_round", "before", 3),
    "measured": (loops, "evaluate_round", "after", 3),
    "trained": (loops.Loop, "_train", "after", 3),
    "tables": (states.LoopState, "save", "before", 3),
    "checkpoint": (states.LoopState, "save", "after", 3),
    "last checkpoint": (states.LoopState, "save", "after", 5),
    "saved": (sys.modules[__name__], "reached", "after", 1),
    "audit labels": (sys.modules[__name__], "reached", "after", 3),
    "audited": (sys.modules[__name__], "reached", "after", 5),
}
"""Phase -> owner and name of what is called in it, the side to die on, the call."""


def die_in(phase: str) -> None:
    """Make this process kill itself in a phase."""
    owner, name, side, last = PHASES[phase]
    usual, calls = getattr(owner, name), [0]

    def deadly(*args, **kwargs):
        calls[0] += 1
        if calls[0] == last and side == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        found = usual(*args, **kwargs)
        if calls[0] == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    setattr(owner, name, deadly)


def program(path: Path, workers: int, seconds: float, phase: str = "") -> None:
    """Be one controller."""
    if phase:
        die_in(phase)
    pool = execution.Processes(workers) if workers else execution.Serial()
    run(path, loop(labeler=Teacher(seconds), pool=pool, rounds=4, finish=audit))


if __name__ == "__main__":
    program(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), *sys.argv[4:])
