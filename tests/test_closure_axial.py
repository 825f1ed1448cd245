"""Closures learned in gases with three velocity dimensions, on a line."""

import pytest
import torch

from scalebridge.engine.errors import InputError
from scalebridge.engine.gas.boundaries import ALL_PERIODIC
from scalebridge.engine.gas.closures import axial
from scalebridge.engine.gas.closures.parts import Learned
from scalebridge.engine.gas.equations.hermite import Hermite, hermite_world, multi_indices
from scalebridge.engine.gas.flows import axial as flows
from scalebridge.engine.gas.grid import Grid
from scalebridge.engine.gas.initial.families import Flows
from scalebridge.engine.gas.material import Gas
from scalebridge.engine.learn.trainers.closure import labelled
from scalebridge.models import card
from scalebridge.models.closures.local import LocalForm

F64, CPU = torch.float64, torch.device("cpu")
MONATOMIC = Gas.constant_time(3, 2 / 3)


@pytest.mark.parametrize(("order", "dimension"), [(4, 2), (5, 2), (4, 3), (5, 3)])
@pytest.mark.parametrize("turning", [False, True])
def test_the_tensor_comes_back_from_what_is_seen_along_the_directions(
    order, dimension, turning
):
    at = axial.directions(order, dimension, turning, F64, CPU)
    tops = [a for a in multi_indices(order + 1, dimension) if sum(a) == order + 1]
    rng = torch.Generator().manual_seed(3)
    tensor = torch.randn(len(tops), generator=rng, dtype=F64)
    turned = torch.as_tensor(axial._turned(tops, order + 1))
    if turning:  # only what turns about x comes back
        tensor = turned @ torch.randn(turned.shape[1], generator=rng, dtype=F64)
    power = torch.stack([(at.units ** torch.tensor(a)).prod(-1) for a in tops], -1)
    torch.testing.assert_close(at.back @ (power @ tensor), tensor, rtol=0, atol=1e-8)
    planted = tensor.clone()
    planted[1] += 1.0  # x^M y: does not turn about x
    off = at.back @ (power @ planted) - planted
    assert (float(off.abs().max()) > 0.1) == turning


def test_marginals_are_those_of_the_expansion():
    """Along every direction: from three velocity dimensions, and from the kinetic nodes."""
    some, order = Flows("mix", 4), 5
    raw = flows.solve(some, (0.0,), 3, 2 / 3, order + 1, 20, 40, 20, 7.2)[0]
    equations = Hermite(MONATOMIC, order)
    w = equations.mixed(*some.mixture(Grid((20,), (-0.5,), (0.5,))))
    b = equations.basis(w)
    f = axial.coefficients(b, w)[:, :-1]
    for cosine, moments in zip(flows.COSINES, raw, strict=True):
        want = labelled(moments[None], torch.ones(4), (0.0,), order).w[0, ..., :-1]
        at = axial.directions(order, 3, True, F64, CPU)
        one = int((at.units[:, 0] - cosine).abs().argmin())
        phi = torch.einsum("kn,bnf->bkf", at.gather[one], f)
        speed = at.units[one, 0] * w[:, 1]
        found = axial.marginal(phi, speed, axial.temperature(b, w)[:, 0])
        torch.testing.assert_close(found, want, rtol=0, atol=1e-6)


def closure(seed=0):
    form = LocalForm(order=4, hidden=(8,), dimension=3, prandtl=2 / 3)
    return axial.AxialClosure(form.build(seed).double().requires_grad_(False))


def test_a_run_keeps_mass_momentum_and_energy_and_its_axis():
    grid = Grid((24,), (-0.5,), (0.5,))
    some = Flows("wave", 4)
    kn = some.knudsen_numbers(grid)
    world = hermite_world(
        grid, (ALL_PERIODIC,), MONATOMIC, kn, 4, 1e-3, closure(), check=False
    )
    state = world.start(world.equations.mixed(*some.mixture(grid)))
    begun = world.observe(state)
    for _ in range(5):
        state = world.step(state)
    seen = world.observe(state)
    for name in ("mass", "momentum", "energy"):
        torch.testing.assert_close(seen[name], begun[name], rtol=0, atol=1e-13)
    assert float(seen["velocity"][..., 1:].abs().max()) < 1e-15
    plain = hermite_world(grid, (ALL_PERIODIC,), MONATOMIC, kn, 4, 1e-3, check=False)
    other = plain.start(plain.equations.mixed(*some.mixture(grid)))
    for _ in range(5):
        other = plain.step(other)
    assert float((state.moments - other.moments).abs().max()) > 1e-6  # it does close


def test_general_directions_say_the_same_where_the_flow_turns_about_its_axis():
    equations, some = Hermite(MONATOMIC, 4), Flows("mix", 4)
    w = equations.mixed(*some.mixture(Grid((16,), (-0.5,), (0.5,)))).movedim(1, -1)
    ring = torch.cat([w[:, -1:], w, w[:, :1]], 1)
    tau = torch.full((4, 17), 0.1, dtype=F64)
    row = axial.FaceStencil(ring[:, :-1], ring[:, 1:], w, tau, 1 / 16, True)
    one = closure()
    turned = one(row).flux
    bent = torch.clone(ring)
    bent[..., 2] += 1e-9  # all the gas drifts across: any flow's directions are asked
    row = axial.FaceStencil(bent[:, :-1], bent[:, 1:], w, tau, 1 / 16, True)
    general = one(row).flux
    assert turned is not None and general is not None
    assert turned.shape == (4, 21, 17)
    # a network that was not trained has no tensor that fits all its answers
    gap = (turned[:, 0] - general[:, 0]).abs().max() / turned[:, 0].abs().max()
    assert float(gap) < 0.5


def test_a_closure_is_refused_for_another_gas(tmp_path):
    form = LocalForm(order=4, hidden=(8,), dimension=3, prandtl=2 / 3)
    card.save_module(tmp_path / "three", form.build(0), {})
    part = Learned((tmp_path / "three.safetensors",))
    assert part.equations(MONATOMIC, None, lambda path: path).learned
    for other in (Gas.constant_time(3), Gas.constant_time(1), Gas.constant_time(2)):
        with pytest.raises(InputError, match=r"learned with gas.dimension"):
            part.equations(other, None, lambda path: path)
    grid = Grid((8, 8), (0.0, 0.0), (1.0, 1.0))
    flat = axial.AxialClosure(LocalForm(order=4, hidden=(8,), dimension=2).build(0))
    gas, kn = Gas.constant_time(2), torch.ones(1)
    with pytest.raises(InputError, match="2 space dimensions"):
        hermite_world(grid, (ALL_PERIODIC,) * 2, gas, kn, 4, 1e-3, flat)
