"""Constant pressure: conserved quantities, mean pressure, volume fluctuations."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase.build import bulk

from scalebridge.engine.md.barostats import (
    MTK,
    CellRescaling,
    Heated,
    anisotropic,
    isotropic,
    strained,
    triclinic,
)
from scalebridge.engine.md.classical import LennardJones, StillingerWeber
from scalebridge.engine.md.integrators import Bussi, Langevin, NoseHoover, Schedule
from scalebridge.engine.md.state import concatenate
from scalebridge.engine.md.structure import from_atoms
from scalebridge.engine.md.units import METAL, REDUCED
from scalebridge.engine.md.world import MolecularDynamics

FEMTO, GPA = 1 / METAL.time, 1 / METAL.pressure


def crystal_world(integrator, dt=1.0, temperature=300.0, a=5.431):
    atoms = bulk("Si", "diamond", a=a, cubic=True).repeat(2)
    start = from_atoms(atoms, ("Si",), seed=1)
    return MolecularDynamics(StillingerWeber(), integrator, start, dt, (temperature,))


def mtk(shape, temperature=300.0, pressure=0.0):
    at = Schedule.constant(temperature)
    return MTK(at, Schedule.constant(pressure * GPA), 200 * FEMTO, shape)


def rescaling(shape, temperature=300.0, pressure=0.0, thermostat=None):
    at = Schedule.constant(temperature)
    return CellRescaling(
        thermostat or Bussi(at, 50 * FEMTO), at, Schedule.constant(pressure * GPA),
        300 * FEMTO, 0.01 / GPA, shape,
    )  # fmt: skip


def conserved(world, steps, every=1):
    state, values = world.init(), []
    for step in range(steps):
        state = world.step(state)
        if step % every == 0:
            values.append(float(world.observe(state)["conserved"]))
    return state, np.array(values)


@pytest.mark.parametrize("shape", [isotropic, anisotropic, triclinic])
def test_the_enthalpy_of_mtk_is_conserved_to_second_order(shape):
    errors = []
    for dt in (2.0, 1.0):
        world = crystal_world(mtk(shape), dt, 600.0, a=5.40)
        errors.append(np.std(conserved(world, round(160 / dt))[1]))
    assert 3.0 < errors[0] / errors[1] < 5.5
    assert errors[1] < 5e-3


def test_a_barostat_without_its_kinetic_term_is_found_out(monkeypatch):
    """A planted defect: the drag on the momenta lacks the trace."""
    world = crystal_world(mtk(isotropic), 1.0, 600.0, a=5.40)
    right = np.std(conserved(world, 160)[1])
    monkeypatch.setattr(MTK, "_trace", lambda self, rate, setting: 10 * rate[:, 0, 0])
    assert np.std(conserved(crystal_world(mtk(isotropic), 1.0, 600.0, a=5.40), 160)[1]) > (
        5 * right
    )


@pytest.mark.parametrize(
    "integrator",
    [
        rescaling(isotropic),
        rescaling(triclinic),
        Heated(mtk(anisotropic), Bussi(Schedule.constant(300.0), 50 * FEMTO)),
    ],
)
def test_work_and_heat_are_accounted_for(integrator):
    state, values = conserved(crystal_world(integrator, a=5.40), 250)
    # of 0.04 eV per atom that went in and out
    assert np.ptp(values) / state.atoms < 3e-4
    assert float(state.cell[0, 0, 0]) > 2 * 5.405


def fluctuation(integrator, dt, name, duration=120.0):
    """Root mean square over time and three replicas, eV."""
    world = crystal_world(integrator, dt, 600.0, a=5.40)
    starts = [replace(world.start, seed=world.start.seed + k) for k in range(3)]
    world = replace(world, start=concatenate(starts))
    state, values = world.init(), []
    for _ in range(round(duration / dt)):
        state = world.step(state)
        values.append(world.observe(state)[name].numpy())
    return float(np.sqrt(np.var(values, axis=0).mean()))


HOT = Schedule.constant(600.0)


@pytest.mark.parametrize(
    "integrator",
    [
        Langevin(HOT, 100 * FEMTO),
        Bussi(HOT, 50 * FEMTO),
        NoseHoover(HOT, 100 * FEMTO),
        rescaling(isotropic, 600.0),
        rescaling(triclinic, 600.0),
        Heated(mtk(anisotropic, 600.0), Bussi(HOT, 50 * FEMTO)),
    ],
    ids=["langevin", "bussi", "nose-hoover", "rescaling", "triclinic", "mtk-bussi"],
)
def test_what_a_bath_conserves_is_of_second_order(integrator):
    coarse, fine = (fluctuation(integrator, dt, "conserved") for dt in (2.0, 1.0))
    assert 3.5 < coarse / fine < 4.5


def test_heat_that_is_not_counted_is_found_out():
    """A planted defect: the energy without what the bath gave."""
    bath = Bussi(HOT, 50 * FEMTO)
    coarse, fine = (fluctuation(bath, dt, "total_energy") for dt in (2.0, 1.0))
    assert coarse / fine < 2.0


@pytest.mark.parametrize(
    "barostat", [pytest.param("rescaling", marks=pytest.mark.slow), "mtk"]
)
def test_the_mean_pressure_is_the_one_asked_for(barostat):
    at = Schedule.constant(300.0)
    integrator = {
        "rescaling": replace(rescaling(isotropic, pressure=4.0), relaxation=100 * FEMTO),
        "mtk": Heated(mtk(isotropic, pressure=4.0), Bussi(at, 50 * FEMTO)),
    }[barostat]
    world = crystal_world(integrator, 2.0, a=5.35)
    starts = [replace(world.start, seed=world.start.seed + k) for k in range(8)]
    world = replace(world, start=concatenate(starts))
    state, pressures = world.init(), []
    for step in range(600):
        state = world.step(state)
        if step > 200 and step % 5 == 0:
            pressures.append(world.observe(state)["pressure"].numpy())
    assert np.mean(pressures) == pytest.approx(4.0, abs=0.15)


@pytest.mark.parametrize("shape", [isotropic, triclinic])
def test_replicas_under_pressure_equal_replicas_alone(shape):
    one = crystal_world(rescaling(shape), 2.0)
    starts = [one.start, replace(one.start, seed=one.start.seed + 5)]
    together = replace(one, start=concatenate(starts))

    def final(world):
        state = world.init()
        for _ in range(40):
            state = world.step(state)
        return state

    both = final(together)
    for system, start in enumerate(starts):
        alone = final(replace(one, start=start, _memo=type(one._memo)()))
        mine = both.system == system
        torch.testing.assert_close(both.cell[system], alone.cell[0], rtol=0, atol=1e-13)
        torch.testing.assert_close(
            both.positions[mine], alone.positions, rtol=0, atol=1e-12
        )


def test_a_list_stays_valid_while_the_cell_changes():
    """Forces during a strong compression equal those of a list built on the spot."""
    world = crystal_world(rescaling(triclinic, pressure=60.0), 2.0)
    fresh = replace(world, _memo=type(world._memo)())
    state, rebuilt = world.init(), 0
    for _ in range(60):
        anchor = state.anchor
        state = world.step(state)
        rebuilt += state.anchor is not anchor
        here = replace(state, anchor=state.positions, anchor_cell=state.cell)
        now = world.potential(here, fresh.neighbours(here))
        torch.testing.assert_close(state.forces, now.forces, rtol=0, atol=1e-10)
    assert 0 < rebuilt < 60
    assert float(state.cell.det()) < 0.98 * float(world.start.cell.det())


def test_strain_keeps_scaled_positions():
    state = crystal_world(mtk(isotropic)).start
    strain = torch.tensor([[[0.02, 0.01, 0], [0.01, -0.01, 0], [0, 0, 0.03]]]).double()
    moved = strained(state, strain)
    before = torch.linalg.solve(state.cell[0].T, state.positions.T)
    after = torch.linalg.solve(moved.cell[0].T, moved.positions.T)
    torch.testing.assert_close(after, before)


def dense_gas(temperature, pressure, replicas, barostat):
    atoms = bulk("Ar", "fcc", a=(4 / 0.5) ** (1 / 3), cubic=True).repeat(2)
    atoms.set_masses(np.ones(len(atoms)))
    start = concatenate([from_atoms(atoms, ("Ar",), seed=k) for k in range(replicas)])
    at, bath = Schedule.constant(temperature), Bussi(Schedule.constant(temperature), 0.1)
    under = Schedule.constant(pressure)
    integrator = {
        "rescaling": CellRescaling(bath, at, under, 0.5, 0.2),
        "mtk": Heated(MTK(at, under, 0.5), bath),
    }[barostat]
    potential = LennardJones((1.0,), (1.0,), 2.0, ("Ar",))
    return MolecularDynamics(
        potential, integrator, start, 0.005, (temperature,), 0.5, REDUCED
    )


@pytest.mark.slow
@pytest.mark.parametrize("barostat", ["rescaling", "mtk"])
def test_volumes_at_two_pressures_have_the_ratio_of_boltzmann_factors(barostat):
    import physical_validation as pv
    from test_md_ensembles import UNITS

    data, temperature = [], 2.0
    for pressure in (1.0, 1.12):
        world = dense_gas(temperature, pressure, 60, barostat)
        state, volumes, energies = world.init(), [], []
        for step in range(6000):
            state = world.step(state)
            if step > 1000 and step % 200 == 0:
                seen = world.observe(state)
                volumes.append(seen["volume"].numpy())
                energies.append(seen["potential_energy"].numpy())
        data.append(
            pv.data.SimulationData(
                units=UNITS,
                ensemble=pv.data.EnsembleData(
                    "NPT", natoms=32, pressure=pressure, temperature=temperature
                ),
                observables=pv.data.ObservableData(
                    potential_energy=np.concatenate(energies),
                    volume=np.concatenate(volumes),
                ),
            )
        )
    sigmas = pv.ensemble.check(
        *data, total_energy=False, verbosity=0, data_is_uncorrelated=True
    )
    assert max(np.abs(sigmas)) < 3.0
