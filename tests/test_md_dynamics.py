"""Integrators: conserved quantities, reproducibility, and the ensembles they sample."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from scalebridge.engine.errors import GuardError
from scalebridge.engine.md.classical import LennardJones, StillingerWeber, plain
from scalebridge.engine.md.integrators import (
    Bussi,
    Langevin,
    NoseHoover,
    Schedule,
    Verlet,
    degrees_of_freedom,
)
from scalebridge.engine.md.state import concatenate
from scalebridge.engine.md.structure import from_atoms
from scalebridge.engine.md.units import REDUCED
from scalebridge.engine.md.world import ExplosionGuard, MolecularDynamics
from scalebridge.engine.run import pack, unpack

ARGON = ("Ar",)


def melt(cells, seed=1, density=0.8442, dtype=torch.float64):
    atoms = bulk("Ar", "fcc", a=(4 / density) ** (1 / 3), cubic=True).repeat(cells)
    atoms.set_masses(np.ones(len(atoms)))
    return from_atoms(atoms, ARGON, seed=seed, dtype=dtype)


def silicon(repeat=2, seed=1):
    atoms = bulk("Si", "diamond", a=5.431, cubic=True).repeat(repeat)
    return from_atoms(atoms, ("Si",), seed=seed)


def argon_world(start, integrator, dt=0.004, temperature=(1.0,), cutoff=2.5):
    potential = LennardJones((1.0,), (1.0,), cutoff, ARGON)
    return MolecularDynamics(potential, integrator, start, dt, temperature, 0.3, REDUCED)


def advance(world, state, steps):
    for _ in range(steps):
        state = world.step(state)
    return state


def thermostats(temperature=1.0):
    bath = Schedule.constant(temperature)
    return {
        "langevin": Langevin(bath, 0.5),
        "bussi": Bussi(bath, 0.5),
        "nose-hoover": NoseHoover(bath, 0.5),
    }


def test_lennard_jones_melt_equals_lammps():
    """Published: LAMMPS bench/in.lj, 32,000 atoms; the same crystal at any size."""
    potential = LennardJones((1.0,), (1.0,), 2.5, ARGON, plain)
    world = MolecularDynamics(potential, Verlet(), melt(10), 0.005, (1.44,), 0.3, REDUCED)
    observed = world.observe(world.init())
    atoms = 4000
    potential_energy = float(observed["potential_energy"]) / atoms
    assert potential_energy == pytest.approx(-6.7733681, abs=1e-7)
    # LAMMPS counts 3 N - 3 degrees of 32,000 atoms
    kinetic = 1.5 * 1.44 * (1 - 1 / 32000)
    total = float(observed["potential_energy"]) / atoms + kinetic
    assert total == pytest.approx(-4.6134356, abs=1e-7)
    volume = atoms / 0.8442
    shift = (kinetic - float(observed["kinetic_energy"]) / atoms) * 2 * atoms / (3 * volume)
    assert float(observed["pressure"]) + shift == pytest.approx(-5.0197073, abs=1e-6)


@pytest.mark.slow
def test_lennard_jones_melt_after_100_steps():
    potential = LennardJones((1.0,), (1.0,), 2.5, ARGON, plain)
    world = MolecularDynamics(potential, Verlet(), melt(20), 0.005, (1.44,), 0.3, REDUCED)
    observed = world.observe(advance(world, world.init(), 100))
    assert float(observed["temperature"]) == pytest.approx(0.7574531, rel=0.01)
    assert float(observed["total_energy"]) / 32000 == pytest.approx(-4.6223613, abs=1e-3)


def test_energy_error_is_of_second_order():
    start = silicon()

    def fluctuation(dt):
        world = MolecularDynamics(StillingerWeber(), Verlet(), start, dt, (600.0,))
        state, energies = world.init(), []
        for _ in range(round(120 / dt)):
            state = world.step(state)
            energies.append(float(world.observe(state)["conserved"]))
        return np.std(energies)

    ratio = fluctuation(2.0) / fluctuation(1.0)
    assert 3.3 < ratio < 4.8


@dataclass(frozen=True)
class Sloppy(Verlet):
    """A planted defect: velocities a little too long after each step."""

    momentum_conserved: bool = field(default=True, init=False)
    uses_virial: bool = field(default=False, init=False)

    def step(self, state, setting):
        state = super().step(state, setting)
        return replace(state, momenta=state.momenta * 1.0005)


def drift_per_step(integrator, steps=150):
    world = argon_world(melt(4), integrator, dt=0.002)
    state = advance(world, world.init(), 50)
    before = float(world.observe(state)["conserved"])
    after = float(world.observe(advance(world, state, steps))["conserved"])
    return abs(after - before) / state.atoms / steps


@pytest.mark.parametrize("name", ["nve", *thermostats()])
def test_the_conserved_quantity_is_conserved(name):
    integrator = {"nve": Verlet(), **thermostats(0.8)}[name]
    assert drift_per_step(integrator) < 1e-6


def test_a_sloppy_integrator_is_found_out():
    assert drift_per_step(Sloppy()) > 1e-4


def test_a_ramp_keeps_the_conserved_quantity_of_the_chain():
    ramp = Schedule((0.0, 0.3), ((0.8,), (1.2,)))
    assert drift_per_step(NoseHoover(ramp, 0.3)) < 1e-6


def test_a_schedule_is_linear_between_its_points_and_constant_outside():
    ramp = Schedule((1.0, 3.0), ((10.0, 100.0), (20.0, 300.0)))
    times = torch.tensor([0.0, 2.0], dtype=torch.float64)
    assert ramp(times).tolist() == [10.0, 200.0]
    assert ramp(times + 5).tolist() == [20.0, 300.0]


@pytest.mark.parametrize("name", ["nve", *thermostats()])
def test_replicas_in_a_batch_equal_replicas_alone(name):
    integrator = {"nve": Verlet(), **thermostats()}[name]
    starts = [melt(3, seed=5), melt(4, seed=6), melt(3, seed=7)]
    together = argon_world(concatenate(starts), integrator)
    batch = advance(together, together.init(), 40)
    for system, start in enumerate(starts):
        world = argon_world(start, integrator)
        alone = advance(world, world.init(), 40)
        mine = batch.system == system
        assert torch.equal(batch.positions[mine], alone.positions)
        assert torch.equal(batch.momenta[mine], alone.momenta)
        for name_, value in alone.thermostat.items():
            assert torch.equal(batch.thermostat[name_][system], value[0])


def test_one_temperature_for_each_replica():
    starts = [melt(3, seed=k) for k in range(3)]
    bath = Schedule.constant(0.5, 1.0, 2.0)
    world = argon_world(
        concatenate(starts), Langevin(bath, 0.1), temperature=(0.5, 1.0, 2.0)
    )
    state = world.init()
    np.testing.assert_allclose(
        world.observe(state)["kinetic_energy"].numpy() / (1.5 * (108 - 1)), [0.5, 1, 2]
    )
    seen = []
    for _ in range(300):
        state = world.step(state)
        seen.append(world.observe(state)["temperature"].numpy())
    np.testing.assert_allclose(np.mean(seen[100:], 0), [0.5, 1, 2], rtol=0.1)


@pytest.mark.parametrize("name", ["nve", *thermostats()])
def test_a_restored_state_continues_bit_for_bit(name):
    """Also between two rebuilds of the list, and in a world that remembers nothing."""
    integrator = {"nve": Verlet(), **thermostats()}[name]
    world = argon_world(melt(3), integrator)
    middle = advance(world, world.init(), 37)
    stored = {key: tensor.clone() for key, tensor in pack(middle).items()}
    fresh = argon_world(melt(3), integrator)
    restored = unpack(fresh.init(), stored)
    one, two = advance(world, middle, 30), advance(fresh, restored, 30)
    for key, tensor in pack(one).items():
        assert torch.equal(tensor, pack(two)[key]), key


def test_a_step_leaves_its_input_alone():
    world = argon_world(melt(3), Langevin(Schedule.constant(1.0), 0.5))
    state = world.init()
    before = {key: tensor.clone() for key, tensor in pack(state).items()}
    first, second = advance(world, state, 25), advance(world, state, 25)
    for key, tensor in pack(state).items():
        assert torch.equal(tensor, before[key]), key
    assert torch.equal(first.positions, second.positions)


def test_energies_on_demand_change_nothing_but_time():
    potential = LennardJones((1.0,), (1.0,), 2.5, ("Ar",))
    whole, rare = (
        MolecularDynamics(
            potential, Verlet(), melt(3), 0.005, (1.44,), 0.3, REDUCED, totals_every=every
        )
        for every in (1, 4)
    )
    a, b = whole.init(), rare.init()
    for step in range(1, 10):
        a, b = whole.step(a), rare.step(b)
        assert float((a.positions - b.positions).abs().max()) < 1e-10
        assert bool(b.energy.isnan()) == (step % 4 != 0)
        seen, asked = whole.observe(a), rare.observe(b)
        for name in seen:
            assert torch.allclose(seen[name], asked[name], rtol=1e-9, atol=1e-9)


def test_rebuilding_late_would_be_seen():
    """Trajectories with a thin and a thick skin agree; a list never renewed does not."""

    def final(skin, frozen=False):
        world = replace(argon_world(melt(3), Verlet()), skin=skin)
        state = world.init()
        for _ in range(60):
            state = world.step(state)
            if frozen:
                state = replace(state, anchor=world.start.positions)
        return state.positions

    thick = final(0.8)
    assert float((final(0.2) - thick).abs().max()) < 1e-9
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MolecularDynamics, "_anchored", lambda self, state, moved: state)
        assert float((final(0.05) - thick).abs().max()) > 1e-4


def test_total_momentum_stays_zero():
    for integrator in (Verlet(), Bussi(Schedule.constant(1.0), 0.2)):
        world = argon_world(melt(3), integrator)
        state = advance(world, world.init(), 50)
        assert float(state.momenta.sum(0).abs().max()) < 1e-10


def test_noise_is_normal_and_differs_by_atom_step_and_seed():
    from scalebridge.engine.kernels import noise
    from scalebridge.engine.md.neighbours import Layout

    state = melt(10)
    layout = Layout.of(state.system, 1)

    def draw(seed, step, purpose=0):
        out = torch.empty(state.atoms, 3, dtype=torch.float64)
        keys = [torch.tensor([k], dtype=torch.int64) for k in (seed, step)]
        noise.k_normals(*keys, layout.chunks, purpose, out)
        return out.flatten()

    samples = torch.cat([draw(3, step) for step in range(20)]).numpy()
    from scipy import stats

    assert stats.kstest(samples, "norm").pvalue > 1e-3
    assert abs(np.mean(samples**4) - 3) < 0.05
    base = draw(3, 0)
    for other in (draw(4, 0), draw(3, 1), draw(3, 0, 1), draw(3 + 2**32, 0)):
        assert abs(float(torch.corrcoef(torch.stack([base, other]))[0, 1])) < 0.05
    assert torch.equal(base, draw(3, 0))


@pytest.mark.parametrize("degrees", [1.0, 2.0, 7.0, 3000.0])
def test_chi_squared_variates(degrees):
    from scipy import stats

    from scalebridge.engine.kernels import noise

    n = 4000
    out = torch.empty(n, 2, dtype=torch.float64)
    seeds = torch.arange(n, dtype=torch.int64)
    noise.k_chi_squared(
        seeds, torch.zeros(n, dtype=torch.int64), torch.full((n,), degrees).double(), 2, out
    )
    assert stats.kstest(out[:, 0].numpy(), "norm").pvalue > 1e-3
    assert stats.kstest(out[:, 1].numpy(), stats.chi2(degrees).cdf).pvalue > 1e-3
    assert abs(float(torch.corrcoef(out.T)[0, 1])) < 0.05


def test_an_explosion_is_stopped_with_step_atom_and_force():
    atoms = Atoms("Ar2", [[0, 0, 0], [0.2, 0, 0]], cell=np.eye(3) * 20, pbc=True)
    atoms.set_masses([1.0, 1.0])
    world = argon_world(from_atoms(atoms, ARGON), Verlet(), temperature=(0.0,))
    state = world.init()
    with pytest.raises(GuardError, match=r"step 3: .* on atom [01] \(allowed 1000\)"):
        ExplosionGuard()(3, state, world.observe(state))
    with pytest.raises(GuardError, match="exploded"):
        for step in range(200):
            state = world.step(replace(state, forces=state.forces * 1e150))
            ExplosionGuard()(step, state, world.observe(state))


def test_degrees_of_freedom():
    world = argon_world(melt(3), Verlet())
    layout = world._memo.layout(world.start)
    assert degrees_of_freedom(Verlet(), layout).tolist() == [3 * 108 - 3]
    bath = Langevin(Schedule.constant(1.0), 1.0)
    assert degrees_of_freedom(bath, layout).tolist() == [3 * 108]
