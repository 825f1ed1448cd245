"""Every hand-written adjoint of the project, and the check that none is left out."""

import ast
from pathlib import Path

import pytest
import torch
from ase.build import bulk

from scalebridge.engine.gas.steady import attach
from scalebridge.engine.kernels.ops_pair import lennard_jones
from scalebridge.engine.learn.trainers.tables import _AssembleForces
from scalebridge.engine.md.adjoint import trajectory
from scalebridge.engine.md.differentiable import SmoothLennardJones
from scalebridge.engine.md.differentiable import _Forces as SmoothForces
from scalebridge.engine.md.integrators import Langevin, Schedule
from scalebridge.engine.md.neighbours import build_neighbours
from scalebridge.engine.md.state import replace
from scalebridge.engine.md.structure import from_atoms
from scalebridge.engine.md.units import REDUCED
from scalebridge.engine.md.world import MolecularDynamics
from scalebridge.models.potentials.deep_potential import _PairGradient, _SeriesGradient

ROOT = Path(__file__).resolve().parent.parent
CUTOFF = 1.7


def random(*shape, seed=1):
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=draws, dtype=torch.float64)


def few_atoms():
    """Four atoms of two species in a box smaller than twice the cutoff."""
    atoms = bulk("Ar", "fcc", a=1.6, cubic=True)
    atoms.rattle(0.04, seed=2)
    atoms.set_chemical_symbols(["Ar", "Kr", "Ar", "Kr"])
    atoms.set_masses([1.0, 1.0, 1.0, 1.0])
    return from_atoms(atoms, ("Ar", "Kr"))


STATE = few_atoms()
EPSILON = torch.tensor([1.0, 0.8], dtype=torch.float64)
SIGMA = torch.tensor([1.0, 1.1], dtype=torch.float64)


def smooth(epsilon, sigma):
    return SmoothLennardJones(epsilon, sigma, CUTOFF, ("Ar", "Kr"))


def pair_energy():
    found = build_neighbours(STATE, CUTOFF, 0.2)
    offset = (found.shift.double() @ STATE.cell[0]).contiguous()
    pairs = (found.index.int().contiguous(), offset, found.count)
    parameters = torch.tensor([0.9, 1.05], dtype=torch.float64)
    return lambda x, p: lennard_jones(x, p, pairs, CUTOFF), (STATE.positions, parameters)


def smooth_energy():
    found = build_neighbours(STATE, CUTOFF, 0.2)

    def energy(x, epsilon, sigma):
        return smooth(epsilon, sigma).energy(replace(STATE, positions=x), found)

    return energy, (STATE.positions, EPSILON, SIGMA)


def smooth_forces():
    found = build_neighbours(STATE, CUTOFF, 0.2)

    def forces(x, epsilon, sigma):
        return SmoothForces.apply(x, smooth(epsilon, sigma).table(1), STATE, found)

    return forces, (STATE.positions, EPSILON, SIGMA)


def paths():
    bath = Langevin(Schedule.constant(0.5), 0.3)

    def end(x, p, epsilon, sigma):
        world = MolecularDynamics(
            smooth(epsilon, sigma), bath, STATE, 0.004, None, 0.2, REDUCED
        )
        with torch.no_grad():
            begin = world.init()
        begin = replace(begin, positions=x, momenta=p)
        path = trajectory(world, begin, 5, lambda w, s: s.momenta.square().sum(), 2)
        return path.state.positions, path.state.momenta, path.observed

    return end, (STATE.positions, random(4, 3), EPSILON, SIGMA)


def assembled():
    """Three atoms, each with two neighbours."""
    neighbour = torch.tensor([[1, 2], [0, 2], [0, 1]])
    reverse = torch.tensor([[2, 4], [0, 5], [1, 3]])
    mask = torch.ones(3, 2, dtype=torch.bool)
    return (
        lambda g: _AssembleForces.apply(g, reverse, neighbour, mask),
        (random(2, 3, 2, 3),),
    )


def pair_gradients():
    atoms, blocks, basis, lm = 2, (2, 3), 4, 3
    slots = sum(blocks)
    tables = {
        "radial": random(atoms, slots, basis),
        "radial_slopes": random(atoms, slots, basis, seed=2),
        "angular": random(atoms, slots, lm, seed=3),
        "angular_slopes": random(atoms, 3, slots, lm, seed=4),
        "unit": random(atoms, slots, 3, seed=5),
    }
    return (
        lambda c: _PairGradient.apply(c, tables, blocks),
        (random(2, atoms, 2, basis, lm, seed=6),),
    )


def series_gradients():
    atoms, blocks, basis, lm = 2, (2, 3), 4, 3
    slots = sum(blocks)
    tables = {
        "argument": 0.5 * random(atoms, slots).abs(),
        "argument_slopes": random(atoms, slots, seed=2),
        "largest": torch.tensor([5.0]).double(),
        "angular": random(atoms, slots, lm, seed=3),
        "angular_slopes": random(atoms, 3, slots, lm, seed=4),
        "unit": random(atoms, slots, 3, seed=5),
    }
    return (
        lambda c: _SeriesGradient.apply(c, tables, blocks),
        (random(2, atoms, 2, basis, lm, seed=6),),
    )


def settled():
    """The steady state of x <- tanh(W x + b) as a function of b."""
    w = 0.2 * random(5, 5, seed=7)

    def state(b):
        with torch.no_grad():
            x = torch.zeros_like(b)
            for _ in range(200):
                x = torch.tanh(w @ x + b)
            slopes = (1 - x * x)[:, None] * w - torch.eye(5)
        return attach(
            lambda by: [torch.linalg.solve(slopes.mT, by)], x, torch.tanh(w @ x + b) - x
        )

    return state, (random(5, seed=8),)


CASES = {
    ("engine/kernels/ops_pair.py", "_Energy"): (pair_energy, True),
    # the first derivative of the energy: checked by the second derivatives of it
    ("engine/kernels/ops_pair.py", "_Gradient"): (pair_energy, True),
    ("engine/md/differentiable.py", "_Sums"): (smooth_energy, True),
    ("engine/md/differentiable.py", "_Forces"): (smooth_forces, False),
    ("engine/md/adjoint.py", "_Trajectory"): (paths, False),
    ("engine/gas/steady.py", "_Steady"): (settled, False),
    # forces of networks: linear maps, so force matching needs first derivatives only
    ("engine/learn/trainers/tables.py", "_AssembleForces"): (assembled, False),
    ("models/potentials/deep_potential.py", "_PairGradient"): (pair_gradients, False),
    ("models/potentials/deep_potential.py", "_SeriesGradient"): (series_gradients, False),
}


@pytest.mark.parametrize("key", CASES, ids=lambda key: key[1])
def test_adjoint(key):
    make, twice = CASES[key]
    function, inputs = make()
    inputs = tuple(x.clone().requires_grad_() for x in inputs)
    # GMRES stops by its residual: two runs may differ by rounding
    rounding = 1e-9 if key[1] == "_Steady" else 0.0
    assert torch.autograd.gradcheck(
        function, inputs, atol=1e-6, rtol=1e-5, nondet_tol=rounding
    )
    if twice:
        assert torch.autograd.gradgradcheck(function, inputs, atol=1e-5, rtol=1e-4)


def written_by_hand():
    """All subclasses of ``torch.autograd.Function`` in the source."""
    found = set()
    for room in ("engine", "models", "viz"):
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef) and any(
                    ast.unparse(base).endswith("autograd.Function") for base in node.bases
                ):
                    found.add((str(path.relative_to(ROOT)), node.name))
    return found


def test_no_adjoint_is_left_out():
    assert written_by_hand() == set(CASES)
