"""Velocities shared among processes: the same gas as in one."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from scalebridge.engine.errors import InputError
from scalebridge.engine.gas.boundaries import ALL_PERIODIC
from scalebridge.engine.gas.kinetic.distributed import DistributedBgk
from scalebridge.engine.gas.kinetic.world import KineticWorld
from scalebridge.engine.gas.material import Gas

sys.path.append(str(Path(__file__).resolve().parent.parent / "benchmarks"))
import ranks


def test_one_process_is_the_kinetic_world():
    """An independent implementation of the same scheme, in one fused kernel."""
    shared = ranks.world()
    kernel = KineticWorld(
        grid=shared.grid,
        sides=(ALL_PERIODIC,) * 2,
        velocities=shared.velocities,
        gas=shared.gas,
        knudsen=shared.knudsen,
        time_step=shared.time_step,
    )
    state = ranks.start(shared)
    other = kernel.start(state.f.movedim(0, 0)[:, None])
    for _ in range(10):
        state, other = shared.step(state), kernel.step(other)
    ours, theirs = shared.observe(state), kernel.observe(other)
    for name in ("density", "temperature"):
        assert (ours[name] - theirs[name].reshape(ours[name].shape)).abs().max() < 1e-12
    late = shared.observe(shared.step(state))["density"]  # the planted defect
    assert (late - theirs["density"].reshape(late.shape)).abs().max() > 1e-8


def test_mass_momentum_and_energy_are_conserved():
    gas = ranks.world()
    state = ranks.start(gas)

    def totals(state):
        seen = gas.observe(state)
        rho, u, T = seen["density"], seen["velocity"], seen["temperature"]
        energy = rho * (u.square().sum(-1) + 2 * T)
        return torch.stack([rho.sum(), (rho * u[..., 0]).sum(), energy.sum()])

    before = totals(state)
    for _ in range(10):
        state = gas.step(state)
    assert (totals(state) - before).abs().max() < 1e-11 * before.abs().max()


def test_two_gloo_ranks_equal_one():
    assert ranks.ranks2_difference(8) < 1e-13


def test_what_cannot_be_shared_is_refused():
    with pytest.raises(InputError, match="Prandtl number 1"):
        replace(ranks.world(), gas=Gas(dimension=3))
    assert ranks.world().mine == slice(0, 24 * 24)
    assert isinstance(ranks.world(), DistributedBgk)


@pytest.mark.parametrize("shares", [2, 5])
def test_shares_of_an_equilibrium_are_parts_of_the_whole(shares, monkeypatch):
    """A share may begin and end within a row of nodes."""
    gas = ranks.world(8)
    whole = ranks.start(gas).f
    n, parts = gas.velocities.count, []
    for k in range(shares):
        mine = slice(n * k // shares, n * (k + 1) // shares)
        monkeypatch.setattr(DistributedBgk, "mine", mine)
        parts.append(ranks.start(gas).f)
    assert torch.equal(torch.cat(parts, -1), whole)
