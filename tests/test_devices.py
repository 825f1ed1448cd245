"""Every world on a CUDA device that is not there: ``init``, ``step``, ``observe``.

A world that a device would refuse stands in ``EXCEPTIONS`` by name, with the issue that owns
it, and so does one whose step makes the host wait. The list only shrinks: a world that is
better than its row fails as well as one that is worse.
"""

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from ase.build import bulk
from devices import CPU, CUDA, DeviceError, Shadow, shadow_device
from torch._subclasses.fake_tensor import FakeTensorMode

from scalebridge.engine.gas import exact
from scalebridge.engine.gas.boundaries import ALL_PERIODIC, Inflow, Open, Sides, Wall
from scalebridge.engine.gas.grid import Grid
from scalebridge.engine.gas.kinetic import steady
from scalebridge.engine.gas.kinetic.boltzmann import Boltzmann
from scalebridge.engine.gas.kinetic.differentiable import LineKinetics
from scalebridge.engine.gas.kinetic.distributed import DistributedBgk
from scalebridge.engine.gas.kinetic.maxwell import MaxwellWorld, largest_step
from scalebridge.engine.gas.kinetic.velocities import Velocities
from scalebridge.engine.gas.kinetic.world import KineticWorld
from scalebridge.engine.gas.material import Gas
from scalebridge.engine.gas.moment.directional import DirectionalClosure
from scalebridge.engine.gas.moment.fluid import FluidWorld
from scalebridge.engine.gas.moment.grad13 import Grad13World
from scalebridge.engine.gas.moment.hermite import HermiteWorld
from scalebridge.engine.gas.moment.hyperbolic import HyperbolicWorld
from scalebridge.engine.gas.moment.learned import ClosureEnsemble, Learned, Spectral
from scalebridge.engine.gas.moment.positivity import PositivityFallback
from scalebridge.engine.gas.moment.realizable import RealizableWorld
from scalebridge.engine.gas.moment.state_equation import StiffenedGas
from scalebridge.engine.gas.moment.upwind import roe
from scalebridge.engine.kernels.verlet import k_kick
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
from scalebridge.engine.md.state import concatenate
from scalebridge.engine.md.structure import from_atoms
from scalebridge.engine.md.world import MolecularDynamics
from scalebridge.engine.ritz.solver import DeepRitz, Mixed
from scalebridge.engine.runtime import generator
from scalebridge.engine.vmc.electrons import Electrons
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
from scalebridge.models.wavefunctions.determinant import DeterminantNet
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


# -- molecular dynamics ------------------------------------------------------------------


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


def through_time(device: Device) -> World:
    """The adjoint of a trajectory: one step is four steps and their gradient."""
    one = torch.tensor([0.0104, 3.4], dtype=F64, device=device)

    def world(p: torch.Tensor) -> MolecularDynamics:
        return MolecularDynamics(
            SmoothLennardJones(p[:1], p[1:], 5.0), Verlet(), crystal("Ar", device), 1.0, (300.0,)
        )

    def step(state: Any) -> Any:
        p = one.clone().requires_grad_()
        path = adjoint.trajectory(
            world(p), state, 4, lambda _, s: s.positions.square().sum()[None], 2
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


# -- gas ---------------------------------------------------------------------------------

LINE, PLANE = Grid((16,), (0.0,), (1.0,)), Grid((12, 8), (0.0, 0.0), (1.0, 1.0))
OPEN = Sides(Open(), Open())
WALLS = Sides(Wall(1.0), Wall(1.1, (0.0, 0.1, 0.0), 0.8))
FLAT_WALLS = Sides(Wall(1.0), Wall(1.1, (0.0,), 0.8))
RESERVOIRS = Sides(Inflow(1.0, (0.1,), 1.0), Open())
KN = torch.tensor([0.1, 1.0], dtype=F64)


def fluid(grid: Grid, sides: Sides, **more: Any) -> Callable[[Device], World]:
    def build(device: Device) -> World:
        every = (sides, *(ALL_PERIODIC,) * (grid.dim - 1))
        return simulator(
            FluidWorld(grid, every, Gas(3), 2, 1e-3, device=device, **more)
        )

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
            HermiteWorld(
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
    return Spectral(form.build().double().requires_grad_(False).to(device))


def ensemble(device: Device) -> Any:
    return ClosureEnsemble([face(device, seed) for seed in range(2)])


def fallback(device: Device) -> World:
    world = HermiteWorld(
        LINE, (ALL_PERIODIC,), Gas.constant_time(1), KN, 5, 1e-2, dissipation=roe,
        device=device, check=False,
    )  # fmt: skip

    def start() -> Any:
        w = torch.zeros(2, 16, 6, dtype=F64)
        w[..., 0], w[..., 2] = 1.0, 0.3
        w[1, :, 1] = -3.0 * torch.sign(LINE.centers(0) - 0.5)
        return world.start(w)

    return World(start, PositivityFallback(world).step, world.observe)


def hyperbolic(grid: Grid, sides: Sides, closure: Any = None) -> Callable[[Device], World]:
    def build(device: Device) -> World:
        every = (sides, *(ALL_PERIODIC,) * (grid.dim - 1))
        if closure is None:
            gas, order = Gas.power_law(3), 3
        else:
            gas, order = Gas.constant_time(2), 5
        return simulator(
            HyperbolicWorld(
                grid, every, gas, KN, order, 1e-3,
                closure=closure and closure(device), device=device,
            )
        )  # fmt: skip

    return build


def directional(device: Device) -> Any:
    return DirectionalClosure(face(device), 1 / 16)


def grad13(grid: Grid, sides: Sides) -> Callable[[Device], World]:
    def build(device: Device) -> World:
        every = (sides, *(ALL_PERIODIC,) * (grid.dim - 1))
        return simulator(
            Grad13World(grid, every, Gas.power_law(3), KN, 1e-3, device=device)
        )

    return build


def realizable(form: Any = None) -> Callable[[Device], World]:
    def build(device: Device) -> World:
        more = {}
        if form is not None:
            more["closure"] = form.build().double().requires_grad_(False).to(device)
        return simulator(
            RealizableWorld(
                LINE, (OPEN,), Gas.constant_time(1), KN.to(device), 1e-3, **more
            )
        )

    return build


def maxwell(device: Device) -> World:
    collision = Boltzmann(2, 24, 6.0, 4)
    step = largest_step(LINE, collision)
    return simulator(MaxwellWorld(LINE, (OPEN,), collision, KN[:1].to(device), step))


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
        after = solver.advance(f.detach(), 0.02, 4, 2)
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
    "nsf 1d, walls": fluid(LINE, WALLS, knudsen=KN / 100),
    "nsf 2d rkl2, walls": fluid(PLANE, WALLS, knudsen=KN / 100, viscous_stages=3),
    "bgk 1d, walls": kinetic(LINE, FLAT_WALLS),
    "bgk 2d, periodic": kinetic(PLANE, ALL_PERIODIC),
    "es-bgk 1d, periodic": kinetic(LINE, ALL_PERIODIC, model="es"),
    "shakhov 1d, reservoirs": kinetic(LINE, RESERVOIRS, model="shakhov"),
    "hermite, periodic": hermite(ALL_PERIODIC),
    "hermite, walls": hermite(FLAT_WALLS),
    "hermite, learned closure": hermite(
        ALL_PERIODIC, lambda device: Learned(face(device)), dissipation=roe
    ),
    "hermite, closure ensemble": hermite(ALL_PERIODIC, ensemble, dissipation=roe),
    "hermite, spectral closure": hermite(ALL_PERIODIC, spectral, dissipation=roe),
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
    "boltzmann in space": maxwell,
    "boltzmann relaxation": relaxation,
    "distributed bgk": distributed,
    "differentiable line": differentiable,
    "steady line": at_rest,
}


# -- electrons, spins, variational problems ------------------------------------------------


def network(problem: Any, device: Device) -> Flat:
    net = DeterminantNet(
        problem.positions, problem.charges, problem.up, problem.down, 4, 4, 1, 1, seed=0
    )
    return Flat(net.double().to(device))


def electrons(optimiser: Any) -> Callable[[Device], World]:
    def build(device: Device) -> World:
        problem = molecule(["He"], [[0.0, 0.0, 0.0]])
        some = Electrons(problem, network(problem, device), moves=2)
        return simulator(Vmc(some, optimiser, 16, burn_in=1))

    return build


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
    "vmc ising": spins(Ising((6,))),
    "vmc heisenberg": spins(Heisenberg((6,))),
    "deep ritz": ritz,
}

WORLDS: dict[str, Callable[[Device], World]] = {**MD, **GAS, **QUANTUM}


# -- what is known to fall short -----------------------------------------------------------


class Short(NamedTuple):
    """In what a world falls short.

    Attributes:
        issue: title of the issue that owns it.
        stage: where a device refuses it, or "".
        reason: what the device says.
        waits: waits of the host in one step.
        uploads: copies from host to device in one step.
    """

    issue: str
    stage: str = ""
    reason: str = ""
    waits: int = 0
    uploads: int = 0


EXCEPTIONS: dict[str, Short] = {}


@dataclass
class Report:
    """What became of one world."""

    failed: dict[str, str] = field(default_factory=dict)
    waits: dict[str, int] = field(default_factory=dict)
    uploads: dict[str, int] = field(default_factory=dict)
    launches: dict[str, int] = field(default_factory=dict)
    observed: dict[str, torch.Tensor] = field(default_factory=dict)


def told(error: Exception) -> str:
    """Return the error with its place in the engine."""
    places = [
        f"{name[name.index(part) + 1 :]}:{line}"
        for name, line, *_ in traceback.extract_tb(error.__traceback__)
        for part in ("/engine/", "/models/")
        if part in name and "site-packages" not in name
    ]
    return f"{places[-1] if places else 'test'}: {type(error).__name__}: {error}"


@cache
def report(name: str) -> Report:
    """Take a world through its stages on the shadow device; later stages need earlier."""
    found = Report()
    with shadow_device() as tally:
        state: Any = None
        try:
            stage = "init"
            world = WORLDS[name](CUDA)
            state = world.init()
            stage = "step"
            state = world.step(state)
            tally.waits.clear()
            tally.uploads.clear()
            tally.launches.clear()
            state = world.step(state)
            found.waits, found.uploads = dict(tally.waits), dict(tally.uploads)
            found.launches = dict(tally.launches)
            stage = "observe"
            found.observed = dict(world.observe(state))
        except Exception as error:
            found.failed[stage] = told(error)
    return found
