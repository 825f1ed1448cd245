"""A closure of three velocity dimensions on the plane and in space."""

import math
from pathlib import Path

import pytest
import torch

from scalebridge.engine.errors import InputError
from scalebridge.engine.gas.boundaries import ALL_PERIODIC, Open, Sides
from scalebridge.engine.gas.closures import oblique
from scalebridge.engine.gas.closures.axial import AxialClosure
from scalebridge.engine.gas.closures.oblique import ObliqueClosure, asked, directions
from scalebridge.engine.gas.closures.parts import read
from scalebridge.engine.gas.equations.hermite import hermite_world, multi_indices
from scalebridge.engine.gas.grid import Grid
from scalebridge.engine.gas.material import Gas
from scalebridge.engine.gas.scheme.finite_volume import MomentState, MomentWorld
from scalebridge.models.closures.contract import FaceStencil
from scalebridge.models.closures.local import LocalForm

MODELS = Path(__file__).resolve().parent.parent / "scenarios" / "models"
GAS = Gas.constant_time(3, 2 / 3)
F64 = torch.float64
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def module():
    return read(MODELS / "closure_3v_0.safetensors")


def world_of(closure, dim: int, cells: int, sides: Sides = ALL_PERIODIC) -> MomentWorld:
    grid = Grid((cells,) * dim, (0.0,) * dim, (1.0,) * dim)
    kn = torch.tensor([0.2], dtype=F64)
    return hermite_world(grid, (sides,) * dim, GAS, kn, 5, 1e-3, closure, check=False)


def begun(world: MomentWorld) -> MomentState:
    mesh = torch.meshgrid(
        *(world.grid.centers(k) for k in range(world.grid.dim)), indexing="ij"
    )
    angle = 2 * math.pi * sum((k + 1) * x for k, x in enumerate(mesh))
    rho, theta = 1 + 0.3 * angle.sin(), 1 + 0.2 * (angle + 1).cos()
    u = torch.stack([0.2 * angle.cos(), 0.1 * angle.sin(), 0.0 * angle], -1)
    return world.equilibrium(rho[None], u[None], theta[None])


@pytest.mark.parametrize("dim", [2, 3])
def test_the_directions_tell_every_tensor(dim: int) -> None:
    at = directions(5, (8,) * dim, (0.1,) * dim, CPU)
    tops = [a for a in multi_indices(6, 3) if sum(a) == 6]
    rows = torch.stack([(at.units ** torch.tensor(a)).prod(1) for a in tops], 1)
    tensor = torch.randn(len(tops), dtype=F64, generator=torch.Generator().manual_seed(0))
    if dim == 2:
        tensor = tensor * torch.tensor([a[2] % 2 == 0 for a in tops])
    torch.testing.assert_close(at.back @ (rows @ tensor), tensor)


@pytest.mark.parametrize("lanes", [oblique.LANES, 0])
def test_averages_along_a_diagonal_are_those_of_a_wave(lanes: int, monkeypatch) -> None:
    monkeypatch.setattr(oblique, "LANES", lanes)  # 0: the kernel that devices run
    cells, tau = 96, 0.05
    x = torch.arange(cells, dtype=F64) / cells
    angle = 2 * math.pi * (x[:, None] + x[None, :])
    widths, indices = (1 / cells,) * 2, multi_indices(5, 3)
    even = [indices.index(a) for a in ((2, 0, 0), (0, 2, 0), (0, 0, 2))]
    w = torch.zeros(1, len(indices), cells, cells, dtype=F64)
    w[:, [0, *even]], w[:, indices.index((3, 0, 0))] = 1.0, angle.sin()
    closure = ObliqueClosure(LocalForm(reach=(0.25, 2.0), dimension=3).build(0).double())
    at = directions(5, (cells, cells), widths, CPU)
    times = torch.full((1, cells * cells), tau, dtype=F64)
    z = closure._looked(w.flatten(2), times, at).asked.z.mT.flatten(0, 1)
    unit = torch.tensor([1.0, 1.0, 1.0, *(math.sqrt(math.factorial(k)) for k in (3, 4, 5))])
    seen = (z[: len(at.units) * cells**2] * closure.module.scale)[:, 3:].unflatten(
        1, (2, 6)
    )
    seen = (seen / unit).unflatten(0, (len(at.units), -1)).transpose(1, 2)
    for number, one in enumerate(asked(widths)):
        if one.steps != (1, 1):
            continue
        for k, reach in enumerate((0.25, 2.0)):
            kl = 2 * math.pi * math.sqrt(2) * one.cosine * tau * reach
            wanted = one.unit[0] ** 3 * kl / (1 + kl * kl) * angle.cos()
            found = seen[number, k].view(cells, cells, 6)
            torch.testing.assert_close(found[..., 3], wanted, rtol=0, atol=2e-3 * kl)
            assert float(found[..., :3].abs().max()) == 0.0


def test_the_answer_turns_with_the_grid(module) -> None:
    world = world_of(None, 2, 16)
    for _ in range(3):
        w = world.equations.primitive(world.step(begun(world)).moments)
    swapped = [multi_indices(5, 3).index((b, a, c)) for a, b, c in multi_indices(5, 3)]
    axes = ((1 / 16, True), (1 / 16, True))
    tau = torch.full_like(w[:, 0], 0.2)
    closure = ObliqueClosure(module)
    one = closure(FaceStencil.in_cells(w.movedim(1, -1), tau, axes))
    turned = w[:, swapped].transpose(2, 3)
    other = closure(FaceStencil.in_cells(turned.movedim(1, -1), tau, axes))
    tops = [a for a in multi_indices(6, 3) if sum(a) == 6]
    back = [tops.index((b, a, c)) for a, b, c in tops]
    assert one.flux is not None and other.flux is not None
    size = float(one.flux.abs().max())
    assert size > 1e-6
    gap = (other.flux[:, back].transpose(2, 3) - one.flux).abs().max()
    assert float(gap) < 1e-9 * size
    odd = [i for i, a in enumerate(tops) if a[2] % 2]
    assert float(one.flux[:, odd].abs().max()) < 1e-12 * size


@pytest.mark.parametrize(("dim", "cells"), [(2, 12), (3, 6)])
def test_a_run_keeps_mass_momentum_and_energy(module, dim: int, cells: int) -> None:
    world = world_of(AxialClosure(module.float()), dim, cells)
    state, plain = begun(world), world_of(None, dim, cells)
    first, other = world.observe(state), begun(plain)
    with torch.no_grad():
        for _ in range(2):
            state, other = world.step(state), plain.step(other)
    seen = world.observe(state)
    for name in ("mass", "momentum", "energy"):
        torch.testing.assert_close(seen[name], first[name], rtol=0, atol=1e-13)
    assert float((state.moments - other.moments).abs().max()) > 1e-6  # it does close


def test_ends_and_uneven_grids_are_refused(module) -> None:
    closure = AxialClosure(module)
    ended = world_of(closure, 2, 6, Sides(Open(), Open()))
    with pytest.raises(InputError, match="all sides must be periodic"):
        ended.step(begun(ended))
    grid = Grid((6, 8), (0.0, 0.0), (1.0, 1.0))
    kn = torch.tensor([0.2], dtype=F64)
    uneven = hermite_world(grid, (ALL_PERIODIC,) * 2, GAS, kn, 5, 1e-3, closure)
    with pytest.raises(InputError, match=r"grid.cells: 6 x 8; .* as many along every axis"):
        uneven.step(begun(uneven))


def test_derivatives_are_refused(module) -> None:
    cells = torch.ones(1, 4, 4, len(multi_indices(5, 3)), dtype=F64, requires_grad=True)
    tau = torch.full((1, 4, 4), 0.2, dtype=F64)
    seen = FaceStencil.in_cells(cells, tau, ((0.25, True), (0.25, True)))
    with pytest.raises(InputError, match="it has no derivatives"):
        ObliqueClosure(module)(seen)
