"""A closure learned in one velocity dimension, on the plane: algebra, symmetry, gain."""

import math
import tomllib
from pathlib import Path

import pytest
import torch

from scalebridge.engine.errors import InputError
from scalebridge.engine.gas.boundaries import ALL_PERIODIC
from scalebridge.engine.gas.closures import directional
from scalebridge.engine.gas.closures.directional import AXES, EIGHT, DirectionalClosure
from scalebridge.engine.gas.closures.parts import read
from scalebridge.engine.gas.equations import hermite
from scalebridge.engine.gas.equations.hermite import basis, coefficients, multi_indices
from scalebridge.engine.gas.equations.line import from_raw as raw_to_moments
from scalebridge.engine.gas.flows import planes
from scalebridge.engine.gas.kinetic.velocities import Velocities
from scalebridge.engine.gas.scheme.finite_volume import MomentWorld, koren
from scalebridge.engine.jobs import assemble
from scalebridge.engine.run import Reporter
from scalebridge.engine.rundir import RunFolder
from scalebridge.engine.scenario import parse
from scalebridge.viz.gas import closure_maps
from scalebridge.viz.record import Record

MODELS = Path(__file__).resolve().parent.parent / "scenarios" / "models"
M = 5
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def module():
    return read(MODELS / "closure_wide_0.safetensors").requires_grad_(False)


def two_streams() -> tuple[Velocities, torch.Tensor]:
    """A distribution far from equilibrium, with shear and two temperatures."""
    grid = Velocities.symmetric(2, 60, 8.0)
    v = grid.nodes
    a = v - torch.tensor([0.3, -0.2], dtype=torch.float64)
    b = v - torch.tensor([-0.5, 0.6], dtype=torch.float64)
    width = torch.tensor([1.2, 0.6], dtype=torch.float64)
    first = torch.exp(-0.625 * a.square().sum(-1))
    return grid, first + 0.3 * torch.exp(-0.5 * (b.square() / width).sum(-1))


def moments_along(unit: torch.Tensor, order: int) -> torch.Tensor:
    grid, f = two_streams()
    s = grid.nodes @ unit
    return torch.stack([(f * s**k).sum() * grid.weight for k in range(order + 1)])


def plane_state(order: int) -> torch.Tensor:
    grid, f = two_streams()
    v = grid.nodes
    raw = [
        (f * v[:, 0] ** a * v[:, 1] ** b).sum() * grid.weight
        for a, b in multi_indices(order, 2)
    ]
    return planes.from_raw(torch.stack(raw)[None, :, None, None], order)


def tensor_from_marginals(shift: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The closing tensor from true marginals, ``shift`` times the change of frame."""
    w = plane_state(M + 1)
    count = len(multi_indices(M, 2))
    f = coefficients(basis(M, 2, torch.float64, CPU), w[:, :count])[:, :count]
    units = tuple((a / math.hypot(a, b), b / math.hypot(a, b)) for a, b in EIGHT)
    gather, back = directional.weights(M, units, torch.float64, CPU)
    tops = []
    for vector, rows in zip(EIGHT, gather, strict=True):
        unit = torch.tensor(vector, dtype=torch.float64) / math.hypot(*vector)
        true = raw_to_moments(moments_along(unit, M + 1), M + 1)
        phi = torch.einsum("kn,bnxy->bkxy", rows, f)
        speed = unit[0] * w[:, 1] + unit[1] * w[:, 2]
        theta = 0.5 * (w[:, 3] + w[:, 5])
        line = directional.marginal(phi, speed, theta)[0, 0, 0]
        torch.testing.assert_close(line, true[:-1], rtol=1e-11, atol=1e-12)
        over = directional.carried_over(phi, phi[:, 2] / phi[:, 0], M + 1)
        tops.append(true[-1] - shift * over[0, 0, 0])
    return back @ torch.stack(tops), w[0, count:, 0, 0]


def test_the_closing_tensor_comes_back_from_true_marginals():
    found, true = tensor_from_marginals(1.0)
    torch.testing.assert_close(found, true, rtol=1e-10, atol=1e-13)
    wrong, _ = tensor_from_marginals(0.0)
    assert float((wrong - true).abs().max()) > 1e-3


@pytest.mark.parametrize("axis", [0, 1])
def test_what_hme_drops_is_that_of_the_next_order(axis):
    rng = torch.Generator().manual_seed(3)
    low, high = (basis(k, 2, torch.float64, CPU) for k in (M, M + 1))
    count = len(low.indices)
    w = 0.05 * torch.randn(2, count, 4, generator=rng, dtype=torch.float64)
    w[:, [0, 3, 5]] += 1.0
    d = torch.randn(2, count, 4, generator=rng, dtype=torch.float64)
    more = torch.zeros(2, len(high.indices) - count, 4, dtype=torch.float64)
    wide, step = torch.cat([w, more], 1), torch.cat([d, more], 1)
    frozen = hermite.to_frozen(high, wide, coefficients(high, wide), step)
    some, other = (hermite.edge(low, k) for k in (axis, 1 - axis))
    expected = some.factor * frozen[:, count:][:, some.tops]
    f = coefficients(low, w)
    torch.testing.assert_close(hermite.dropped(low, some, f, d), expected)
    assert not torch.allclose(hermite.dropped(low, other, f, d), expected)


def fields(some, cells: int) -> torch.Tensor:
    grid = planes.box(cells)
    w = torch.stack([each.fields(*grid.points()) for each in some])
    equations = hermite.Hermite(planes.GAS, M)
    return equations.equilibrium(w[..., 0], w[..., 1:3], w[..., 3])


def swapped(w: torch.Tensor) -> torch.Tensor:
    """The same gas with x and y exchanged."""
    indices = multi_indices(M, 2)
    return w.transpose(2, 3)[:, [indices.index((b, a)) for a, b in indices]]


def world(cells: int, kn: torch.Tensor, closure, step: float) -> MomentWorld:
    return hermite.hermite_world(
        planes.box(cells), (ALL_PERIODIC,) * 2, planes.GAS, kn, M, step,
        closure=closure, limiter=koren,
    )  # fmt: skip


def run(w: torch.Tensor, kn: torch.Tensor, closure, until: float) -> torch.Tensor:
    one = world(w.shape[-1], kn, closure, 1.0)
    steps = math.ceil(until * one.courant_rate(w) / 0.8)
    one = one.with_time_step(until / steps)
    state = one.start(w)
    for _ in range(steps):
        state = one.step(state)
    return state.moments


def test_the_axes_may_be_exchanged_and_nothing_is_lost(module):
    some = planes.flows(5, 2, first=2)
    kn = torch.tensor([0.3, 5.0], dtype=torch.float64)
    w, closure = fields(some, 16), DirectionalClosure(module)
    there, back = run(w, kn, closure, 0.03), run(swapped(w), kn, closure, 0.03)
    torch.testing.assert_close(swapped(back), there, rtol=1e-9, atol=1e-12)
    start = planes.conserved(hermite.conserved(basis(M, 2, w.dtype, CPU), w))
    drift = (planes.conserved(there) - start).mean((2, 3)).abs().max()
    assert float(drift) < 1e-13
    assert float((there - run(w, kn, None, 0.03)).abs().max()) > 1e-5
    lame = DirectionalClosure(module, EIGHT[:6])  # not the same when exchanged
    there, back = run(w, kn, lame, 0.03), run(swapped(w), kn, lame, 0.03)
    assert float((swapped(back) - there).abs().max()) > 1e-6


@pytest.mark.slow
def test_eight_directions_beat_hme_on_a_flow_never_seen_and_two_do_not(module):
    flow = planes.flow(9, 3)
    kn = torch.tensor([flow.knudsen], dtype=torch.float64)
    raw = planes.solve([flow], (0.0, 0.25), 40, 24, 20)
    true, start = planes.conserved(raw[1]), planes.from_raw(raw[0], M)

    def error(closure) -> float:
        found = planes.conserved(run(start, kn, closure, 0.25))
        return float(planes.signal_error(found, true)[0])

    hme = error(None)
    assert error(DirectionalClosure(module)) < 0.35 * hme
    assert error(DirectionalClosure(module, AXES)) > 0.6 * hme


def test_the_shipped_scenario_runs_and_is_drawn(tmp_path):
    text = (MODELS.parent / "closure_2d.toml").read_text()
    data = tomllib.loads(text)
    data["initial"]["count"], data["grid"]["cells"] = 2, [12, 12]
    data["model"] |= {"nodes": [20, 20], "refine": 2}
    data["time"] = {"end": 0.02, "frames": 1, "compared": [0.02]}
    with RunFolder.create(tmp_path / "run", text, {}) as folder:
        outcome = assemble(parse(data), MODELS.parent).run(folder, Reporter(quiet=True))
    for name in ("hme", "learned"):
        assert 0 < outcome.figures[f"worst_decade_{name}_t002"].value < 0.1
    group = Record(tmp_path / "run").groups()["errors"]
    made = closure_maps(group)
    assert made is not None and len(made.axes) == 6
    data["time"] = {"end": 0.3, "frames": 3, "compared": [0.3, 0.1]}
    with pytest.raises(InputError, match="must rise"):
        parse(data)
