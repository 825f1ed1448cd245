r"""Training of moment closures: regression on kinetic data, then through the solver.

The labels are exact: the kinetic equation is solved, f_{M+1} is an integral of f, and the
closure learns it from (rho, u, theta, f_3 .. f_M) of the same instant. Two losses:

* regression (:func:`regression_loss`): the closing moment at the faces;
* unrolled (:func:`unrolled_loss`): the moment solver runs with the closure from a kinetic
  state for some time and is compared with the kinetic solution there; gradients flow
  through all steps. It sees its own errors, and so learns to be stable.

Beside the random flows stand the exact linear modes of BGK (:func:`linear_modes`): sound
and heat waves of all lengths, whose closing moment is known by a quadrature.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ....models.closures.face import FaceClosure, Row
from ...gas.boundaries import ALL_PERIODIC
from ...gas.grid import Grid
from ...gas.material import Gas
from ...gas.moment.hermite import HermiteWorld, conserved, from_raw, primitive
from ...gas.moment.learned import Learned
from ...gas.moment.upwind import roe


@dataclass(frozen=True)
class Labelled:
    """Kinetic flows at some times, as moments on the coarse grid.

    Attributes:
        w: ``[times, flows, cells, order + 2]`` (rho, u, theta, f_3 .. f_{M+1}).
        moments: ``[times, flows, cells, order + 1]`` what the moment solver holds; cell
            averages of the conserved ones.
        knudsen: ``[flows]`` or ``[flows, cells]``.
        times: rising.
    """

    w: Tensor
    moments: Tensor
    knudsen: Tensor
    times: tuple[float, ...]

    @property
    def order(self) -> int:
        """M."""
        return self.w.shape[-1] - 2


def labelled(raw: Tensor, knudsen: Tensor, times: Sequence[float], order: int) -> Labelled:
    """Return the labelled flows of raw moments ``[times, flows, cells, >= order + 2]``."""
    w = from_raw(raw, order + 1)
    return Labelled(w, conserved(w[..., :-1]), knudsen, tuple(times))


def faces_of(w: Tensor) -> tuple[Tensor, Tensor]:
    """Return the cells on both sides of the faces of a periodic row, ``[.., n + 1, :]``."""
    ring = torch.cat([w[..., -1:, :], w, w[..., :1, :]], -2)
    return ring[..., :-1, :], ring[..., 1:, :]


def row_of_cells(w: Tensor, knudsen: Tensor, spacing: float) -> Row:
    """Return the row of a periodic state with constant relaxation time ``tau = Kn``.

    Args:
        w: ``[batch, cells, M + 1]``.
        knudsen: ``[batch]`` or ``[batch, cells]``.
        spacing: width of a cell.
    """
    kn = knudsen if knudsen.dim() == 2 else knudsen[:, None].expand(w.shape[:2])
    low, high = faces_of(w)
    a, b = faces_of(kn[..., None])
    return Row(low, high, w, 0.5 * (a + b)[..., 0], spacing, True)


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
        ratio = ratios[0] * (ratios[1] / ratios[0]) ** pick[1]
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
    k: float, tau: float, order: int, nodes: int = 120
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
    v, weight = np.polynomial.hermite_e.hermegauss(nodes)
    weight = weight / weight.sum()
    he = np.polynomial.hermite_e.hermevander(v, order)
    factorial = np.array([math.factorial(j) for j in range(order + 1)], dtype=float)
    project = (he[:, :3] / factorial[:3]) @ (he[:, :3] * weight[:, None]).T
    matrix = (project - np.eye(nodes)) / tau - 1j * k * np.diag(v)
    values, vectors = np.linalg.eig(matrix)
    # Hydrodynamic modes carry mass, momentum and energy; the rest decays like 1 / tau.
    share = np.abs((he[:, :3] * weight[:, None]).T @ vectors).max(0)
    norm = np.sqrt((weight[:, None] * np.abs(vectors) ** 2).sum(0))
    best = np.argsort(-(share / norm) * (values.real > -1.0 / tau + 1e-9))[:3]
    best = best[np.argsort(-values[best].imag)]
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
        row: any of the rows, for the filter.
    """

    knudsen: Tensor
    raw: Tensor
    z: Tensor
    gate: Tensor
    unit: Tensor
    true: Tensor
    row: Row


def examples(module: FaceClosure, w: Tensor, knudsen: Tensor, spacing: float) -> Examples:
    """Return the examples of periodic rows.

    Args:
        module: gives the inputs; its weights do not matter.
        w: ``[rows, cells, M + 2]`` with f_{M+1} at the end.
        knudsen: ``[rows]`` or ``[rows, cells]``.
        spacing: width of a cell.
    """
    row = row_of_cells(w[..., :-1], knudsen, spacing)
    low, high = faces_of(w[..., -1:])
    unit = module.unit(row)
    true = 0.5 * (low + high)[..., 0] / unit
    k, raw = module.inputs(row)
    every = (k, raw, module.normalised(k, raw), module.onset_gate(row), unit, true)
    return Examples(*(t.to(module.scale.dtype) for t in every), row)


def calibrate(module: FaceClosure, some: Sequence[Examples], margin: float = 1.5) -> None:
    """Set the scale of each input and the edge of the training range from data.

    Args:
        module: changed in place.
        some: what it will be trained on.
        margin: the edge lies this far beyond the largest value of 99.99% of the faces.
    """
    raw = torch.cat([each.raw.flatten(0, 1) for each in some])
    size = raw.abs()
    kept = size.kthvalue(max(1, int(0.9999 * len(size))), 0).values
    module.scale.copy_(raw.square().mean(0).sqrt().clamp(min=1e-6))
    module.limit.copy_(margin * kept.clamp(min=1e-6))


def normalised(module: FaceClosure, some: Sequence[Examples]) -> list[Examples]:
    """Return the examples with the network's inputs of the module as it is calibrated."""
    return [replace(each, z=module.normalised(each.knudsen, each.raw)) for each in some]


def regression_loss(module: FaceClosure, some: Examples, at: Tensor) -> Tensor:
    """Return the unexplained share of the closing moment of the rows ``at``.

    ``mean over rows of |p - y|^2 / (|y|^2 + 0.1 <|y|^2>)``, with p and y the predicted and
    the true ``g_{M+1}`` at the faces: strong flows do not drown weak ones. The prediction
    is filtered as in the solver; the gates of range are left open.
    """
    unit, true = some.unit[at], some.true[at]
    scaled = module.scaled_moment(some.z[at]) * some.gate[at]
    miss = module.smooth(scaled * unit, some.row) / unit - true
    size = true.square().mean(1)
    return (miss.square().mean(1) / (size + 0.1 * size.mean())).mean()


# -- through the solver --------------------------------------------------------------------


def moment_world(
    module: FaceClosure, knudsen: Tensor, cells: int, time_step: float, dtype: torch.dtype
) -> HermiteWorld:
    """Return the periodic moment solver with the closure, ready for training."""
    return HermiteWorld(
        grid=Grid((cells,), (-0.5,), (0.5,)),
        sides=(ALL_PERIODIC,),
        gas=Gas.constant_time(dimension=1),
        knudsen=knudsen,
        order=module.config.order,
        time_step=time_step,
        closure=Learned(module),
        dissipation=roe,
        dtype=dtype,
        check=False,
    )


def relative_error(moments: Tensor, true: Tensor) -> Tensor:
    """Return the relative L2 distance of (rho, rho u, energy) together, ``[batch]``."""
    weight = moments.new_tensor([1.0, 1.0, 0.5])
    miss = ((moments - true)[..., :3] * weight).square().sum((-2, -1))
    return (miss / (true[..., :3] * weight).square().sum((-2, -1))).sqrt()


def moment_error(moments: Tensor, true: Tensor) -> Tensor:
    """Return the root mean square distance of the scaled high moments, ``[batch]``."""
    w, v = primitive(moments), primitive(true)
    theta, rho = v[..., 2:3], v[..., :1]
    k = torch.arange(3, w.shape[-1], dtype=w.dtype)
    unit = rho * theta ** (0.5 * k) / (0.5 * torch.lgamma(k + 1)).exp()
    return ((w - v)[..., 3:] / unit).square().mean((-2, -1)).sqrt()


def unrolled_loss(
    module: FaceClosure,
    start: Tensor,
    targets: Sequence[Tensor],
    spans: Sequence[float],
    knudsen: Tensor,
    time_step: float,
    weights: Tensor,
) -> Tensor:
    """Return the weighted error of a run of the moment solver against kinetic states.

    Args:
        module: the closure.
        start: ``[batch, cells, M + 1]`` moments to start from.
        targets: kinetic moments after each span.
        spans: times between them.
        knudsen: ``[batch]`` or ``[batch, cells]``.
        time_step: longest step.
        weights: ``[batch]`` of the relative error, beside 1 for the high moments.
    """
    world = moment_world(module, knudsen, start.shape[1], time_step, start.dtype)
    state = world.start(primitive(start))
    loss = start.new_zeros(())
    for target, span in zip(targets, spans, strict=True):
        steps = max(1, math.ceil(span / time_step - 1e-9))
        world = replace(world, time_step=span / steps)
        for _ in range(steps):
            state = world.step(state)
        far = (relative_error(state.moments, target) * weights).clamp(max=20.0)
        high = moment_error(state.moments, target).clamp(max=20.0)
        loss = loss + (far + high).mean() / len(targets)
    return loss


# -- the loop ------------------------------------------------------------------------------


Loss = Callable[[int], Tensor]


def all_examples(
    module: FaceClosure, data: Sequence[Labelled], rng: torch.Generator, linear: int = 256
) -> list[Examples]:
    """Return the examples of all flows and times, and of ``linear`` linear modes."""
    cells = data[0].w.shape[2]
    found = [
        examples(module, each.w.flatten(0, 1), _repeated(each), 1.0 / cells)
        for each in data
    ]
    if linear:
        modes = linear_modes(module.config.order, cells, 1e-2, rng, linear)
        found.append(examples(module, *modes, 1.0 / cells))
    return found


def regression_steps(
    module: FaceClosure,
    some: Sequence[Examples],
    shares: Sequence[float],
    batch: int,
    rng: torch.Generator,
) -> Loss:
    """Return the loss of one regression step: the mean over pools of random rows.

    Args:
        module: the closure.
        some: pools of rows.
        shares: weight and part of the batch of each pool, sum 1.
        batch: rows in a step.
        rng: chooses them.
    """
    counts = [max(1, round(share * batch)) for share in shares]

    def loss(step: int) -> Tensor:
        del step
        total = torch.zeros(())
        for pool, count, share in zip(some, counts, shares, strict=True):
            at = torch.randint(0, len(pool.raw), (count,), generator=rng)
            total = total + share * regression_loss(module, pool, at)
        return total

    return loss


def split(data: Labelled, share: float) -> tuple[Labelled, Labelled | None]:
    """Return the flows to train on and those held out (the last ones), None if none."""
    count = data.w.shape[1]
    kept = count - round(share * count)

    def part(first: int, last: int) -> Labelled:
        return Labelled(
            data.w[:, first:last],
            data.moments[:, first:last],
            data.knudsen[first:last],
            data.times,
        )

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
) -> None:
    """Calibrate and regress ``module``, in place.

    Args:
        module: new.
        data: the flows.
        steps: of Adam.
        batch: rows in a step.
        rate: learning rate at the start.
        linear: share of linear modes.
        rng: of the modes and the batches.
        log: told "regression", step, total, loss.
    """
    with torch.no_grad():
        pools = all_examples(module, data, rng)
        calibrate(module, pools[:-1])
        pools = normalised(module, pools)
    sizes = [len(pool.raw) for pool in pools[:-1]]
    shares = [(1 - linear) * size / sum(sizes) for size in sizes]
    loss = regression_steps(module, pools, [*shares, linear], batch, rng)
    for step, value in descend(module, loss, steps, rate):
        log("regression", step, steps, value)


def unexplained(module: FaceClosure, data: Sequence[Labelled]) -> float:
    """Return the unexplained share of the closing moment, the mean over families."""
    found = []
    with torch.no_grad():
        for each in data:
            rows = each.w.flatten(0, 1)
            pool = examples(module, rows, _repeated(each), 1.0 / rows.shape[1])
            found.append(regression_loss(module, pool, torch.arange(len(rows))))
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
    time_step: float,
    rng: torch.Generator,
) -> Loss:
    """Return the loss of one step through the solver, from random flows and times."""
    dtype = module.scale.dtype

    def loss(step: int) -> Tensor:
        del step
        each = data[int(torch.randint(0, len(data), (1,), generator=rng))]
        count = min(batch, each.w.shape[1])
        flows = torch.randperm(each.w.shape[1], generator=rng)[:count]
        first = int(torch.randint(0, len(each.times) - 3, (1,), generator=rng))
        last = first + 2 + int(torch.randint(0, 2, (1,), generator=rng))
        times = each.times[first : last + 1]
        spans = [b - a for a, b in itertools.pairwise(times)]
        moments = each.moments[:, flows].to(dtype)
        targets = [moments[i] for i in range(first + 1, last + 1)]
        weights = torch.full((count,), 200.0, dtype=dtype)
        return unrolled_loss(
            module,
            moments[first],
            targets,
            spans,
            each.knudsen[flows].to(dtype),
            time_step,
            weights,
        )

    return loss


def descend(
    module: FaceClosure, loss: Loss, steps: int, rate: float
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


def linear_rates(
    module: FaceClosure | None, order: int, k: float, tau: float, cells: int = 400
) -> tuple[np.ndarray, np.ndarray]:
    """Return the hydrodynamic rates of the moment equations and the exact ones of BGK.

    The equations are linearised about rest, ``rho = theta = 1``, for ``exp(ikx)``; the
    closure's response is its derivative there, taken in double precision on a fine grid,
    filter included.

    Args:
        module: None for HME.
        order: M.
        k: a multiple of 2 pi (the box has unit length).
        tau: relaxation time.
        cells: of the grid on which the response is taken.

    Returns:
        ``[3]`` and ``[3]`` complex lambda: each exact one (sound, sound, heat) with the
        nearest of ours first.
    """
    size = order + 1
    matrix = np.zeros((size, size), dtype=complex)
    matrix[0, 1] = matrix[1, 0] = matrix[1, 2] = 1.0
    matrix[2, 1], matrix[2, 3] = 2.0, 6.0
    matrix[3, 2] += 0.5
    for a in range(3, size):
        if a > 3:
            matrix[a, a - 1] += 1.0
        if a < order:
            matrix[a, a + 1] += a + 1.0
    matrix *= -1j * k
    if module is not None:
        matrix[order] -= (order + 1) * 1j * k * _response(module, order, k, tau, cells)
    for a in range(3, size):
        matrix[a, a] -= 1.0 / tau
    ours = np.linalg.eigvals(matrix)
    exact = hydrodynamic_modes(k, tau, 3)[0]
    nearest = np.array([ours[np.abs(ours - one).argmin()] for one in exact])
    return nearest, exact


def _response(
    module: FaceClosure, order: int, k: float, tau: float, cells: int
) -> np.ndarray:
    """Amplitude of f_{M+1} per amplitude of each field, for waves exp(ikx)."""
    x = torch.arange(cells, dtype=torch.float64) / cells
    faces = torch.arange(cells + 1, dtype=torch.float64) / cells - 0.5 / cells
    small, found = 1e-4, []
    for field in range(order + 1):
        both = []
        for sign in (1.0, -1.0):
            w = torch.zeros(1, cells, order + 1, dtype=torch.float64)
            w[..., 0] = w[..., 2] = 1.0
            w[0, :, field] += sign * small * torch.cos(k * x)
            row = row_of_cells(w, torch.tensor([tau], dtype=torch.float64), 1.0 / cells)
            with torch.no_grad():
                both.append(module(row).flux[0])
        answer = 0.5 * (both[0] - both[1])[:-1] / small
        wave = torch.exp(-1j * k * faces[:-1])
        found.append(complex(2.0 * (answer * wave).mean()))
    return np.array(found)
