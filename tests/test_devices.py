"""Every world on a CUDA device that is not there: ``init``, ``step``, ``observe``.

A world that a device would refuse is listed in ``EXCEPTIONS`` by name with the issue that
owns it, and so is one whose step makes the host wait or copies to the device. The list only
shrinks: a world that is better than its row fails as well as one that is worse.
"""

import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from ase.build import bulk
from devices import CPU, CUDA, DeviceError, Shadow, shadow_device
from norms import SHORT
from state_equations import StiffenedGas
from torch._subclasses.fake_tensor import FakeTensorMode

from scalebridge.engine.errors import GuardError
from scalebridge.engine.gas import exact
from scalebridge.engine.gas.boundaries import ALL_PERIODIC, Inflow, Open, Sides, Wall
from scalebridge.engine.gas.closures.directional import DirectionalClosure
from scalebridge.engine.gas.closures.ensemble import ClosureEnsemble
from scalebridge.engine.gas.equations.fluid import FluidWorld
from scalebridge.engine.gas.equations.grad13 import Grad13
from scalebridge.engine.gas.equations.hermite import hermite_world
from scalebridge.engine.gas.equations.recurrence import recurrence_world
from scalebridge.engine.gas.grid import Grid
from scalebridge.engine.gas.initial.base import Start
from scalebridge.engine.gas.kinetic import steady
from scalebridge.engine.gas.kinetic.boltzmann import Boltzmann
from scalebridge.engine.gas.kinetic.differentiable import LineKinetics
from scalebridge.engine.gas.kinetic.distributed import DistributedBgk
from scalebridge.engine.gas.kinetic.velocities import Velocities
from scalebridge.engine.gas.kinetic.world import KineticWorld
from scalebridge.engine.gas.material import Gas
from scalebridge.engine.gas.observe import positivity_guard
from scalebridge.engine.gas.scheme.finite_volume import MomentWorld
from scalebridge.engine.gas.scheme.positivity import PositivityFallback
from scalebridge.engine.gas.shapes import Ball
from scalebridge.engine.gas.solids import Solid, body_of
from scalebridge.engine.jobs import assemble
from scalebridge.engine.kernels.noise import k_normals
from scalebridge.engine.md import adjoint
from scalebridge.engine.md.barostats import MTK, CellRescaling, Heated
from scalebridge.engine.md.classical import LennardJones, StillingerWeber, Sum, Zbl
from scalebridge.engine.md.compressed import compress
from scalebridge.engine.md.differentiable import SmoothLennardJones
from scalebridge.engine.md.integrators import (
    Bussi,
    Langevin,
    NoseHoover,
    Schedule,
    Verlet,
)
from scalebridge.engine.md.learned import LearnedPotential
from scalebridge.engine.md.looks import Looks
from scalebridge.engine.md.state import concatenate
from scalebridge.engine.md.structure import from_atoms
from scalebridge.engine.md.world import MolecularDynamics
from scalebridge.engine.ritz.solver import DeepRitz, Mixed
from scalebridge.engine.run import console_reporter
from scalebridge.engine.rundir import RunFolder
from scalebridge.engine.runtime import generator
from scalebridge.engine.scenario import load
from scalebridge.engine.vmc.batch import Batch
from scalebridge.engine.vmc.electrons import Electrons
from scalebridge.engine.vmc.excited import Lifted, Lower
from scalebridge.engine.vmc.hamiltonian import molecule
from scalebridge.engine.vmc.lattice import Heisenberg, Ising
from scalebridge.engine.vmc.optimiser import Adam, Spring
from scalebridge.engine.vmc.parameters import Flat
from scalebridge.engine.vmc.spins import Spins
from scalebridge.engine.vmc.world import Vmc
from scalebridge.models.closures.entropy import EntropyForm
from scalebridge.models.closures.face import FaceForm
from scalebridge.models.closures.recurrence import RecurrenceForm
from scalebridge.models.closures.spectrum import SpectrumForm
from scalebridge.models.potentials.deep_potential import HigherMoments, SmoothEdition
from scalebridge.models.wavefunctions.attention import AttentionForm
from scalebridge.models.wavefunctions.determinant import DeterminantForm
from scalebridge.models.wavefunctions.rbm import SymmetricRbm
from scalebridge.models.wavefunctions.ritz import RitzNet

F64 = torch.float64
Device = torch.device


class World(NamedTuple):
    """A problem on a device: the three functions of a simulator."""

    init: Callable[[], Any]
    step: Callable[[Any], Any]
    observe: Callable[[Any], Mapping[str, torch.Tensor]]


def simulator(world: Any, start: Callable[[], Any] | None = None) -> World:
    """Return the functions of an object that implements ``Simulator``."""
    return World(start or (lambda: world.init(generator(1))), world.step, world.observe)


# -- molecular dynamics --------------------------------------------------------------------


AT = Schedule.constant(300.0)
PRESSURE = Schedule.constant(0.0)
ARGON = LennardJones((0.0104,), (3.4,), 6.0, ("Ar",))


def crystal(symbol: str, device: Device, replicas: int = 2) -> Any:
    atoms = (
        bulk("Si", "diamond", a=5.431, cubic=True)
        if symbol == "Si"
        else bulk("Ar", "fcc", a=5.3, cubic=True).repeat((2, 1, 1))
    )
    atoms.rattle(0.05, seed=1)
    some = [
        from_atoms(atoms, (symbol,), seed=k, device=str(device)) for k in range(replicas)
    ]
    return concatenate(some)


def particles(
    potential: Callable[[Device], Any], integrator: Any = None, symbol: str = "Ar", **more
) -> Callable[[Device], World]:
    def build(device: Device) -> World:
        start = crystal(symbol, device)
        world = MolecularDynamics(
            potential(device), integrator or Verlet(), start, 1.0, (300.0,), **more
        )
        return simulator(world)

    return build


def argon(_: Device) -> Any:
    return ARGON


def deep(form: Any, compact: bool) -> Callable[[Device], Any]:
    def build(device: Device) -> Any:
        network = LearnedPotential(form.build(2).double().to(device))
        return compress(network, 1e-6) if compact else network

    return build


HIGHER = HigherMoments(("Si",), cutoff=4.0, channels=8, axis=4, fitting=(8, 8), members=2)
SMOOTH = SmoothEdition(("Si",), cutoff=4.0, neurons=(4, 8), axis=4, fitting=(8, 8))


def summed(_: Device) -> Any:
    return Sum((ARGON, Zbl((18.0,), 0.5, 1.5, ("Ar",))), 6.0, ("Ar",))


def fixed_atoms(device: Device) -> World:
    start = crystal("Ar", device)
    still = torch.arange(start.atoms, device=device) < 3
    return simulator(
        MolecularDynamics(
            ARGON, Langevin(AT, 100.0), start, 1.0, (300.0,), totals_every=3, fixed=still
        )
    )


def through_time(device: Device, steps: int = 4) -> World:
    """The adjoint of a trajectory: one step is so many steps and their gradient."""
    one = torch.tensor([0.0104, 3.4], dtype=F64, device=device)

    def world(p: torch.Tensor) -> MolecularDynamics:
        return MolecularDynamics(
            SmoothLennardJones(p[:1], p[1:], 5.0),
            Verlet(),
            crystal("Ar", device),
            1.0,
            (300.0,),
        )

    def step(state: Any) -> Any:
        p = one.clone().requires_grad_()
        path = adjoint.trajectory(
            world(p), state, steps, lambda _, s: s.positions.square().sum()[None], steps
        )
        path.observed.sum().backward()
        assert p.grad is not None
        return path.state

    return World(world(one).init, step, lambda state: {"positions": state.positions})


NVT = {
    "md langevin": Langevin(AT, 100.0),
    "md bussi": Bussi(AT, 100.0),
    "md nose-hoover": NoseHoover(AT, 100.0),
    "md cell rescaling": CellRescaling(Bussi(AT, 100.0), AT, PRESSURE, 500.0, 1e-2),
    "md mtk": Heated(MTK(AT, PRESSURE, 500.0), Bussi(AT, 100.0)),
}
MD = {
    "md lennard-jones": particles(argon),
    "md stillinger-weber": particles(lambda _: StillingerWeber(), symbol="Si"),
    "md sum with zbl": particles(summed),
    "md higher moments": particles(deep(HIGHER, False), symbol="Si"),
    "md smooth edition": particles(deep(SMOOTH, False), symbol="Si"),
    "md compressed higher moments": particles(deep(HIGHER, True), symbol="Si"),
    "md compressed smooth edition": particles(deep(SMOOTH, True), symbol="Si"),
    "md fixed atoms": fixed_atoms,
    "md adjoint": through_time,
    **{name: particles(argon, bath) for name, bath in NVT.items()},
}


# -- gas -----------------------------------------------------------------------------------

LINE, PLANE = Grid((16,), (0.0,), (1.0,)), Grid((12, 8), (0.0, 0.0), (1.0, 1.0))
OPEN = Sides(Open(), Open())
WALLS = Sides(Wall(1.0), Wall(1.1, (0.0, 0.1, 0.0), 0.8))
FLAT_WALLS = Sides(Wall(1.0), Wall(1.1, (0.0,), 0.8))
RESERVOIRS = Sides(Inflow(1.0, (0.1,), 1.0), Open())
KN = torch.tensor([0.1, 1.0], dtype=F64)
REST = Start(torch.ones(12, 8), torch.zeros(12, 8, 3), torch.ones(12, 8))
DISC = body_of(
    [Solid("disc", Ball((0.5, 0.5), 0.2), Wall(1.1, (), 0.6))], PLANE,
    (OPEN, ALL_PERIODIC), REST,
)  # fmt: skip


def fluid(grid: Grid, sides: Sides, **more: Any) -> Callable[[Device], World]:
    def build(device: Device) -> World:
        every = (sides, *(ALL_PERIODIC,) * (grid.dim - 1))
        return simulator(FluidWorld(grid, every, Gas(3), 2, 1e-3, device=device, **more))

    return build


def kinetic(grid: Grid, sides: Sides, **more: Any) -> Callable[[Device], World]:
    def build(device: Device) -> World:
        prandtl = 1.0 if more.get("model", "bgk") == "bgk" else 2 / 3
        nodes = Velocities.symmetric(grid.dim, 16, 6.0)
        every = (sides, *(ALL_PERIODIC,) * (grid.dim - 1))
        gas = Gas.power_law(3, 0.81, prandtl)
        return simulator(KineticWorld(grid, every, nodes, gas, KN, device=device, **more))

    return build


def hermite(sides: Sides, module: Any = None, **more: Any) -> Callable[[Device], World]:
    def build(device: Device) -> World:
        if module is not None:
            more["closure"] = module(device)
        return simulator(
            hermite_world(
                LINE, (sides,), Gas.constant_time(1), KN, 5, 1e-3, device=device, **more
            )
        )

    return build


def face(device: Device, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    form = FaceForm(order=5, hidden=(8,), reach=(0.0625, 0.2), resolution=0.0625)
    return form.build().double().requires_grad_(False).to(device)


def spectral(device: Device) -> Any:
    form = SpectrumForm(FaceForm(order=5, hidden=(8,), reach=(0.0625, 0.2)))
    return form.build().double().requires_grad_(False).to(device)


def ensemble(device: Device) -> Any:
    return ClosureEnsemble([face(device, seed) for seed in range(2)])


def fallback(device: Device) -> World:
    world = hermite_world(
        LINE, (ALL_PERIODIC,), Gas.constant_time(1), KN, 5, 1e-2,
        device=device, check=False,
    )  # fmt: skip

    def start() -> Any:
        w = torch.zeros(2, 16, 6, dtype=F64)
        w[..., 0], w[..., 2] = 1.0, 0.3
        w[1, :, 1] = -3.0 * torch.sign(LINE.centers(0) - 0.5)
        return world.start(w.movedim(-1, 1))

    return World(start, PositivityFallback(world).step, world.observe)


def hyperbolic(grid: Grid, sides: Sides, closure: Any = None) -> Callable[[Device], World]:
    def build(device: Device) -> World:
        every = (sides, *(ALL_PERIODIC,) * (grid.dim - 1))
        if closure is None:
            gas, order = Gas.power_law(3), 3
        else:
            gas, order = Gas.constant_time(2), 5
        return simulator(
            hermite_world(
                grid, every, gas, KN, order, 1e-3,
                closure=closure and closure(device), device=device,
            )
        )  # fmt: skip

    return build


def directional(device: Device) -> Any:
    return DirectionalClosure(face(device))


def grad13(grid: Grid, sides: Sides) -> Callable[[Device], World]:
    def build(device: Device) -> World:
        every = (sides, *(ALL_PERIODIC,) * (grid.dim - 1))
        return simulator(
            MomentWorld(grid, every, Grad13(Gas.power_law(3)), KN, 1e-3, device=device)
        )

    return build


def realizable(form: Any = None) -> Callable[[Device], World]:
    def build(device: Device) -> World:
        more = {}
        if form is not None:
            more["closure"] = form.build().double().requires_grad_(False).to(device)
        return simulator(
            recurrence_world(
                LINE, (OPEN,), Gas.constant_time(1), KN, 1e-3, device=device, **more
            )
        )

    return build


def relaxation(device: Device) -> World:
    q = Boltzmann(2, 24, 6.0, 4)

    def start() -> torch.Tensor:
        return exact.bkw(2, 0.0, q.velocities.square().sum(-1)).to(device)

    return World(start, lambda f: q.step(f, 0.1), q.moments)


def distributed(device: Device) -> World:
    nodes = Velocities.symmetric(2, 12, 6.0)
    return simulator(
        DistributedBgk(PLANE, nodes, Gas(dimension=2), KN[:1].to(device), 2e-3)
    )


SHOCK = Grid((24,), (-16.0,), (16.0,))


def line(device: Device) -> tuple[LineKinetics, torch.Tensor, torch.Tensor]:
    """A shock as a line that can be differentiated, and its Knudsen number."""
    speed, density, temperature = 1.4 * (5 / 3) ** 0.5, 1.5, 1.3
    kn = torch.tensor(0.8, dtype=F64, device=device, requires_grad=True)
    one = torch.ones((), dtype=F64, device=device)
    nodes = Velocities((16,), (-6.5,), (8.5,))
    bare = LineKinetics(SHOCK, nodes, 3, lambda rho, t: kn * t.rsqrt() / rho, 2 / 3)
    ends = [
        bare.equilibrium(density**k * one, speed * density**-k * one, temperature**k * one)
        for k in (0.0, 1.0)
    ]
    share = (0.5 * (1 + torch.tanh(SHOCK.centers(0) / 2))).to(device)
    rho = 1 + (density - 1) * share
    f = bare.equilibrium(rho, speed / rho, 1 + (temperature - 1) * share)
    return bare.between(*ends), f, kn


def differentiable(device: Device) -> World:
    def step(f: torch.Tensor) -> torch.Tensor:
        solver, _, kn = line(device)
        after = solver.advance(f.detach(), 0.02, 1)
        (slope,) = torch.autograd.grad(after.square().sum(), kn)
        assert bool(slope.isfinite())
        return after.detach()

    return World(
        lambda: line(device)[1], step, lambda f: {"moments": line(device)[0].moments(f)}
    )


def at_rest(device: Device) -> World:
    def step(f: torch.Tensor) -> torch.Tensor:
        solver, _, kn = line(device)
        found = steady.solve(solver, f, enough=1e9, most=1)
        (slope,) = torch.autograd.grad(found.f.square().sum(), kn)
        assert bool(slope.isfinite())
        return found.f.detach()

    def start() -> torch.Tensor:
        solver, f, _ = line(device)
        with torch.no_grad():
            return solver.advance(f, 0.02, 8)

    return World(start, step, lambda f: {"moments": line(device)[0].moments(f)})


GAS = {
    "euler 1d muscl, open": fluid(LINE, OPEN),
    "euler 2d weno5, periodic": fluid(PLANE, ALL_PERIODIC, scheme="weno5"),
    "euler 1d, another state equation": fluid(
        LINE, RESERVOIRS, state_equation=StiffenedGas(1.4, 0.0)
    ),
    "nsf 1d, walls": fluid(LINE, FLAT_WALLS, knudsen=KN / 100),
    "nsf 2d rkl2, walls": fluid(PLANE, WALLS, knudsen=KN / 100, viscous_stages=3),
    "nsf 2d, solid": fluid(PLANE, WALLS, knudsen=KN / 100, body=DISC),
    "bgk 1d, walls": kinetic(LINE, FLAT_WALLS),
    "bgk 2d, solid": kinetic(PLANE, ALL_PERIODIC, body=DISC),
    "bgk 2d, periodic": kinetic(PLANE, ALL_PERIODIC),
    "es-bgk 1d, periodic": kinetic(LINE, ALL_PERIODIC, model="es"),
    "shakhov 1d, reservoirs": kinetic(LINE, RESERVOIRS, model="shakhov"),
    "hermite, periodic": hermite(ALL_PERIODIC),
    "hermite, walls": hermite(FLAT_WALLS),
    "hermite, learned closure": hermite(ALL_PERIODIC, face),
    "hermite, closure ensemble": hermite(ALL_PERIODIC, ensemble),
    "hermite, spectral closure": hermite(ALL_PERIODIC, spectral),
    "hermite, positivity fallback": fallback,
    "hyperbolic 1d, walls": hyperbolic(LINE, WALLS),
    "hyperbolic 2d, walls": hyperbolic(PLANE, WALLS),
    "hyperbolic 2d, directional closure": hyperbolic(
        Grid((16, 16), (0.0, 0.0), (1.0, 1.0)), ALL_PERIODIC, directional
    ),
    "grad13 1d, walls": grad13(LINE, WALLS),
    "grad13 2d, open": grad13(PLANE, OPEN),
    "realizable": realizable(),
    "realizable, learned": realizable(RecurrenceForm(hidden=(8,))),
    "realizable, entropy": realizable(EntropyForm(hidden=(8,))),
    "boltzmann relaxation": relaxation,
    "distributed bgk": distributed,
    "differentiable line": differentiable,
    "steady line": at_rest,
}


# -- electrons, spins, variational problems ------------------------------------------------


MESSAGES = DeterminantForm(width=4, pair_width=4, layers=1, determinants=1, orbitals="none")
ATTENTION = AttentionForm(width=4, heads=2, layers=1, determinants=1, orbitals="none")


def helium(device: Device, form: Any = MESSAGES) -> Electrons:
    problem = molecule(["He"], [[0.0, 0.0, 0.0]])
    net = form.build(problem).double().to(device)
    return Electrons(problem, Flat(net), moves=2)


def electrons(optimiser: Any, form: Any = MESSAGES) -> Callable[[Device], World]:
    def build(device: Device) -> World:
        return simulator(Vmc(helium(device, form), optimiser, 16, burn_in=1))

    return build


def batch(device: Device) -> World:
    return simulator(Batch([helium(device), helium(device)], Spring(), 16, burn_in=1))


def excited(device: Device) -> World:
    below, above = helium(device), helium(device)
    walkers = below.start(16, torch.Generator().manual_seed(1))
    lower = Lower(below, walkers, *below.psi_of(walkers))
    lifted = Lifted(above.hamiltonian, above.flat, moves=2, lower=(lower,))
    return simulator(Vmc(lifted, Spring(), 16, burn_in=1))


def spins(lattice: Any) -> Callable[[Device], World]:
    def build(device: Device) -> World:
        flat = Flat(SymmetricRbm((6,), 2).double().to(device))
        return simulator(Vmc(Spins(lattice, flat), Spring(), 16, burn_in=1))

    return build


def ritz(device: Device) -> World:
    flat = Flat(RitzNet(2, 4, 1).double().to(device))
    return simulator(DeepRitz(Mixed(2), flat, 24, 500.0))


QUANTUM = {
    "vmc molecule, spring": electrons(Spring()),
    "vmc molecule, adam": electrons(Adam()),
    "vmc attention": electrons(Spring(), ATTENTION),
    "vmc batch": batch,
    "vmc excited": excited,
    "vmc ising": spins(Ising((6,))),
    "vmc heisenberg": spins(Heisenberg((6,))),
    "vmc frustrated": spins(Heisenberg((6,), 0.3)),
    "deep ritz": ritz,
}

WORLDS: dict[str, Callable[[Device], World]] = {**MD, **GAS, **QUANTUM}


# -- what is known to fall short -----------------------------------------------------------


SPEED = "Fast on every machine, raced fairly, ready for the GPU"
GAS_PACKAGE = "One gas package: equations x scheme x boundary x closure"
COLLISIONS = "The gas's own collisions: scattering, transport coefficients, DSMC"
CLOSURES = "Learned closures that pay for themselves, measured by what there is to predict"
VMC = (
    "Variational Monte Carlo: start at Hartree-Fock, half the step, "
    "more of the periodic table"
)


class Short(NamedTuple):
    """In what a world falls short.

    Attributes:
        issue: title of the issue that owns it.
        reason: what the host waits for, or what the device says.
        waits: waits of the host in one step; at most, where ``iterates``.
        uploads: copies from host to device in one step, at most.
        iterates: whether the number of waits depends on round-off: it is that of the
            iterations of a solver.
        stage: where a device refuses it, or "".
    """

    issue: str
    reason: str
    waits: int = 0
    uploads: int = 0
    iterates: bool = False
    stage: str = ""


COPIED = "constants are copied at every use"
DRAWN = "the set-point of this step is made on the host"
TABLES = "lists of indices are copied at every use"
NEWTON = "whether Newton's method for the Maxwellian has converged"
WALKERS = "whether energies and the direction are finite, whether a matrix is definite"

EXCEPTIONS: dict[str, Short] = {
    "md stillinger-weber": Short(SPEED, COPIED, 0, 1),
    "md sum with zbl": Short(SPEED, COPIED, 0, 2),
    "md higher moments": Short(SPEED, COPIED, 0, 1),
    "md smooth edition": Short(SPEED, COPIED, 0, 1),
    "md fixed atoms": Short(SPEED, DRAWN, 0, 1),
    "md adjoint": Short(SPEED, "a list; looks at it, once each way; the end", 18, 27),
    "md langevin": Short(SPEED, DRAWN, 0, 1),
    "md bussi": Short(SPEED, DRAWN, 0, 1),
    "md nose-hoover": Short(SPEED, DRAWN, 0, 4),
    "md cell rescaling": Short(SPEED, DRAWN, 0, 7),
    "md mtk": Short(SPEED, DRAWN, 0, 4),
    "hermite, learned closure": Short(CLOSURES, TABLES, 0, 2),
    "hermite, closure ensemble": Short(CLOSURES, f"{TABLES}; masks of members", 4, 2),
    "hermite, spectral closure": Short(CLOSURES, f"{TABLES}; a solver's info", 2, 4),
    "hermite, positivity fallback": Short(
        GAS_PACKAGE, "whether and where runs are lost", 10
    ),
    "hyperbolic 2d, directional closure": Short(CLOSURES, TABLES, 0, 16),
    "realizable, entropy": Short(CLOSURES, "a solver's info", 12, 2),
    "boltzmann relaxation": Short(COLLISIONS, "a solver's info", 4),
    "distributed bgk": Short(SPEED, NEWTON, 20, 0, True),
    "differentiable line": Short(GAS_PACKAGE, NEWTON, 80, 25, True),
    "steady line": Short(
        GAS_PACKAGE, f"{NEWTON}; how far the residual fell", 150, 25, True
    ),
    "vmc molecule, spring": Short(VMC, f"{WALKERS}; the nuclei are copied", 3, 8),
    "vmc molecule, adam": Short(VMC, f"{WALKERS}; the nuclei are copied", 2, 8),
    "vmc attention": Short(VMC, f"{WALKERS}; the nuclei are copied", 3, 8),
    "vmc batch": Short(VMC, f"{WALKERS}, of each system; nuclei are copied", 4, 16),
    "vmc excited": Short(VMC, f"{WALKERS}; the nuclei are copied", 3, 8),
    "vmc ising": Short(VMC, f"{WALKERS}; each flip", 10, 4),
    "vmc heisenberg": Short(VMC, f"{WALKERS}; each flip", 22, 4),
    "vmc frustrated": Short(VMC, f"{WALKERS}; each flip", 22, 4),
    "deep ritz": Short(VMC, "whether a shorter step is lower; means", 12, 2, True),
}


# -- the worlds ----------------------------------------------------------------------------


@dataclass
class Report:
    """What became of one world."""

    failed: dict[str, str] = field(default_factory=dict)
    waits: dict[str, int] = field(default_factory=dict)
    uploads: dict[str, int] = field(default_factory=dict)

    def figures(self) -> tuple[int, int]:
        """Waits and uploads of one step."""
        return sum(self.waits.values()), sum(self.uploads.values())


def told(error: Exception) -> str:
    """Return the error with its place in the engine."""
    places = [
        f"{name[name.index(part) + 1 :]}:{line}"
        for name, line, *_ in traceback.extract_tb(error.__traceback__)
        for part in ("/engine/", "/models/")
        if part in name and "site-packages" not in name
    ]
    return f"{places[-1] if places else 'test'}: {type(error).__name__}: {error}"


def named_tensors(value: Any, name: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the tensors of a state: a tensor, a dataclass or a mapping."""
    if isinstance(value, torch.Tensor):
        yield name, value
    elif is_dataclass(value):
        for each in fields(value):
            yield from named_tensors(getattr(value, each.name), f"{name}.{each.name}")
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from named_tensors(each, f"{name}.{key}")


def check_resides(value: Any) -> None:
    """Raise DeviceError if fields (more than a number) are on the CPU."""
    for name, x in named_tensors(value):
        if x.numel() > 1 and not isinstance(x, Shadow):
            raise DeviceError(f"{name} {tuple(x.shape)} is on the cpu")


@cache
def report(name: str) -> Report:
    """Take a world through its stages on the shadow device; the second step is counted."""
    found = Report()
    with shadow_device() as tally:
        stage = "init"
        try:
            world = WORLDS[name](CUDA)
            state = world.init()
            check_resides(state)
            stage = "step"
            state = world.step(state)
            tally.clear()
            state = world.step(state)
            found.waits, found.uploads = dict(tally.waits), dict(tally.uploads)
            check_resides(state)
            stage = "observe"
            observed = world.observe(state)
            for key, value in observed.items():
                assert bool(value.isfinite().all()), f"{key} is not finite"
        except Exception as error:
            found.failed[stage] = told(error)
    return found


@pytest.mark.parametrize("stage", ["init", "step", "observe"])
@pytest.mark.parametrize("name", WORLDS)
def test_world(name: str, stage: str) -> None:
    found, known = report(name), EXCEPTIONS.get(name, Short("", ""))
    if stage == known.stage:
        assert stage in found.failed, f"{name}: passes now; take its failure off the list"
        return
    assert stage not in found.failed, f"{name}: {found.failed[stage]}"
    if stage == "step" and not known.stage:
        waits, uploads = found.figures()
        least = known.waits // 3 if known.iterates else known.waits
        assert least <= waits <= known.waits, f"{name}: {waits} waits at {found.waits}"
        assert uploads <= known.uploads, f"{name}: {uploads} copies at {found.uploads}"
        assert bool(uploads) == bool(known.uploads), f"{name}: copies nothing any more"


def adjoint_waits() -> float:
    """Waits that a step adds to the gradient through a trajectory."""
    found = []
    for steps in (4, 8):
        with shadow_device() as tally:
            world = through_time(CUDA, steps)
            state = world.init()
            tally.clear()
            world.step(state)
            found.append(sum(tally.waits.values()))
    return (found[1] - found[0]) / 4


def test_a_gradient_through_more_steps_waits_no_longer() -> None:
    assert adjoint_waits() == 0


def hot_argon(steps: int, always: bool) -> tuple[list[torch.Tensor], int, int]:
    """Positions step by step, waits in steps, and how many lists were made."""
    with shadow_device() as tally:
        world = MolecularDynamics(ARGON, Verlet(), crystal("Ar", CUDA), 2.0, (900.0,))
        state, path, lists = world.init(), [], 0
        tally.clear()
        for _ in range(steps):
            world._memo.looks.always = always
            after = world.step(state)
            lists += after.anchor is not state.anchor
            path.append(after.positions.cpu())
            state = after
        return path, sum(n for at, n in tally.waits.items() if "looks" in at), lists


def test_seldom_looks_at_a_list_change_nothing() -> None:
    (often, many, lists), (seldom, few, same) = (hot_argon(100, k) for k in (True, False))
    assert lists == same >= 3
    assert many == 100 and few < 60
    assert all(torch.equal(a, b) for a, b in zip(often, seldom, strict=True))


def test_steps_with_a_list_that_did_not_hold_are_made_again(monkeypatch) -> None:
    """The planted defect: the host takes atoms to stand still, and looks far too late."""
    often, _, _ = hot_argon(100, True)
    real = Looks.used_up
    monkeypatch.setattr(Looks, "used_up", lambda self, x, state, _: real(self, x, state, 0))
    late, _, _ = hot_argon(100, False)
    right = [torch.equal(a, b) for a, b in zip(often, late, strict=True)]
    assert not all(right)  # between two looks
    assert sum(right) > 5 and any(right[right.index(False) :])


def test_what_a_device_made_with_a_wrong_list_is_not_observed(monkeypatch) -> None:
    real = Looks.used_up
    monkeypatch.setattr(Looks, "used_up", lambda self, x, state, _: real(self, x, state, 0))
    with shadow_device():
        world = MolecularDynamics(ARGON, Verlet(), crystal("Ar", CUDA), 2.0, (900.0,))
        state = world.init()
        for _ in range(19):
            state = world.step(state)
        with pytest.raises(GuardError, match="before the host looked"):
            world.observe(state)


def test_the_list_names_worlds_and_issues() -> None:
    assert set(EXCEPTIONS) <= set(WORLDS)
    for name, known in EXCEPTIONS.items():
        assert known.issue and known.reason, name
        assert known.stage or known.waits or known.uploads, name


@pytest.mark.parametrize(
    "name", ["euler 1d muscl, open", "hermite, walls", "bgk 1d, walls"]
)
def test_the_numbers_are_those_of_the_cpu(name: str) -> None:
    with shadow_device():
        world = WORLDS[name](CUDA)
        observed = world.observe(world.step(world.init()))
        there = {key: value.cpu() for key, value in observed.items()}
    world = WORLDS[name](CPU)
    here = world.observe(world.step(world.init()))
    for key, value in here.items():
        torch.testing.assert_close(there[key], value, rtol=1e-12, atol=1e-12)


# -- jobs: what stands around a world ------------------------------------------------------

JOBS = {
    "sod": ["time.end=0.006", "time.frames=1"],
    "sound_wave": ["time.end=0.02", "time.frames=1"],
    "isentropic_vortex": ["grid.cells=[16, 16]", "time.end=0.2"],
    "argon_nve": [],
}


@pytest.mark.parametrize("name", JOBS)
def test_job(name: str, tmp_path: Path) -> None:
    """A shortened scenario to its end: outputs, checks and references too."""
    with shadow_device() as tally, RunFolder.create(tmp_path / "run", "", {}) as folder:
        settings = [*SHORT[name].settings, *JOBS[name], 'device="cuda"']
        job = assemble(*load(name, settings))
        outcome = job.run(folder, console_reporter(quiet=True))
    assert outcome.figures
    assert tally.operations > 100


# -- the harness itself --------------------------------------------------------------------


def planted_cpu_tensor(state: torch.Tensor) -> torch.Tensor:
    return state + torch.ones(3)


def planted_generator(state: torch.Tensor) -> torch.Tensor:
    return torch.randn(3, generator=generator(1), device=state.device)


def planted_numpy(state: torch.Tensor) -> Any:
    return np.asarray(state)


def planted_index(_: torch.Tensor) -> torch.Tensor:
    return torch.ones(3)[torch.zeros(2, dtype=torch.int64, device=CUDA)]


def planted_kernel(state: torch.Tensor) -> None:
    parts = [torch.zeros(2, 3, dtype=F64, device=CUDA) for _ in range(2)]
    k_normals(
        torch.zeros(1, dtype=torch.int64, device=CUDA),
        torch.zeros(1, dtype=torch.int64),
        torch.zeros(1, 3, dtype=torch.int32, device=CUDA), 0, parts[0],
    )  # fmt: skip


def planted_gap(state: torch.Tensor) -> None:
    k_normals(
        torch.zeros(1, dtype=torch.int64, device=CUDA),
        torch.zeros(1, dtype=torch.int64, device=CUDA),
        torch.zeros(1, 3, dtype=torch.int32, device=CUDA), 0,
        torch.zeros(3, 2, dtype=F64, device=CUDA).mT,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("planted", "said"),
    [
        (planted_cpu_tensor, "add: tensors of two devices"),
        (planted_generator, "generator of the cpu"),
        (planted_numpy, "numpy"),
        (planted_index, "indices on cuda"),
        (planted_kernel, "kernel k_normals: step on the cpu"),
        (planted_gap, "kernel k_normals: out is not contiguous"),
    ],
)
def test_planted_defects_are_refused(planted: Callable, said: str) -> None:
    with shadow_device(), pytest.raises(DeviceError, match=said):
        planted(torch.ones(3, device="cuda"))


def test_a_planted_defect_in_a_world_is_named_with_its_line(monkeypatch) -> None:
    def wrong(self, knudsen, density, temperature):
        return knudsen * torch.ones(density.shape, dtype=F64)

    monkeypatch.setattr(Gas, "relaxation_time", wrong)
    report.cache_clear()
    try:
        found = report("hermite, periodic")
    finally:
        report.cache_clear()
    assert "DeviceError: mul: tensors of two devices" in found.failed["step"]
    assert "engine/gas/equations/hermite.py" in found.failed["step"]


def test_waits_and_uploads_are_counted() -> None:
    with shadow_device() as tally:
        x = torch.arange(4.0, device="cuda")
        assert not tally.waits and not tally.uploads
        asked = [
            lambda: float(x.sum()), lambda: bool((x > 1).any()), lambda: x.tolist(),
            lambda: x.cpu(), lambda: x[x > 1], lambda: torch.nonzero(x),
            lambda: torch.linalg.inv(torch.eye(2, device="cuda")),
        ]  # fmt: skip
        for number, ask in enumerate(asked, 1):
            ask()
            assert tally.waits == {"test": number}
        given = [
            lambda: torch.tensor([1.0], device=x.device), lambda: x[[0, 2]],
            lambda: torch.ones(2).to(x), lambda: x.new_tensor([1.0]),
        ]  # fmt: skip
        for number, give in enumerate(given, 1):
            give()
            assert tally.uploads == {"test": number}
        assert tally.waits == {"test": len(asked)}


def mixtures(device: torch.device) -> dict[str, Callable[[], Any]]:
    here, there = torch.ones(3), torch.ones(3, device=device)
    number, at = torch.tensor(2.0), torch.tensor([0, 2])
    return {
        "sum": lambda: there + here,
        "number": lambda: there * number,
        "into cpu": lambda: here.add_(there),
        "where": lambda: torch.where(there > 0, there, number),
        "cat": lambda: torch.cat([there, here]),
        "matrix": lambda: torch.outer(there, here),
        "gather": lambda: torch.gather(there, 0, at),
        "copy": lambda: here.copy_(there),
        "move": lambda: there.to(here),
    }


@pytest.mark.parametrize("name", mixtures(CPU))
def test_the_rules_are_torch_s(name: str) -> None:
    """The same operations are refused as of torch's own tensors without numbers."""

    def refused(mode: Any) -> bool:
        with mode:
            operation = mixtures(CUDA)[name]
            try:
                operation()
            except RuntimeError:
                return True
        return False

    assert refused(shadow_device()) == refused(FakeTensorMode())


def test_a_step_on_a_device_marks_what_is_unphysical_for_the_next_report() -> None:
    """Nobody waits in the step; the guard of the report stops at the mark."""
    with shadow_device():
        world = hermite_world(
            LINE, (ALL_PERIODIC,), Gas.constant_time(1), KN, 5, 1e-3, device=CUDA
        )
        state = world.init(torch.Generator())
        moments = state.moments.clone()
        moments[0, 2, 3] = -1.0  # the planted defect: a temperature below nothing
        observed = world.observe(world.step(replace(state, moments=moments)))
        seen = {name: x.cpu() for name, x in observed.items()}
    with pytest.raises(GuardError, match="system 0"):
        positivity_guard("")(1, None, seen)
