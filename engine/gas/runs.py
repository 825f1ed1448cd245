"""A model on a problem, ready to run: what it shows on its way, and what is checked."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import GuardError
from ..protocols import Check, Figure
from ..run import Reporter
from ..rundir import RunFolder
from .equations.fluid import FluidWorld
from .fields import write_axes, write_field
from .forcing import Forced
from .kinetic import adequacy
from .kinetic.world import KineticWorld
from .observe import Observed, on_host, positivity_guard
from .pacing import Paced
from .problem import Problem
from .solids import Body, load_units, loads

FIELDS = ("density", "velocity", "temperature", "stress", "heat_flux", "entropy")
FAR = "share of faces, worst of the batch, where the closure was out of its training range"
FELL_BACK = "share of faces where the closure fell back to the analytic one"
REMEDY = "lower the cfl, refine the grid, or choose a more robust model"


@dataclass(frozen=True)
class Passed:
    """A frame that a run has reached: its state, what is seen of it, CPU time of steps."""

    state: Any
    seen: Observed
    seconds: float


@dataclass(frozen=True)
class Run:
    """A world, ready to be stepped ``steps`` times from ``start()``.

    ``trained`` are the Knudsen numbers on which a learned closure was trained, ``scheme``
    is its model without name and number of cells.
    """

    name: str
    problem: Problem
    world: Any
    start: Callable[[], Any]
    steps: int
    time_step: float
    trained: tuple[float, float] | None = None
    scheme: Any = None

    @property
    def solver(self) -> Any:
        """The model's own world, without force and pace."""
        world = self.world
        while isinstance(world, Paced | Forced):
            world = world.world
        return world

    @property
    def remedy(self) -> str:
        """What can help where the model breaks down."""
        return getattr(self.solver, "remedy", REMEDY)

    def frames(self, count: int) -> Iterator[Passed]:
        """Yield the start and what follows in ``count`` equal parts of the run.

        Raises:
            GuardError: density or temperature is not positive.
        """
        state, seconds, guard = self.start(), 0.0, positivity_guard(self.remedy)
        for frame in range(count + 1):
            begun = time.process_time()
            for _ in range(self.steps // count if frame else 0):
                state = self.world.step(state)
            seconds += time.process_time() - begun
            seen = on_host(self.world.observe(state))
            guard(frame * (self.steps // count), state, seen)
            yield Passed(state, seen, seconds)

    def excess(self, seen: Observed) -> float:
        """Return by which factor temperatures leave the tables of the gas; 1: by none."""
        law = self.problem.gas.law
        return 1.0 if law is None else law.excess(seen["temperature"])

    @property
    def fields(self) -> tuple[str, ...]:
        """What is kept of a moment: Euler's stress and heat flux are zero."""
        euler = isinstance(self.solver, FluidWorld) and self.solver.knudsen is None
        left_out = ("stress", "heat_flux") if euler else ()
        return tuple(name for name in FIELDS if name not in left_out)

    def kept(self, seen: Observed) -> dict[str, Tensor]:
        """Return what is kept of a moment; the model observes all of it."""
        return {name: seen[name] for name in self.fields}

    def write_beside(self, folder: RunFolder, seen: Observed) -> None:
        """Write what it found into the group of a compared model."""
        group, grid = folder.store.require_group(f"compare/{self.name}"), self.problem.grid
        group.attrs["title"] = f"Compared with {self.name}"
        for name in self.fields:
            if name in seen:  # an average has no entropy
                write_field(group, name, seen[name], grid=grid)
        write_axes(group, grid)

    def stopped(self, report: Reporter, error: GuardError) -> Check:
        """Tell that a compared model broke down; return the check that fails by it."""
        report.say(f"{self.name} stopped: {error}")
        return Check(f"stable_{self.name}", "health", 1.0, 0.0, note=str(error))

    def checks_beside(self, last: Passed, excess: float) -> list[Check]:
        """Return the checks of a compared model, by its name.

        Args:
            last: its end.
            excess: the largest of all frames.
        """
        checks = [
            *domain_checks(self, last.seen),
            *velocity_checks(self, last.state, self.name),
        ]
        if self.problem.gas.law is not None:
            checks.append(table_check(self.name, excess))
        return checks


def velocity_checks(run: Run, state: Any, name: str = "", store: Any = None) -> list[Check]:
    """Return whether the nodes of a kinetic model were adequate for what it did.

    Args:
        run: of the model.
        state: at its end.
        name: of a model that is compared.
        store: with the frames of the run, if they were written.
    """
    world = run.solver
    if not isinstance(world, KineticWorld):
        return []
    largest = () if store is None else _largest(store)
    return list(adequacy.checks(world, state, run.problem.end, name, largest))


def _largest(store: Any) -> list[float]:
    """Return the largest root mean square of stress or heat flux of each problem."""
    sizes = [
        torch.from_numpy(frames[k]).double().flatten(1).square().mean(1).sqrt()
        for frames in (store["fields/stress"], store["fields/heat_flux"])
        for k in range(frames.shape[0])
    ]
    return torch.stack(sizes).amax(0).tolist()


def table_check(name: str, excess: float) -> Check:
    """Return whether all frames stayed inside the tables of viscosity, Prandtl number."""
    note = "factor by which temperatures of the frames leave gas.range; 1: by none"
    name = f"transport_{name}" if name else "transport_range"
    return Check(name, "domain", excess, 1.0, note=note)


def faces_asked(run: Run, seen: Observed) -> int:
    """Return how many faces a closure was asked about."""
    return int(seen.get("steps", torch.tensor(run.steps))) * (run.problem.grid.cells + 1)


def domain_checks(run: Run, seen: Observed) -> tuple[Check, ...]:
    """Return whether a learned closure was used where it was trained."""
    if "fallbacks" not in seen:
        return ()
    share = float(seen["outside"].amax()) / faces_asked(run, seen)
    fell_back = float(seen["fallbacks"].double().mean()) / faces_asked(run, seen)
    checks = [
        Check(f"range_{run.name}", "domain", share, 0.05, note=FAR),
        Check(f"fallback_{run.name}", "domain", fell_back, 0.05, note=FELL_BACK),
    ]
    if run.trained is not None:
        low, high = run.trained
        kn = run.problem.knudsen
        outside = float(((kn < low) | (kn > high)).double().mean())
        note = f"share of the Knudsen numbers outside {low:g} to {high:g}"
        checks.append(Check(f"knudsen_{run.name}", "domain", outside, 0.0, note=note))
    return tuple(checks)


def last_loads_of(body: Body, seen: Observed, name: str = "") -> dict[str, Figure]:
    """Return the force on every solid and the heat that it takes, at the end."""
    found, units = {}, load_units(body)
    for key, values in loads(body, seen["solid_loads"]).items():
        note = (
            "energy per time that it takes" if key.endswith("heat") else "of the gas on it"
        )
        if len(values) > 1:
            note += ", of the first system; of all over time in the store's group solids"
        found[key + name] = Figure(float(values[0]), units[key], note=note)
    return found
