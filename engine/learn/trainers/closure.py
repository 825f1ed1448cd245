r"""Training of moment closures: regression on kinetic data, then through the solver.

The labels are exact: the kinetic equation is solved, f_{M+1} is an integral of f, and the
closure learns it from (rho, u, theta, f_3 .. f_M) of the same instant. Two losses:

* regression (:func:`regression_loss`): the closing moment at the faces, of kinetic states
  and of those that the closure reaches by itself (:func:`rolled_out`);
* unrolled (:func:`unrolled_loss`): the moment solver runs with the closure from a kinetic
  state for some time and is compared with the kinetic solution there; gradients flow
  through all steps. It sees its own errors, and so learns to be stable.

Training also uses the exact linear modes of BGK (:func:`linear_modes`): sound
and heat waves of all lengths, whose closing moment is known by a quadrature.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ....models.closures.face import FaceClosure, FaceStencil
from ...gas.boundaries import ALL_PERIODIC, Open, Sides
from ...gas.equations.hermite import hermite_world, roe, roots, rusanov
from ...gas.equations.line import conserved, from_raw, primitive
from ...gas.grid import Grid
from ...gas.material import Gas
from ...gas.scheme.finite_volume import MomentWorld, koren


@dataclass(frozen=True)
class Labelled:
    """Kinetic flows at some times, as moments on the coarse grid.

    Attributes:
        w: ``[times, flows, cells, order + 2]`` (rho, u, theta, f_3 .. f_{M+1}).
        moments: ``[times, flows, cells, order + 1]`` what the moment solver holds; cell
            averages of the conserved ones.
        knudsen: ``[flows]`` or ``[flows, cells]``.
        times: rising.
        spacing: width of a cell; 0 means a periodic box of unit length.
    """

    w: Tensor
    moments: Tensor
    knudsen: Tensor
    times: tuple[float, ...]
    spacing: float = 0.0

    @property
    def order(self) -> int:
        """M."""
        return self.w.shape[-1] - 2

    @property
    def periodic(self) -> bool:
        """Whether it is a periodic box."""
        return self.spacing == 0.0


def labelled(
    raw: Tensor, knudsen: Tensor, times: Sequence[float], order: int, spacing: float = 0.0
) -> Labelled:
    """Return the labelled flows of raw moments ``[times, flows, cells, >= order + 2]``."""
    w = from_raw(raw, order + 1)
    return Labelled(w, conserved(w[..., :-1]), knudsen, tuple(times), spacing)


def faces_of(w: Tensor, periodic: bool = True) -> tuple[Tensor, Tensor]:
    """Return the cells on both sides of the faces of a row, ``[.., n + 1, :]``.

    Beyond the ends of a row that is not periodic its last cell goes on.
    """
    first, last = w[..., :1, :], w[..., -1:, :]
    ends = (last, first) if periodic else (first, last)
    ring = torch.cat([ends[0], w, ends[1]], -2)
    return ring[..., :-1, :], ring[..., 1:, :]


def row_of_cells(
    w: Tensor, knudsen: Tensor, spacing: float, periodic: bool = True
) -> FaceStencil:
    """Return the row of a state with constant relaxation time ``tau = Kn``.

    Args:
        w: ``[batch, cells, M + 1]``.
        knudsen: ``[batch]`` or ``[batch, cells]``.
        spacing: width of a cell.
        periodic: whether the last cell is next to the first.
    """
    kn = knudsen if knudsen.dim() == 2 else knudsen[:, None].expand(w.shape[:2])
    low, high = faces_of(w, periodic)
    a, b = faces_of(kn[..., None], periodic)
    return FaceStencil(low, high, w, 0.5 * (a + b)[..., 0], spacing, periodic)


# -- exact linear modes ------------------------------------------------------------------


def linear_modes(
    order: int,
    cells: int,
    amplitude: float,
    rng: torch.Generator,
    count: int,
    ratios: tuple[float, float] = (0.02, 0.7),
) -> tuple[Tensor, Tensor]:
    """Return small exact eigenmodes of BGK on a gas at rest, with their closing moment.

    ``f = M (1 + a Re h(v) exp(ikx))`` with ``lambda h = -ikv h + (P h - h) / tau`` solved
    on Gauss-Hermite nodes; sound in both directions or heat, phases at random.

    Args:
        order: M.
        cells: of the unit box.
        amplitude: a.
        rng: draws wave numbers, Knudsen numbers and phases.
        count: how many.
        ratios: smallest and largest ``k tau``.

    Returns:
        w ``[count, cells, order + 2]`` and Kn ``[count]``.
    """
    x = (np.arange(cells) + 0.5) / cells
    out, knudsen = [], []
    for _ in range(count):
        pick = torch.rand(3, generator=rng).tolist()
        number = 1 + int(pick[0] * 4)
        k = 2 * math.pi * number
        ratio = ratios[0] * (ratios[1] / ratios[0]) ** (round(23 * pick[1]) / 23)
        tau = ratio / k
        kind = int(torch.randint(0, 3, (1,), generator=rng))
        mode = hydrodynamic_modes(k, tau, order + 1)[1][kind]
        wave = amplitude * np.exp(1j * (k * x + 2 * math.pi * pick[2]))
        d = np.real(wave[:, None] * mode)
        d[:, 0] += 1.0
        d[:, 2] += 1.0
        out.append(d)
        knudsen.append(tau)
    w = torch.as_tensor(np.array(out), dtype=torch.float64)
    return w, torch.tensor(knudsen, dtype=torch.float64)


def hydrodynamic_modes(
    k: float, tau: float, order: int, nodes: int = 80
) -> tuple[np.ndarray, np.ndarray]:
    """Return the three hydrodynamic eigenvalues of linear BGK (1V) and their moments.

    Args:
        k: wave number.
        tau: relaxation time.
        order: highest Hermite coefficient wanted.
        nodes: Gauss-Hermite nodes; enough for ``k tau`` up to about 1.

    Returns:
        ``[3]`` lambda (sound, sound, heat) and ``[3, order + 1]`` the changes of
        (rho, u, theta, f_3 ..) of each mode, the largest of the first three being 1.
    """
    rates, changes = _modes(round(k * tau, 12), order, nodes)
    return rates / tau, changes


@lru_cache(maxsize=256)
def _modes(ratio: float, order: int, nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Rates times tau, and modes, of one ``k tau``, on which alone they depend."""
    v, weight = np.polynomial.hermite_e.hermegauss(nodes)
    weight = weight / weight.sum()
    he = np.polynomial.hermite_e.hermevander(v, order)
    factorial = np.array([math.factorial(j) for j in range(order + 1)], dtype=float)
    project = (he[:, :3] / factorial[:3]) @ (he[:, :3] * weight[:, None]).T
    matrix = project - np.eye(nodes) - 1j * ratio * np.diag(v)
    values, vectors = np.linalg.eig(matrix)
    # Hydrodynamic modes carry mass, momentum and energy; the rest decays at once.
    share = np.abs((he[:, :3] * weight[:, None]).T @ vectors).max(0)
    norm = np.sqrt((weight[:, None] * np.abs(vectors) ** 2).sum(0))
    best = np.argsort(-(share / norm) * (np.real(values) > -1.0 + 1e-9))[:3]
    best = best[np.argsort(-np.imag(values[best]))]
    best = best[[0, 2, 1]]
    moments = ((he * weight[:, None]).T @ vectors[:, best]).T / factorial
    changes = moments.copy()
    changes[:, 2] = 2 * moments[:, 2]
    largest = np.abs(changes[:, :3]).max(1, keepdims=True)
    return values[best], changes / largest


# -- regression ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Examples:
    """Rows of faces with all that regression needs, computed once.

    Attributes:
        knudsen: ``[rows, faces, 3]`` inputs from the Knudsen number.
        raw: ``[rows, faces, n]`` invariants.
        z: ``[rows, faces, 3 + n]`` both, normalised with the module's scales.
        gate: ``[rows, faces]`` onset gate.
        unit: ``[rows, faces]`` unit of f_{M+1}.
        true: ``[rows, faces]`` f_{M+1} over its unit.
        floor: ``[rows]`` part of the mean ``true^2`` of the family, so that rows with next
            to nothing to explain do not count for much.
        row: any of the rows, for the filter.
    """

    knudsen: Tensor
    raw: Tensor
    z: Tensor
    gate: Tensor
    unit: Tensor
    true: Tensor
    floor: Tensor
    row: FaceStencil


def examples(
    module: FaceClosure, w: Tensor, knudsen: Tensor, spacing: float, periodic: bool = True
) -> Examples:
    """Return the examples of rows.

    Args:
        module: gives the inputs; its weights do not matter.
        w: ``[rows, cells, M + 2]`` with f_{M+1} at the end.
        knudsen: ``[rows]`` or ``[rows, cells]``.
        spacing: width of a cell.
        periodic: whether the last cell is next to the first.
    """
    row = row_of_cells(w[..., :-1], knudsen, spacing, periodic)
    low, high = faces_of(w[..., -1:], periodic)
    unit = module.unit(row)
    true = 0.5 * (low + high)[..., 0] / unit
    k, raw = module.inputs(row)
    floor = (0.1 * true.square().mean()).expand(len(true))
    z = module.normalised(k, raw)
    every = (k, raw, z, module.onset_gate(row), unit, true, floor)
    k, raw, z, gate, unit, true, floor = (t.to(module.scale.dtype) for t in every)
    return Examples(k, raw, z, gate, unit, true, floor, row)


def joined(parts: Sequence[Examples]) -> Examples:
    """Return all rows of several sets as one."""
    names = ("knudsen", "raw", "z", "gate", "unit", "true", "floor")
    tensors = {n: torch.cat([getattr(part, n) for part in parts]) for n in names}
    return Examples(**tensors, row=parts[0].row)


def calibrate(
    module: FaceClosure,
    pools: Sequence[Examples],
    families: Sequence[Examples] = (),
    margin: float = 1.5,
) -> list[Examples]:
    """Set the scale of each input and the edge of the training range from data.

    Args:
        module: changed in place.
        pools: what it will be trained on; the scales are those of the first.
        families: the same, family by family; the pools where none are given.
        margin: the edge lies this far beyond the largest value of 99.99% of the faces of
            any family.

    Returns:
        The examples, normalised with the new scales.
    """
    edges = []
    for some in families or pools:
        size = some.raw.flatten(0, 1).abs()
        edges.append(size.kthvalue(max(1, int(0.9999 * len(size))), 0).values)
    scale = pools[0].raw.flatten(0, 1).square().mean(0).sqrt()
    module.scale.copy_(scale.clamp(min=1e-6))
    module.limit.copy_(margin * torch.stack(edges).amax(0).clamp(min=1e-6))
    return [replace(s, z=module.normalised(s.knudsen, s.raw)) for s in pools]


def regression_loss(module: FaceClosure, some: Examples, at: Tensor) -> Tensor:
    """Return the unexplained share of the closing moment of the rows ``at``.

    ``mean over rows of |p - y|^2 / (|y|^2 + 0.1 <|y|^2>)`` with p and y the predicted and
    the true ``g_{M+1}`` at the faces and the mean taken over the family: strong flows do
    not drown weak ones. The prediction is filtered as in the solver; the gates of range
    are left open.
    """
    unit, true = some.unit[at], some.true[at]
    scaled = module.scaled_moment(some.z[at]) * some.gate[at]
    miss = module.smooth(scaled * unit, some.row) / unit - true
    size = true.square().mean(1)
    return (miss.square().mean(1) / (size + some.floor[at])).mean()


# -- through the solver --------------------------------------------------------------------


def steps_between(times: Sequence[float], longest: float) -> list[tuple[int, float]]:
    """Return number and length of the steps between times, none over ``longest``."""
    widths = [b - a for a, b in itertools.pairwise(times)]
    counts = [max(1, math.ceil(width / longest - 1e-9)) for width in widths]
    return [(n, width / n) for n, width in zip(counts, widths, strict=True)]


def moment_world(
    module: FaceClosure,
    knudsen: Tensor,
    cells: int,
    time_step: float,
    dtype: torch.dtype,
    spacing: float = 0.0,
) -> MomentWorld:
    """Return the moment solver with the closure, ready for training.

    A ``spacing`` of 0 means a periodic box of unit length, else the line is open and the
    scheme the more robust one that runs shocks.
    """
    half = 0.5 * (spacing * cells or 1.0)
    sides = Sides(Open(), Open()) if spacing else ALL_PERIODIC
    line = Grid((cells,), (-half,), (half,)), (sides,), Gas.constant_time(dimension=1)
    dissipation = rusanov if spacing else roe
    return hermite_world(
        *line, knudsen, module.config.order, time_step, module, dissipation, dtype=dtype,
        check=False,
    )  # fmt: skip


def relative_error(moments: Tensor, true: Tensor) -> Tensor:
    """Return the relative L2 distance of (rho, rho u, energy) together, ``[batch]``."""
    weight = moments.new_tensor([1.0, 1.0, 0.5])
    miss = ((moments[..., :3] - true[..., :3]) * weight).square().sum((-2, -1))
    return (miss / (true[..., :3] * weight).square().sum((-2, -1))).sqrt()


def moment_error(moments: Tensor, true: Tensor, stretch: float = 0.0) -> Tensor:
    """Return the root mean square distance of the scaled high moments, ``[batch]``.

    With a ``stretch`` it is taken over their own size, ``sqrt(1 + stretch^2 |g|^2)``, so
    that the front of a strong shock is not all there is.
    """
    w, v = primitive(moments), primitive(true)
    theta, rho = v[..., 2:3], v[..., :1]
    k = torch.arange(3, w.shape[-1], dtype=w.dtype)
    unit = rho * theta ** (0.5 * k) / (0.5 * torch.lgamma(k + 1)).exp()
    if stretch:
        size = (v[..., 3:] / unit).square().sum(-1, keepdim=True)
        unit = unit * (1.0 + stretch**2 * size).sqrt()
    return ((w - v)[..., 3:] / unit).square().mean((-2, -1)).sqrt()


def unrolled_loss(
    module: FaceClosure,
    start: Tensor,
    targets: Sequence[Tensor],
    spans: Sequence[float],
    knudsen: Tensor,
    time_step: float,
    weights: Tensor,
    spacing: float = 0.0,
) -> Tensor:
    """Return the weighted error of a run of the moment solver against kinetic states.

    Args:
        module: the closure.
        start: ``[batch, cells, M + 1]`` moments to start from.
        targets: kinetic moments after each span.
        spans: times between them.
        knudsen: ``[batch]`` or ``[batch, cells]``.
        time_step: longest step.
        weights: ``[batch]`` of the relative error; that of the high moments is 1.
        spacing: see :func:`moment_world`.
    """
    cells, stretch = start.shape[1], module.config.stretch
    world = moment_world(module, knudsen, cells, time_step, start.dtype, spacing)
    state = world.start(primitive(start).movedim(-1, 1))
    loss = start.new_zeros(())
    for target, span in zip(targets, spans, strict=True):
        steps = max(1, math.ceil(span / time_step - 1e-9))
        world = replace(world, time_step=span / steps)
        for _ in range(steps):
            state = world.step(state)
        moments = state.moments.movedim(1, -1)
        far = (relative_error(moments, target) * weights).clamp(max=20.0)
        high = moment_error(moments, target, stretch).clamp(max=20.0)
        loss = loss + (far + high).mean() / len(targets)
    return loss


# -- the loop ------------------------------------------------------------------------------


Loss = Callable[[int], Tensor]


def regression_steps(
    module: FaceClosure,
    some: Examples,
    linear: int,
    share: float,
    batch: int,
    rng: torch.Generator,
    fronts: Examples | None = None,
    exactness: float = 0.5,
) -> Loss:
    """Return the loss of one regression step on random rows.

    Args:
        module: the closure.
        some: rows of flows, then of linear modes.
        linear: number of the latter.
        share: their part of a batch.
        batch: rows in a step.
        rng: chooses them.
        fronts: rows on an open line; a quarter of the batch, with half the weight.
        exactness: weight of the exact rates of linear waves; below 1 they are looked at in
            every other step only, with twice the weight.
    """
    flows, modes = len(some.raw) - linear, round(share * batch) if linear else 0
    steep = max(1, batch // 4)

    def loss(step: int) -> Tensor:
        at = torch.randint(0, flows, (batch - modes,), generator=rng)
        more = flows + torch.randint(0, max(linear, 1), (modes,), generator=rng)
        value = regression_loss(module, some, torch.cat([at, more]))
        if fronts is not None:
            at = torch.randint(0, len(fronts.raw), (steep,), generator=rng)
            value = value + 0.5 * regression_loss(module, fronts, at)
        # Every other step is enough at first; its cost is that of the regression itself.
        if not linear or (exactness < 1.0 and step % 2 == 0):
            return value
        return value + exactness * (1 + (exactness < 1.0)) * linear_loss(module, rng)

    return loss


def split(data: Labelled, share: float) -> tuple[Labelled, Labelled | None]:
    """Return the flows to train on and those held out (the last ones), None if none."""
    count = data.w.shape[1]
    kept = count - round(share * count)

    def part(first: int, last: int) -> Labelled:
        w, moments = data.w[:, first:last], data.moments[:, first:last]
        return replace(data, w=w, moments=moments, knudsen=data.knudsen[first:last])

    return part(0, kept), part(kept, count) if kept < count else None


def fit(
    module: FaceClosure,
    data: Sequence[Labelled],
    steps: int,
    batch: int,
    rate: float,
    linear: float,
    rng: torch.Generator,
    log: Callable[[str, int, int, float], None] = lambda stage, step, total, loss: None,
    polish: int = 0,
    rolled: int = 0,
) -> None:
    """Calibrate and regress ``module``, in place.

    Args:
        module: new.
        data: the flows, in periodic boxes or on an open line; at least one of the first.
        steps: of Adam.
        batch: rows in a step.
        rate: learning rate at the start.
        linear: share of linear modes.
        rng: of the modes and the batches.
        log: told "regression", "rolled" or "polish", step, total, loss.
        polish: steps at the end at 0.4 of the rate, in which the exact rates of linear
            waves weigh 16 times as much.
        rolled: steps before those at 0.6 of the rate, in which half of the flows are
            :func:`rolled_out`.
    """
    boxes = [each for each in data if each.periodic]
    lines = [each for each in data if not each.periodic]
    cells, count = boxes[0].w.shape[2], 256 if linear else 0
    with torch.no_grad():
        parts = [[rows_of(module, each) for each in some] for some in (boxes, lines)]
        every = [each for part in parts for each in part]
        pools = calibrate(module, [joined(part) for part in parts if part], every)
        some, fronts = pools[0], pools[1] if lines else None
        if count:
            modes = linear_modes(module.config.order, cells, 1e-2, rng, count)
            some = joined([some, examples(module, *modes, 1.0 / cells)])
    loss = regression_steps(module, some, count, linear, batch, rng, fronts)
    for step, value in descend(module, loss, steps, rate):
        log("regression", step, steps, value)
    if rolled:
        with torch.no_grad():
            own = [rows_of(module, rolled_out(module, each)) for each in boxes]
        some = joined([*own, some])  # the linear modes stay the last
        loss = regression_steps(module, some, count, linear, batch, rng, fronts)
        for step, value in descend(module, loss, rolled, 0.6 * rate):
            log("rolled", step, rolled, value)
    if polish:
        loss = regression_steps(module, some, count, linear, batch, rng, fronts, 8.0)
        for step, value in descend(module, loss, polish, 0.4 * rate):
            log("polish", step, polish, value)


def rolled_out(module: FaceClosure, data: Labelled, courant: float = 0.6) -> Labelled:
    """Return the states that the closure itself reaches, with the kinetic closing moment.

    The moment solver runs from the start of every flow. Where it has drifted off, the
    answer that was right next to it leads back (dataset aggregation: Ross, Gordon and
    Bagnell, arXiv:1011.0686). Flows that diverge on the way stay kinetic.

    Args:
        module: the closure, of the precision in which the solver runs.
        data: flows in a periodic box, from their start.
        courant: as in :func:`~scalebridge.engine.learn.comparison.run_moments`.
    """
    cells, dtype = data.w.shape[2], module.scale.dtype
    longest = courant / 6.0 / cells
    world = moment_world(module, data.knudsen.to(dtype), cells, longest, dtype)
    world = replace(world, limiter=koren)
    begun = data.w[0, ..., :-1].to(dtype)
    state, found = world.start(begun.movedim(-1, 1)), [data.w[0]]
    with torch.no_grad():
        for (steps, h), true in zip(
            steps_between(data.times, longest), data.w[1:], strict=True
        ):
            world = replace(world, time_step=h)
            for _ in range(steps):
                state = world.step(state)
            here = primitive(state.moments.movedim(1, -1)).to(true)
            found.append(torch.cat([here, true[..., -1:]], -1))
    w = torch.stack(found)
    well = w.isfinite().all(-1).all(-1).all(0)
    return replace(data, w=torch.where(well[:, None, None], w, data.w))


def rows_of(module: FaceClosure, each: Labelled) -> Examples:
    """Return the examples of all times and flows of a set."""
    rows = each.w.flatten(0, 1)
    spacing = each.spacing or 1.0 / rows.shape[1]
    return examples(module, rows, _repeated(each), spacing, each.periodic)


def unexplained(module: FaceClosure, data: Sequence[Labelled]) -> float:
    """Return the unexplained share of the closing moment, the mean over families."""
    found = []
    with torch.no_grad():
        for each in data:
            pool = rows_of(module, each)
            found.append(regression_loss(module, pool, torch.arange(len(pool.raw))))
    return float(torch.stack(found).mean()) if found else math.nan


def _repeated(data: Labelled) -> Tensor:
    """Kn of every row of ``data.w.flatten(0, 1)``, ``[times * flows, cells]``."""
    kn = data.knudsen
    kn = kn if kn.dim() == 2 else kn[:, None].expand(-1, data.w.shape[2])
    return kn.repeat(data.w.shape[0], 1)


def unrolled_steps(
    module: FaceClosure,
    data: Sequence[Labelled],
    batch: int,
    courant: float,
    rng: torch.Generator,
) -> Loss:
    """Return the loss of one step through the solver, from random flows and times.

    Args:
        module: the closure.
        data: each set is as likely as any other.
        batch: flows in a step.
        courant: of the fastest signal of HME in a set.
        rng: chooses sets, flows and times.
    """
    dtype, order = module.scale.dtype, module.config.order

    def longest(each: Labelled) -> float:
        width = each.spacing or 1.0 / each.w.shape[2]
        u, theta = each.w[..., 1], each.w[..., 2]
        return (
            courant
            * width
            / float((u.abs() + float(roots(order).max()) * theta.sqrt()).amax())
        )

    limits = [longest(each) for each in data]

    def loss(step: int) -> Tensor:
        del step
        number = int(torch.randint(0, len(data), (1,), generator=rng))
        each = data[number]
        count = min(batch, each.w.shape[1])
        flows = torch.randperm(each.w.shape[1], generator=rng)[:count]
        first = int(torch.randint(0, len(each.times) - 2, (1,), generator=rng))
        last = first + 1 + int(torch.randint(0, 2, (1,), generator=rng))
        times = each.times[first : last + 1]
        spans = [b - a for a, b in itertools.pairwise(times)]
        moments = each.moments[:, flows].to(dtype)
        targets = [moments[i] for i in range(first + 1, last + 1)]
        weights = torch.full((count,), 200.0 if each.periodic else 30.0, dtype=dtype)
        kn = each.knudsen[flows].to(dtype)
        return unrolled_loss(
            module, moments[first], targets, spans, kn, limits[number], weights,
            each.spacing,
        )  # fmt: skip

    return loss


def descend(
    module: torch.nn.Module, loss: Loss, steps: int, rate: float
) -> Iterator[tuple[int, float]]:
    """Run Adam with a linearly falling rate; yield step and loss, for logs and stops.

    A step whose loss or gradient is not finite is left out.
    """
    optimiser = torch.optim.Adam(module.parameters(), rate)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = rate * (1 - step / steps) + 1e-6
        optimiser.zero_grad()
        value = loss(step)
        if bool(torch.isfinite(value)):
            value.backward()
            norm = torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            if bool(torch.isfinite(norm)):
                optimiser.step()
        yield step, float(value.detach())


# -- linear response -----------------------------------------------------------------------


def linear_response(module: FaceClosure, k: Tensor, tau: Tensor) -> Tensor:
    """Return f_{M+1} per change of each field, for waves exp(ikx) on a gas at rest.

    The derivative of the closure at ``rho = theta = 1``, filter included: gradients of the
    network at rest times the transfer functions of its inputs. Differentiable in the
    weights.

    Args:
        module: the closure.
        k: ``[n]`` wave numbers.
        tau: ``[n]`` relaxation times.

    Returns:
        ``[n, M + 1]`` complex.
    """
    order, known = module.config.order, module.known
    knudsen, waves = module.wave_inputs(k, tau)
    knudsen = knudsen.to(module.scale)
    none = knudsen.new_zeros(len(k), len(module.scale))
    z = torch.cat([knudsen, none], -1).requires_grad_(True)
    slope = torch.autograd.grad(module.net(z).sum(), z, create_graph=True)[0][:, known:]
    slope = (slope / module.scale).double()
    count = order - 2
    factor = torch.tensor([math.sqrt(math.factorial(j)) for j in range(3, order + 1)])
    factor = factor.to(slope)
    fields = torch.cat([torch.ones(3).to(slope), factor])
    moments = slope[:, :count] * factor
    total = torch.cat([torch.zeros_like(slope[:, :3]), moments], -1).to(torch.complex128)
    for number, wave in enumerate(waves):
        first = count + number * (order + 1)
        part = slope[:, first : first + order + 1] * fields
        total = total + 1j * part * wave[:, None]
    unit = math.exp(-0.5 * math.lgamma(order + 2))
    return total * (module.wave_filter(k, tau) * unit)[:, None]


def fine_response(module: FaceClosure, k: Tensor, tau: Tensor) -> Tensor:
    """Return :func:`linear_response` on a fine grid, where short waves may be damped."""
    found = linear_response(module, k, tau).clone()
    found[:, -1] -= 1j * module.wave_damping(k)
    return found


def linear_matrix(order: int, k: Tensor, tau: Tensor, response: Tensor | None) -> Tensor:
    """Return the matrix of ``dw/dt = L w`` for waves exp(ikx), ``[n, M + 1, M + 1]``."""
    size = order + 1
    one = torch.zeros(size, size, dtype=torch.complex128)
    one[0, 1] = one[1, 0] = one[1, 2] = 1.0
    one[2, 1], one[2, 3] = 2.0, 6.0
    one[3, 2] = 0.5
    for a in range(3, size):
        if a > 3:
            one[a, a - 1] = 1.0
        if a < order:
            one[a, a + 1] = a + 1.0
    loss = torch.diag(torch.tensor([0.0] * 3 + [1.0] * (order - 2), dtype=torch.complex128))
    matrix = -1j * k[:, None, None] * one - loss / tau[:, None, None]
    if response is None:
        return matrix
    last = torch.zeros(size, 1, dtype=torch.complex128)
    last[order] = order + 1.0
    return matrix - 1j * k[:, None, None] * last * response[:, None, :]


def linear_rates(
    module: FaceClosure | None, order: int, k: float, tau: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the hydrodynamic rates of the moment equations and the exact ones of BGK.

    Args:
        module: None for HME.
        order: M.
        k: wave number.
        tau: relaxation time.

    Returns:
        ``[3]`` and ``[3]`` complex lambda: the nearest of ours to each exact one (sound,
        sound, heat), and the exact ones.
    """
    where = torch.tensor([k], dtype=torch.float64), torch.tensor([tau], dtype=torch.float64)
    response = None if module is None else fine_response(module, *where).detach()
    ours = torch.linalg.eigvals(linear_matrix(order, *where, response))[0].numpy()
    exact = hydrodynamic_modes(k, tau, 3)[0]
    return np.array([ours[np.abs(ours - one).argmin()] for one in exact]), exact


@lru_cache(maxsize=4)
def _spectrum(order: int) -> tuple[Tensor, Tensor, Tensor]:
    """Wave numbers, relaxation times and exact rates on which the spectrum is trained."""
    points = [
        (2 * math.pi * n, ratio / (2 * math.pi * n))
        for n in (1, 2, 3, 4)
        for ratio in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
    ]
    exact = np.array([hydrodynamic_modes(k, tau, 3)[0] for k, tau in points])
    k, tau = torch.tensor(points, dtype=torch.float64).T
    return k.contiguous(), tau.contiguous(), torch.as_tensor(exact)


def linear_loss(module: FaceClosure, rng: torch.Generator, count: int = 32) -> Tensor:
    """Return what is wrong with the linearised equations: growing waves, wrong rates.

    Every wave must decay at least like ``0.05 min(k^2 tau, k)``, at ``count`` random
    (k, tau) with k to 2 pi 16 and tau in 1e-3..10; and sound and heat waves must have the
    exact rates of BGK up to ``k tau = 0.6``.
    """
    order = module.config.order
    number = 1 + 15 * torch.rand(count, generator=rng, dtype=torch.float64)
    k = 2 * math.pi * number
    tau = 10.0 ** (-3 + 4 * torch.rand(count, generator=rng, dtype=torch.float64))
    rates = torch.linalg.eigvals(
        linear_matrix(order, k, tau, linear_response(module, k, tau))
    )
    wanted = 0.05 * torch.minimum(k * k * tau, k)
    growth = (rates.real + wanted[:, None]).clamp(min=0.0) / k[:, None]
    miss = rate_misses(module)
    damping, frequency = miss[:, :3], miss[:, 3:]
    total = damping.square().mean() + frequency.square().mean()
    return growth.sum(-1).mean() + total


def rate_misses(module: FaceClosure) -> Tensor:
    """Return relative errors of the rates of waves to ``k tau = 0.6``, ``[waves, 5]``.

    Three of damping, of sound in both directions and of heat; two of frequency.
    """
    order = module.config.order
    ks, taus, exact = _spectrum(order)
    ours = torch.linalg.eigvals(
        linear_matrix(order, ks, taus, linear_response(module, ks, taus))
    )
    far = (ours[:, None, :] - exact[:, :, None]).abs()
    nearest = torch.take_along_dim(ours, far.detach().argmin(-1), 1)
    damping = (nearest.real - exact.real) / exact.real
    frequency = (nearest.imag - exact.imag)[:, :2] / exact.imag[:, :2]
    return torch.cat([damping, frequency], 1)
