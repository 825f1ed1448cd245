"""Kernels in vector registers against the tensor operations that they stand for."""

import math

import pytest
import torch

from scalebridge.engine.gas.boundaries import ALL_PERIODIC
from scalebridge.engine.gas.closures import oblique
from scalebridge.engine.gas.closures.axial import AxialClosure
from scalebridge.engine.gas.equations import fused
from scalebridge.engine.gas.equations.fused import Given
from scalebridge.engine.gas.equations.hermite import Hermite, hermite_world
from scalebridge.engine.gas.grid import Grid
from scalebridge.engine.gas.material import Gas
from scalebridge.engine.gas.scheme.finite_volume import first_order, koren, van_leer
from scalebridge.models.closures.face import MirrorNet, asinh
from scalebridge.models.closures.local import LocalClosure, LocalForm

F64 = torch.float64


def local(dimension: int, kind: torch.dtype = F64, **form) -> LocalClosure:
    module = LocalForm(dimension=dimension, **form).build(4).to(kind).requires_grad_(False)
    module.scale.copy_(torch.linspace(0.5, 2.0, len(module.scale)))
    module.limit.copy_(module.scale * 30.0)
    return module


@pytest.mark.parametrize("kind", [torch.float32, F64])
@pytest.mark.parametrize(
    ("order", "hidden", "points"), [(5, (32, 32), 1), (4, (7,), 150), (6, (12, 30, 9), 37)]
)
def test_the_network_answers_as_torch_does(kind, order, hidden, points) -> None:
    module = local(1, kind, order=order, hidden=hidden)
    given, exact = Given.of(module), local(1, F64, order=order, hidden=hidden)
    asked = given.points(points)
    rng = torch.Generator().manual_seed(1)
    size = torch.logspace(-8, 5, points, dtype=F64)[:, None]
    z = size * torch.randn(points, asked.z.shape[1], dtype=F64, generator=rng)
    z[0, 0] = 0.0
    z = z.to(kind).double()
    lanes = asked.z.shape[2]
    at = torch.arange(points)
    asked.z[at // lanes, :, at % lanes] = z.to(kind)
    given.answer(asked)
    x, net = asinh(z), exact.net
    rest = net.at_rest(z.new_empty(1, 0)) * (net.sign > 0)
    wanted = 4.0 * torch.tanh((net(x) - rest) / 4.0)
    far = (x.abs() / torch.asinh(exact.limit / exact.scale)).amax(1)
    eps = torch.finfo(kind).eps
    loss = 60 * eps  # some sums of 32 terms of order one
    torch.testing.assert_close(asked.answer[:points].double(), wanted, rtol=0, atol=loss)
    torch.testing.assert_close(asked.far[:points].double(), far, rtol=8 * eps, atol=0)


def test_an_answer_that_is_not_finite_stays_with_its_point() -> None:
    given = Given.of(local(1, torch.float32))
    asked = given.points(20)
    asked.z.fill_(0.3)
    given.answer(asked)
    first = asked.answer.clone()
    asked.z[0, 2, 5] = math.nan
    given.answer(asked)
    assert not asked.answer[5].isfinite()
    others = torch.arange(20) != 5
    assert torch.equal(asked.answer[:20][others], first[:20][others])


def test_an_odd_network_vanishes_at_rest() -> None:
    net = MirrorNet(torch.tensor([1.0, -1.0, 1.0]), (8,), -1).double()
    packed = oblique.Given.of(local(1)).net.pack(net, torch.ones(3, dtype=F64), 4.0)
    assert packed.rest == 0.0 and packed.sign == -1.0


def flow(world, seed: int):
    """A gas in no equilibrium: smooth fields and moments of all degrees."""
    rng = torch.Generator().manual_seed(seed)
    shape = world.grid.shape
    mesh = torch.meshgrid(
        *(world.grid.centers(k) for k in range(len(shape))), indexing="ij"
    )

    def field(size: float) -> torch.Tensor:
        out = torch.zeros(2, *shape, dtype=F64)
        for _ in range(3):
            turn = sum(int(torch.randint(-2, 3, (1,), generator=rng)) * x for x in mesh)
            phase = 6.3 * torch.rand(2, *(1,) * len(shape), dtype=F64, generator=rng)
            out = out + size / 3 * torch.sin(2 * math.pi * turn + phase)
        return out

    axes = world.gas.dimension
    u = torch.stack([field(0.4) for _ in range(axes)], -1)
    w = world.equations.equilibrium(1.0 + field(0.4), u, 1.0 + field(0.3))
    places = world.equations.basis(w).low
    for i in range(w.shape[1]):
        w[:, i] += field(0.05) if i not in places else 0.1 * field(0.3)
    return world.start(w)


@pytest.mark.parametrize(
    ("shape", "axes", "order", "limiter"),
    [
        ((7, 12), 2, 4, van_leer),
        ((7, 12), 2, 4, first_order),
        ((5, 4, 6), 3, 5, koren),
        ((9, 8), 3, 3, van_leer),
    ],
)
def test_a_sweep_is_the_transport_of_tensors(
    shape, axes, order, limiter, monkeypatch
) -> None:
    grid = Grid(shape, (0.0,) * len(shape), tuple(0.5 + 0.1 * n for n in shape))
    kn = torch.tensor([0.05, 2.0], dtype=F64)
    world = hermite_world(
        grid, (ALL_PERIODIC,) * len(shape), Gas.constant_time(axes, 2 / 3), kn, order, 1e-3,
        limiter=limiter, check=False,
    )  # fmt: skip
    moments = flow(world, 3).moments
    swept, *_ = world.rates(moments)
    monkeypatch.setattr(Hermite, "swept", lambda *_: None)
    plain, *_ = world.rates(moments)
    size = float(plain.abs().max())
    assert size > 0.1
    torch.testing.assert_close(swept, plain, rtol=0, atol=1e-13 * size)


@pytest.mark.parametrize("shape", [(8, 8), (4, 4, 4)])
def test_a_closure_on_a_grid_is_that_of_the_other_kernels(shape, monkeypatch) -> None:
    grid = Grid(shape, (0.0,) * len(shape), (1.0,) * len(shape))
    kn = torch.tensor([0.05, 2.0], dtype=F64)
    world = hermite_world(
        grid, (ALL_PERIODIC,) * len(shape), Gas.constant_time(3, 2 / 3), kn, 5, 1e-3,
        AxialClosure(local(3)), check=False,
    )  # fmt: skip
    state = flow(world, 5)
    fast = world.step(state)
    monkeypatch.setattr(Hermite, "swept", lambda *_: None)
    monkeypatch.setattr(oblique, "LANES", 0)
    plain = world.step(state)
    assert fast.fallbacks.max() > 0
    assert torch.equal(fast.fallbacks, plain.fallbacks)
    torch.testing.assert_close(fast.moments, plain.moments, rtol=1e-12, atol=1e-13)


def test_lines_long_enough_for_the_threads_step_as_short_ones(monkeypatch) -> None:
    monkeypatch.setattr(fused, "threads", lambda: 2)
    kn = torch.tensor([0.3], dtype=F64)
    module = local(1, order=4)

    def stepped(batch: int) -> torch.Tensor:
        world = hermite_world(
            Grid((40,), (0.0,), (1.0,)), (ALL_PERIODIC,), Gas.constant_time(1),
            kn.expand(batch), 4, 1e-3, module, check=False,
        )  # fmt: skip
        state = flow(world, 7)
        many = state.moments[:1].expand(batch, -1, -1).contiguous()
        zero = torch.zeros(batch, dtype=F64)
        state = type(state)(many, zero, zero, state.step, state.time)
        return world.step(world.step(state)).moments

    assert torch.equal(stepped(20)[13], stepped(1)[0])
