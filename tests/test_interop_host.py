"""The stepping API: the host owns the clock, the memory and the order of things."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from ase.build import bulk

from scalebridge.engine.errors import DamagedFileError, GuardError, InputError
from scalebridge.engine.interop.host import Host
from scalebridge.engine.md.classical import StillingerWeber
from scalebridge.engine.md.integrators import Langevin, Schedule, Verlet
from scalebridge.engine.md.structure import from_atoms
from scalebridge.engine.md.world import MolecularDynamics


def silicon(integrator=None, seed=1, temperature=600.0, repeat=2) -> Host:
    atoms = bulk("Si", cubic=True) * ((repeat,) * 3)
    potential = StillingerWeber()
    start = from_atoms(atoms, potential.species, seed=seed)
    return Host(
        MolecularDynamics(potential, integrator or Verlet(), start, 1.0, (temperature,))
    )


def hot(temperature=0.05):
    return Langevin(Schedule.constant(temperature), 5.0)


def test_steps_and_time_are_the_worlds():
    host = silicon()
    alone = host.world.init(None)
    for _ in range(5):
        alone = host.world.step(alone)
    host.step(2).step(3)
    assert torch.equal(host.state.positions, alone.positions)
    assert (host.steps, host.time) == (5, 5.0)


def test_reading_is_without_a_copy():
    host = silicon().step()
    memory = host.array("positions").data_ptr()
    assert np.asarray(host.array("positions")).__array_interface__["data"][0] == memory
    assert np.from_dlpack(host.array("positions")).ctypes.data == memory
    with pytest.raises(InputError, match="it has positions"):
        host.array("velocities")


def test_writing_is_without_a_copy():
    host = silicon().step()
    mine = np.asarray(host.array("momenta")) * 0.5
    host.put("momenta", mine)
    assert host.array("momenta").data_ptr() == mine.ctypes.data
    moved = host.array("positions").clone()
    host.put("positions", moved)
    assert host.array("positions").data_ptr() == moved.data_ptr()


@pytest.mark.parametrize("steps", [0, 7])
def test_moved_atoms_are_felt_at_once(steps):
    """Forces, neighbour list and anchor follow the edit, also right after the start."""
    host = silicon().step(steps)
    before = host.array("forces").clone()
    with host.editing("positions") as positions:
        positions[0] += [0.9, 0.4, 0.2]
    fresh = replace(
        host.world,
        start=replace(host.state, thermostat={}),
        temperature=None,
    )
    expected = fresh.init(None)
    assert not torch.allclose(before, expected.forces, atol=0.1)
    assert torch.allclose(host.state.forces, expected.forces, rtol=0, atol=1e-12)
    assert torch.allclose(host.state.energy, expected.energy, rtol=0, atol=1e-10)
    assert torch.equal(host.state.anchor, host.state.positions)
    energy = float(host.observe()["total_energy"])
    host.step(20)
    assert abs(float(host.observe()["total_energy"]) - energy) < 0.05


def test_a_write_past_the_engine_is_what_editing_prevents():
    """The planted defect: the same change made behind its back leaves stale forces."""
    host = silicon()
    host.array("positions")[0] += 0.9
    good = silicon()
    with good.editing("positions") as positions:
        positions[0] += 0.9
    assert not torch.allclose(host.state.forces, good.state.forces, atol=0.1)


def test_bad_values_are_refused_and_undone():
    host = silicon()
    kept = host.array("positions").clone()
    with pytest.raises(InputError, match="finite"), host.editing("positions") as positions:
        positions[3] = np.nan
    assert torch.equal(host.array("positions"), kept)
    with pytest.raises(InputError, match=r"shape \[3, 3\]"):
        host.put("positions", np.zeros((3, 3)))
    for nothing in ("text", None, kept.numpy().astype(object)):
        with pytest.raises(InputError, match="is no array"):
            host.put("positions", nothing)
    with pytest.raises(InputError, match="complex"):
        host.put("positions", kept.to(torch.complex128))
    for count in (-1, 1.5, "3", float("nan")):
        with pytest.raises(InputError, match="whole numbers"):
            host.step(count)
    assert torch.equal(host.array("positions"), kept) and host.step(np.int64(2)).steps == 2


def test_steps_that_a_guard_ends_are_counted():
    @dataclass(frozen=True)
    class Breaks(_Scalar):
        def step(self, state):
            if float(state.x) > 2.5:
                raise GuardError("broken")
            return super().step(state)

    host = Host(Breaks())
    with pytest.raises(GuardError):
        host.step(5)
    assert host.steps == float(host.state.x) == 3


def test_checkpoint_and_restore(tmp_path):
    host = silicon(hot()).step(5)
    host.checkpoint(tmp_path / "state.safetensors")
    host.step(20)
    expected = host.array("positions").clone()
    again = silicon(hot()).restore(tmp_path / "state.safetensors")
    assert again.steps == 5
    assert torch.equal(again.step(20).array("positions"), expected)
    for other in (Host(_Scalar()), silicon(hot(), repeat=1)):
        with pytest.raises(InputError, match="does not fit"):
            other.restore(tmp_path / "state.safetensors")
    (tmp_path / "state.safetensors").write_bytes(b"no")
    with pytest.raises(DamagedFileError, match="damaged"):
        host.restore(tmp_path / "state.safetensors")


def test_two_engines_in_one_process_give_what_they_give_alone():
    def alone(seed):
        return silicon(hot(), seed).step(30).array("positions")

    first, second = alone(1), alone(2)
    a, b = silicon(hot(), 1), silicon(hot(), 2)
    for _ in range(10):
        a.step(3)
        b.step(3)
    assert torch.equal(a.array("positions"), first)
    assert torch.equal(b.array("positions"), second)
    assert not torch.equal(first, second)


def test_scenarios_open_by_name(monkeypatch):
    host = Host.open("silicon_sw")
    energy = float(host.observe()["conserved"][0])
    assert np.isfinite(energy) and host.step().steps == 1
    monkeypatch.setattr("scalebridge.engine.jobs.assemble", lambda *_: object())
    with pytest.raises(InputError, match="steps no world"):
        Host.open("silicon_sw")


@dataclass(frozen=True)
class _Number:
    x: torch.Tensor


class _Scalar:
    def init(self, rng):
        return _Number(torch.zeros(1))

    def step(self, state):
        return _Number(state.x + 1)

    def observe(self, state):
        return {"x": state.x}


def test_any_world_of_tensors():
    host = Host(_Scalar()).step(3)
    host.put("x", [10.0])
    assert float(host.step().array("x")) == 11.0
