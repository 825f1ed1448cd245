"""Numbers of the engine whose change nothing else notices, each held by what it is for."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from scalebridge.engine.gas.boundaries import ALL_PERIODIC
from scalebridge.engine.gas.equations import recurrence
from scalebridge.engine.gas.scheme.positivity import PositivityFallback
from scalebridge.engine.vmc.optimiser import Spring
from scalebridge.engine.vmc.statistics import extrapolate


def fallback(cells, reach=2, sides=ALL_PERIODIC):
    grid = SimpleNamespace(dim=1, cells=cells)
    return PositivityFallback(SimpleNamespace(grid=grid, sides=(sides,)), reach=reach)


def test_the_fallback_covers_the_neighbours_of_a_bad_cell_across_the_face_too():
    bad = torch.zeros(1, 10, dtype=torch.bool)
    bad[0, 9] = True
    found = fallback(10)._around(bad)
    assert torch.nonzero(found[0])[:, 0].tolist() == [0, 1, 7, 8, 9]
    assert int(fallback(10, reach=1)._around(bad).sum()) == 3


def test_the_speed_of_the_realizable_moments_bounds_all_their_characteristics():
    rng = torch.Generator().manual_seed(1)
    w = torch.zeros(64, 6, 1, dtype=torch.float64)
    w[:, 0], w[:, 2], w[:, 4] = 1.0, 1.0, 2.0
    w[:, 1] = torch.randn(64, 1, generator=rng, dtype=torch.float64)
    w[:, 3] = 0.3 * torch.randn(64, 1, generator=rng, dtype=torch.float64)
    some = w.movedim(1, -1)

    def closure(each):
        return 3.0 * each[..., 2]

    low, high = recurrence.reach(some, closure(some))
    system = SimpleNamespace(_b3=closure)
    speed = recurrence.Recurrence.fastest(system, w, 0)
    assert bool((speed >= 1.04 * torch.maximum(-low, high)).all())


@pytest.mark.parametrize(("step", "share"), [(0, 0.0), (50, 0.25), (200, 1.0), (900, 1.0)])
def test_the_memory_of_spring_grows_over_its_ramp(step, share):
    rng = torch.Generator().manual_seed(2)
    scores = torch.zeros(8, 3, dtype=torch.float64)  # no information: the memory alone acts
    energy = torch.randn(8, generator=rng, dtype=torch.float64)
    old = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    spring = Spring(momentum=0.9, ramp=200)
    _, memory = spring.update(scores, energy, {"direction": old}, step)
    torch.testing.assert_close(memory["direction"], 0.9 * share * old)
    _, whole = replace(spring, ramp=0).update(scores, energy, {"direction": old}, step)
    torch.testing.assert_close(whole["direction"], 0.9 * old * (1.0 if step else 0.0))


def test_the_error_of_an_extrapolated_energy_is_that_of_repeated_runs():
    rng = torch.Generator().manual_seed(3)
    blocks, found = 6, []
    for _ in range(400):
        variance = torch.linspace(2.0, 1.0, 120, dtype=torch.float64)
        noise = torch.randn(120, generator=rng, dtype=torch.float64)
        energy = -1.0 + 0.1 * variance + 0.01 * noise
        line = extrapolate(energy, variance, blocks)
        found.append((line.energy, line.error**2))
    values = torch.tensor(found, dtype=torch.float64)
    spread, stated = float(values[:, 0].var()), float(values[:, 1].mean())
    # 400 runs know their variance to 7 %; two degrees fewer make a difference of a third
    assert stated == pytest.approx(spread, rel=0.2)
