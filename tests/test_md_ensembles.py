"""Ensembles by ``physical_validation``, with thermostats that are broken on purpose."""

from dataclasses import dataclass, replace

import numpy as np
import physical_validation as pv
import pytest
import torch
from ase.build import bulk

from scalebridge.engine.md.classical import LennardJones, StillingerWeber
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
from scalebridge.engine.md.world import MolecularDynamics

# Reduced units; the package works in kJ/mol, nm^3 and bar, where p V has a factor.
UNITS = pv.data.UnitData(
    kb=1.0,
    energy_conversion=1.0,
    length_conversion=1.0,
    volume_conversion=1.0,
    temperature_conversion=1.0,
    pressure_conversion=1 / 6.022140857e-2,
    time_conversion=1.0,
)
TEMPERATURE, DENSITY = 1.5, 0.6


@dataclass(frozen=True)
class Berendsen(Bussi):
    """A planted defect: the mean of the kinetic energy is right, its spread too small."""

    def factor(self, state, kinetic, degrees, thermal, dt):
        return (1 + dt / self.relaxation * (0.5 * degrees * thermal / kinetic - 1)).sqrt()


@dataclass(frozen=True)
class HalfCold(Langevin):
    """A planted defect: the noise is drawn at a slightly wrong temperature."""

    def step(self, state, setting):
        wrong = replace(setting, boltzmann=0.9 * setting.boltzmann)
        return super().step(state, wrong)


def samples(
    integrator, replicas, steps, interval, temperature=TEMPERATURE, warm=200, first=0
):
    """Kinetic and potential energies of a dense gas, from independent replicas."""
    atoms = bulk("Ar", "fcc", a=(4 / DENSITY) ** (1 / 3), cubic=True).repeat(2)
    atoms.set_masses(np.ones(len(atoms)))
    seeds = range(first, first + replicas)
    start = concatenate([from_atoms(atoms, ("Ar",), seed=k) for k in seeds])
    potential = LennardJones((1.0,), (1.0,), 2.0, ("Ar",))
    world = MolecularDynamics(
        potential, integrator, start, 0.005, (temperature,), 0.5, REDUCED
    )
    state, kinetic, energy = world.init(), [], []
    for step in range(warm + steps):
        state = world.step(state)
        if step >= warm and step % interval == 0:
            observed = world.observe(state)
            kinetic.append(observed["kinetic_energy"].numpy())
            energy.append(observed["potential_energy"].numpy())
    degrees = degrees_of_freedom(integrator, world._memo.layout(start))[0]
    reduction = 3 * len(atoms) - int(degrees)
    return np.concatenate(kinetic), np.concatenate(energy), len(atoms), reduction


def simulation(kinetic, energy, atoms, reduction, temperature=TEMPERATURE):
    return pv.data.SimulationData(
        units=UNITS,
        ensemble=pv.data.EnsembleData(
            "NVT", natoms=atoms, volume=atoms / DENSITY, temperature=temperature
        ),
        system=pv.data.SystemData(
            natoms=atoms,
            nconstraints=0,
            ndof_reduction_tra=reduction,
            ndof_reduction_rot=0,
            mass=np.ones(atoms),
        ),
        observables=pv.data.ObservableData(
            kinetic_energy=kinetic,
            potential_energy=energy,
            total_energy=kinetic + energy,
        ),
    )


def strict(integrator, **settings):
    """The p-value that the kinetic energies are canonical."""
    data = simulation(*samples(integrator, **settings))
    return pv.kinetic_energy.distribution(data, strict=True, verbosity=0)


def baths(relaxation):
    at = Schedule.constant(TEMPERATURE)
    return {
        "langevin": Langevin(at, relaxation),
        "bussi": Bussi(at, relaxation),
        "nose-hoover": NoseHoover(at, relaxation),
    }


SHORT = {"replicas": 40, "steps": 360, "interval": 45}
LONG = {"replicas": 100, "steps": 4000, "interval": 100, "warm": 400}


@pytest.mark.parametrize("name", baths(0.08))
def test_kinetic_energies_are_canonical(name):
    assert strict(baths(0.08)[name], **SHORT) > 0.01


@pytest.mark.slow
def test_broken_thermostats_are_found_out():
    at = Schedule.constant(TEMPERATURE)
    assert strict(Berendsen(at, 0.08), **SHORT) < 1e-6
    assert strict(HalfCold(at, 0.08), **SHORT) < 1e-6


# Of Langevin's seeds 0, 1000 and 2000 on, p was 0.003, 0.82 and 0.75: together 0.05.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "first"), [("langevin", 1000), ("bussi", 0), ("nose-hoover", 0)]
)
def test_kinetic_energies_are_canonical_in_a_long_run(name, first):
    assert strict(baths(0.15)[name], **LONG, first=first) > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("name", baths(0.15))
def test_two_temperatures_have_the_ratio_of_boltzmann_factors(name):
    """The potential energies at T and 1.05 T overlap as exp(-E (1/T - 1/T'))."""
    data = []
    for temperature in (TEMPERATURE, 1.05 * TEMPERATURE):
        integrator = replace(baths(0.15)[name], temperature=Schedule.constant(temperature))
        found = samples(integrator, **LONG, temperature=temperature)
        data.append(simulation(*found, temperature=temperature))
    sigmas = pv.ensemble.check(
        *data, total_energy=False, verbosity=0, data_is_uncorrelated=True
    )
    assert max(np.abs(sigmas)) < 3.0


def convergence(integrator, steps=(2.0, 1.0, 0.5), duration=100.0):
    atoms = bulk("Si", "diamond", a=5.431, cubic=True).repeat(2)
    start, found = from_atoms(atoms, ("Si",), seed=3), []
    for dt in steps:
        world = MolecularDynamics(StillingerWeber(), integrator, start, dt, (800.0,))
        state, constant = world.init(), []
        for _ in range(round(duration / dt)):
            state = world.step(state)
            constant.append(float(world.observe(state)["conserved"]))
        data = pv.data.SimulationData(
            dt=dt,
            units=UNITS,
            observables=pv.data.ObservableData(constant_of_motion=np.array(constant)),
        )
        found.append(data)
    return pv.integrator.convergence(found, verbose=False)


TOLERANCE = 0.12
"""Largest deviation of the fluctuations' ratio from that of the squared time steps."""


@dataclass(frozen=True)
class FirstOrder(Verlet):
    """A planted defect: positions move with the old velocities (explicit Euler)."""

    def step(self, state, setting):
        dt = setting.dt
        x = state.positions + dt * state.momenta / state.masses[:, None]
        p = state.momenta + dt * state.forces
        return setting.force(replace(state, positions=x, momenta=p), None)


def test_constant_energy_converges_with_the_square_of_the_time_step():
    assert convergence(Verlet()) < TOLERANCE


def test_a_first_order_integrator_is_found_out():
    assert convergence(FirstOrder()) > 2 * TOLERANCE


def test_kinetic_energy_is_equally_shared_by_the_replicas():
    """Independent replicas: the spread of their means is that of independent samples."""
    kinetic, _, atoms, reduction = samples(baths(0.05)["bussi"], 40, 100, 50)
    degrees = 3 * atoms - reduction
    expected = TEMPERATURE * torch.tensor(degrees / 2.0).sqrt()
    assert np.std(kinetic) == pytest.approx(float(expected), rel=0.25)
