"""Compressed potentials against their networks."""

from dataclasses import replace

import pytest
import torch
from ase.build import bulk

from scalebridge.engine import runtime
from scalebridge.engine.kernels import fitting
from scalebridge.engine.kernels.types import Array1, Template, kernel_type, ti
from scalebridge.engine.md import compressed, vectorised
from scalebridge.engine.md.compressed import TOLERANCE, compare, compress
from scalebridge.engine.md.integrators import Verlet
from scalebridge.engine.md.learned import LearnedPotential
from scalebridge.engine.md.neighbours import build_neighbours
from scalebridge.engine.md.state import concatenate
from scalebridge.engine.md.structure import from_atoms
from scalebridge.engine.md.world import MolecularDynamics
from scalebridge.models.potentials.deep_potential import HigherMoments, SmoothEdition

SPECIES = ("Si", "O")
FORMS = {
    "higher moments, committee": HigherMoments(SPECIES, cutoff=4.5, members=3),
    "lmax 2, no products": HigherMoments(
        SPECIES, cutoff=4.5, lmax=2, products=0, members=1
    ),
    "smooth edition": SmoothEdition(
        SPECIES, cutoff=4.5, neurons=(8, 16, 32), axis=4, fitting=(24, 24), members=2
    ),
}


@ti.kernel
def k_tanh(real: Template, x: Array1, out: Array1):
    for i in range(x.shape[0]):
        out[i] = fitting.tanh(x[i], real)


@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float64, 2e-14), (torch.float32, 2e-6)]
)
def test_the_hyperbolic_tangent_holds_for_all_numbers(dtype, bound):
    runtime.start("cpu")
    x = torch.tensor([0.0, 1e-8, 0.3, 1.0, 3.0, 8.0, 19.0, 30.0, 90.0, 1e4, 1e30]).to(dtype)
    x = torch.cat([-x, x])
    out = torch.empty_like(x)
    k_tanh(kernel_type(dtype), x, out)
    torch.testing.assert_close(out, torch.tanh(x), rtol=0, atol=bound)


def oxide(seed=1):
    atoms = bulk("Si", "diamond", a=5.3, cubic=True)
    atoms.symbols[::3] = "O"
    atoms.rattle(0.15, seed=seed)
    atoms.cell[:] += [[0, 0.3, 0], [0, 0, 0.2], [0.1, 0, 0]]
    return from_atoms(atoms, SPECIES)


def network_of(form):
    module = FORMS[form].build(2).double()
    if "smooth" in form:
        module.radial.scale.fill_(4.0)
    module.moment_scale.copy_(torch.linspace(0.5, 0.9, module.lmax + 1))
    module.fitting.energy_scale.fill_(0.7)
    module.fitting.energy_bias.copy_(torch.tensor([-3.0, 2.0]))
    module.fitting.mean.normal_(std=0.2, generator=torch.Generator().manual_seed(3))
    return LearnedPotential(module)


@pytest.fixture(
    params=[(form, vectors) for form in FORMS for vectors in (True, False)],
    ids=lambda p: f"{p[0]}, {'vectors' if p[1] else 'general'}",
    scope="module",
)
def pair(request):
    form, vectors = request.param
    network = network_of(form)
    compact = compress(network, TOLERANCE[torch.float64])
    assert compact.vectorised is not None
    return network, compact if vectors else replace(compact, vectorised=None)


def single_precision(state):
    names = ("positions", "momenta", "masses", "cell", "forces", "anchor", "anchor_cell")
    return replace(state, **{name: getattr(state, name).float() for name in names})


def test_equals_the_network(pair):
    network, compact = pair
    state = oxide()
    table = build_neighbours(state, network.cutoff, 0.4)
    one, two = network(state, table), compact(state, table)
    loose = {"rtol": 1e-7, "atol": 1e-7}
    torch.testing.assert_close(two.energy, one.energy, **loose)
    torch.testing.assert_close(two.forces, one.forces, **loose)
    torch.testing.assert_close(two.virial, one.virial, **loose)
    torch.testing.assert_close(two.deviation, one.deviation, **loose)
    assert compare(compact, state).within(TOLERANCE[torch.float64])


def test_narrow_registers(monkeypatch):
    """What runs on a processor with registers of 32 bytes."""
    monkeypatch.setattr(vectorised, "lanes_of", lambda dtype: 32 // dtype.itemsize)
    network = network_of("smooth edition")
    compact = compress(network, TOLERANCE[torch.float64])
    assert compact.vectorised.lanes == 4
    assert compare(compact, oxide()).within(TOLERANCE[torch.float64])


def test_forces_are_minus_its_own_gradient(pair):
    """The compact conserves energy by itself, whatever its distance from the network."""
    compact, state, h = pair[1], oxide(), 1e-4

    def energy(shift):
        moved = replace(state, positions=state.positions + shift)
        moved = replace(moved, anchor=moved.positions)
        return float(compact(moved, build_neighbours(moved, compact.cutoff, 0.2)).energy)

    forces = compact(state, build_neighbours(state, compact.cutoff, 0.2)).forces
    for i, c in [(0, 0), (3, 1), (5, 2)]:
        shift = torch.zeros_like(state.positions)
        shift[i, c] = h
        slope = (energy(shift) - energy(-shift)) / (2 * h)
        assert float(forces[i, c]) == pytest.approx(-slope, abs=2e-6)


def test_a_damaged_twin_is_refused(pair):
    wrong = replace(pair[1], mix=pair[1].mix * (1 + 1e-4))
    if vectors := wrong.vectorised:
        wrong = replace(wrong, vectorised=replace(vectors, mix=vectors.mix * (1 + 1e-4)))
    assert not compare(wrong, oxide()).within(TOLERANCE[torch.float64])


def test_single_precision(pair):
    network, _ = pair
    single = LearnedPotential(
        network.module.__class__(network.module.config, network.module.lmax)
    )
    single.module.load_state_dict(network.module.state_dict())
    rounded = single_precision(oxide())
    compact = compress(single, TOLERANCE[torch.float32])
    if pair[1].vectorised is None:
        compact = replace(compact, vectorised=None)
    assert compare(compact, rounded).within(TOLERANCE[torch.float32])


def test_a_series_too_short_is_made_longer(monkeypatch):
    """The first series is cut to whole registers, in single precision at times too far."""
    network = LearnedPotential(network_of("smooth edition").module.float())
    state, asked = single_precision(oxide()), []

    def sloppy(network, tolerance):
        compact = compress(network, tolerance)
        asked.append(tolerance)
        return replace(compact, vectorised=None, mix=compact.mix * (1 + 3 * tolerance))

    monkeypatch.setattr(compressed, "compress", sloppy)
    assert compressed.agreeing(network, state) is not None
    assert len(asked) == 2
    monkeypatch.setattr(compressed, "TOLERANCE", {torch.float32: 1e-9})
    assert compressed.agreeing(network, state) is None


def test_a_batch_equals_each_system_alone(pair):
    compact = pair[1]
    states = [oxide(1), oxide(2)]
    both = concatenate(states)
    found = compact(both, build_neighbours(both, compact.cutoff, 0.3))
    for system, state in enumerate(states):
        alone = compact(state, build_neighbours(state, compact.cutoff, 0.3))
        mine = both.system == system
        # products of matrices of other sizes are summed in another order
        torch.testing.assert_close(found.forces[mine], alone.forces, rtol=0, atol=1e-12)
        torch.testing.assert_close(found.energy[system], alone.energy[0])


def test_energy_is_conserved_by_the_dynamics(pair):
    compact = pair[1]
    world = MolecularDynamics(compact, Verlet(), oxide(), 0.5, (100.0,))
    state = world.init()
    first = float(world.observe(state)["conserved"])
    for _ in range(100):
        state = world.step(state)
    assert float(world.observe(state)["conserved"]) == pytest.approx(first, abs=2e-2)
