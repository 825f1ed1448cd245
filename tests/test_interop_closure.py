"""Our closure as a flux inside a foreign finite-volume loop (examples/closure_flux.py)."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from scalebridge.engine.gas.grid import Grid
from scalebridge.engine.gas.kinetic.distributed import DistributedBgk
from scalebridge.engine.gas.kinetic.velocities import Velocities
from scalebridge.engine.gas.material import Gas
from scalebridge.models.card import load_module
from scalebridge.models.closures.face import FaceForm

sys.path.append(str(Path(__file__).parent))
from examples import ROOT, example


def kinetic(cells: int, tau: float, end: float) -> np.ndarray:
    """The same wave from the kinetic equation, density and momentum."""
    world = DistributedBgk(
        Grid((cells,), (0.0,), (1.0,)),
        Velocities.symmetric(1, 60, 7.0),
        Gas.constant_time(dimension=1),
        torch.tensor([tau]),
        end / 256,
    )
    x = (torch.arange(cells).double() + 0.5) / cells
    density = (1 + 0.2 * torch.sin(2 * torch.pi * x))[None]
    state = world.equilibrium(density, torch.zeros(1, cells, 1), torch.ones(1, cells))
    for _ in range(256):
        state = world.step(state)
    return world.observe(state)["density"][0].numpy()


def test_the_foreign_loop_is_the_gas():
    """Without a closure (Grad) it is near the kinetic equation, and conserves exactly."""
    wave = example("closure_flux")
    found, fine = wave.main(cells=200, tau=0.05), wave.main(cells=400, tau=0.05)
    limit = 2 * fine.reshape(200, 2, -1).mean(1) - found  # the scheme is of first order
    exact = kinetic(200, 0.05, 0.1)
    start = 0.2 * np.sin(2 * np.pi * (np.arange(200) + 0.5) / 200)
    change = np.abs(exact - 1 - start).max()
    error = np.abs(limit[:, 0] - exact).max()
    assert error < 0.03 * change < np.abs(found[:, 0] - exact).max()
    assert np.allclose(found.sum(0)[:3] / 200, [1.0, 0.0, 1.0], atol=1e-12)


def test_the_closure_enters_as_a_flux():
    """A closure changes the gas and still loses nothing: it is a difference of faces."""
    wave = example("closure_flux")
    torch.manual_seed(1)
    module = FaceForm().build().double().requires_grad_(False)
    module.scale.fill_(0.1)
    without = wave.main(cells=60, tau=0.5, end=0.05)
    with_it = wave.main(module, cells=60, tau=0.5, end=0.05)
    change = np.abs(with_it - without).max(0)
    assert change[-1] > 1e-6 > 1e-12 > np.abs(with_it.sum(0)[:3] - without.sum(0)[:3]).max()


def test_a_sign_error_in_the_flux_is_seen():
    """The planted defect: the same gas with the last flux reversed is another gas."""
    wave = example("closure_flux")

    class Reversed:
        def __init__(self, module, sign):
            self.module, self.sign = module, sign

        def __call__(self, row):
            from dataclasses import replace

            answer = self.module(row)
            return replace(answer, flux=self.sign * answer.flux)

    torch.manual_seed(1)
    module = FaceForm().build().double().requires_grad_(False)
    module.scale.fill_(0.1)
    right, wrong = (
        wave.main(Reversed(module, sign), cells=60, tau=0.5, end=0.05) for sign in (1, -1)
    )
    assert np.abs(right - wrong).max() > 1e-6


def test_the_trained_closure_brings_the_foreign_loop_nearer_to_the_gas():
    """Extrapolated to no mesh width, the error of the shipped closure is below Grad's."""
    wave, exact = example("closure_flux"), kinetic(50, 0.3, 0.2)
    errors = []
    for closure in (None, load_module(wave.MODEL)[0].double()):
        coarse = wave.main(closure, cells=50, tau=0.3, end=0.2)
        fine = wave.main(closure, cells=100, tau=0.3, end=0.2)
        limit = 2 * fine.reshape(50, 2, -1).mean(1) - coarse
        errors.append(np.abs(limit[:, 0] - exact).max())
    assert errors[1] < 0.9 * errors[0]


@pytest.mark.parametrize(
    "path", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.stem
)
def test_examples_are_short(path):
    assert len(path.read_text().splitlines()) < 40
