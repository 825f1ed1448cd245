"""Deep Ritz: partial differential equations by their variational principle.

    minimise  I(u) = mean over the domain of |grad u|^2 / 2 - f u
                     + penalty * mean over the boundary of (u - g)^2

with a network for ``u`` and random points: the same Monte Carlo, jets and natural gradient
as for wavefunctions. Reference: E and Yu, Commun. Math. Stat. 6, 1 (2018).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, grad, jacrev, vmap

from ...models.wavefunctions import jet
from .. import runtime
from ..vmc.parameters import Flat


class Poisson(Protocol):
    """``- lap u = f`` in a domain, ``u = g`` on its boundary."""

    @property
    def dim(self) -> int:
        """Space dimensions."""
        ...

    @property
    def volume(self) -> float:
        """Of the domain."""
        ...

    def inside(self, count: int, rng: torch.Generator) -> Tensor:
        """Return uniform points ``[count, dim]`` of the domain."""
        ...

    def boundary(self, count: int, rng: torch.Generator) -> Tensor:
        """Return uniform points ``[count, dim]`` of the boundary."""
        ...

    def right(self, x: Tensor) -> Tensor:
        """Return ``f [count]``."""
        ...

    def value(self, x: Tensor) -> Tensor:
        """Return ``g [count]``."""
        ...

    def reference(self) -> tuple[Tensor, Tensor]:
        """Return points ``[count, dim]`` and the solution there."""
        ...


def even_points(count: int, dim: int, rng: torch.Generator) -> Tensor:
    """Return uniform points of the unit cube that leave no gaps: a scrambled Sobol set.

    A network lowers the functional by bending where no point looks; with independent
    points the gaps are wide enough for it to end 10 % off.
    """
    seed = int(torch.randint(2**31, (1,), generator=rng))
    engine = torch.quasirandom.SobolEngine(dim, scramble=True, seed=seed)
    return engine.draw(count, dtype=torch.float64)


def _cube_boundary(
    count: int, dim: int, low: float, high: float, rng: torch.Generator
) -> Tensor:
    points = even_points(count, dim + 1, rng)
    x = low + (high - low) * points[:, :dim]
    face = (2 * dim * points[:, dim]).long().clamp(max=2 * dim - 1)
    x[torch.arange(count), face // 2] = low + (high - low) * (face % 2).double()
    return x


@dataclass(frozen=True)
class Slit:
    """``- lap u = 1`` in ``(-1, 1)^2`` without the slit ``[0, 1) x {0}``; ``u = 0``.

    The solution behaves like ``sqrt(r)`` at the tip of the slit (section 3.1 of the paper).

    Attributes:
        cells: of the finite-difference grid of the reference, along each axis; even.
    """

    cells: int = 200

    @property
    def dim(self) -> int:
        """Space dimensions."""
        return 2

    @property
    def volume(self) -> float:
        """Of the domain."""
        return 4.0

    def inside(self, count: int, rng: torch.Generator) -> Tensor:
        """Return uniform points of the square; the slit has no area."""
        return 2 * even_points(count, 2, rng) - 1

    def boundary(self, count: int, rng: torch.Generator) -> Tensor:
        """Return points of the four sides (length 8) and of the slit (length 1)."""
        cut = max(count // 9, 1)
        slit = torch.zeros(cut, 2, dtype=torch.float64)
        slit[:, 0] = even_points(cut, 1, rng)[:, 0]
        return torch.cat([slit, _cube_boundary(count - cut, 2, -1.0, 1.0, rng)])

    def right(self, x: Tensor) -> Tensor:
        """Return 1."""
        return torch.ones_like(x[:, 0])

    def value(self, x: Tensor) -> Tensor:
        """Return 0."""
        return torch.zeros_like(x[:, 0])

    def reference(self) -> tuple[Tensor, Tensor]:
        """Solve the five-point scheme and return every inner node."""
        from scipy.sparse import dia_array, eye_array, kron
        from scipy.sparse.linalg import spsolve

        inner = self.cells - 1
        step = 2.0 / self.cells
        band = np.ones(inner)
        second = dia_array(
            (np.stack([-band, 2 * band, -band]) / step**2, [-1, 0, 1]), shape=(inner, inner)
        )
        matrix = kron(second, eye_array(inner)) + kron(eye_array(inner), second)
        axis = np.linspace(-1, 1, self.cells + 1)[1:-1]
        x, y = (g.ravel() for g in np.meshgrid(axis, axis, indexing="ij"))
        free = ~((x >= -1e-12) & (np.abs(y) < 1e-12))
        solution = np.zeros(inner * inner)
        inside = matrix.tocsr()[free][:, free].tocsc()
        solution[free] = np.asarray(spsolve(inside, np.ones(int(free.sum()))))
        return torch.from_numpy(np.stack([x, y], -1)), torch.from_numpy(solution)


@dataclass(frozen=True)
class Mixed:
    """``lap u = 0`` in ``(0, 1)^d`` with ``u = sum_k x_(2k-1) x_(2k)`` (section 3.3).

    Attributes:
        dim: even number of dimensions.
    """

    dim: int = 10

    @property
    def volume(self) -> float:
        """Of the domain."""
        return 1.0

    def inside(self, count: int, rng: torch.Generator) -> Tensor:
        """Return uniform points of the cube."""
        return even_points(count, self.dim, rng)

    def boundary(self, count: int, rng: torch.Generator) -> Tensor:
        """Return uniform points of its faces."""
        return _cube_boundary(count, self.dim, 0.0, 1.0, rng)

    def right(self, x: Tensor) -> Tensor:
        """Return 0."""
        return torch.zeros_like(x[:, 0])

    def value(self, x: Tensor) -> Tensor:
        """Return the harmonic polynomial."""
        return (x[:, 0::2] * x[:, 1::2]).sum(1)

    def reference(self) -> tuple[Tensor, Tensor]:
        """Return random points and the exact solution there."""
        x = self.inside(4096, torch.Generator().manual_seed(7))
        return x, self.value(x)


@dataclass(frozen=True)
class RitzState:
    """What evolves.

    Attributes:
        parameters: ``[p]``.
        average: ``[p]`` exponential average of the parameters: the solution.
        step: int64; keys the random points together with ``seed``.
        seed: int64.
        energy: the functional at the last step, without the penalty.
        boundary: mean square violation of the boundary condition.
    """

    parameters: Tensor
    average: Tensor
    step: Tensor
    seed: Tensor
    energy: Tensor
    boundary: Tensor


@dataclass(frozen=True)
class DeepRitz:
    """The world of the Deep Ritz method; implements ``Simulator``.

    A step goes along the natural gradient of the functional: with the metric

        G_ij = int grad u_i . grad u_j + 2 penalty mean over the boundary of u_i u_j,

    ``u_i = du / d theta_i``, the direction ``-(G + damping)^-1 dI / d theta`` is Newton's
    for the network linearised in its parameters (Mueller and Zeinhofer, "Achieving High
    Accuracy with PINNs via Energy Natural Gradient Descent", ICML 2023, section 3). It is
    halved until the functional over the same points falls no further. Adam on the same
    points needs a hundred times as many steps.

    Attributes:
        equation: what is solved.
        flat: the network ``u(x)`` and its parameters.
        points: random points in the domain per step; half as many on the boundary.
        penalty: weight of the boundary condition.
        rate: longest step in units of the Newton step.
        decay: steps after which ``rate`` is halved.
        damping: Tikhonov shift of the metric.
        memory: steps over which parameters are averaged, at most a fifth of those made.
        seed: of the random points.
        chunk: points in one pass of the Jacobian.
    """

    equation: Poisson
    flat: Flat
    points: int = 4000
    penalty: float = 5000.0
    rate: float = 1.0
    decay: float = 10.0
    damping: float = 3e-3
    memory: int = 10
    seed: int = 1
    chunk: int = 256

    def init(self, rng: torch.Generator) -> RitzState:
        """Return the first state; the network brings its own weights."""
        del rng
        vector = self.flat.vector.clone()
        nothing = torch.tensor(float("nan")).double()
        return RitzState(
            vector, vector.clone(), torch.tensor(0), torch.tensor(self.seed),
            nothing, nothing.clone(),
        )  # fmt: skip

    def at(self, parameters: Tensor) -> "DeepRitz":
        """Return the world with other parameters; this one does not change."""
        return replace(self, flat=self.flat.at(parameters))

    def step(self, state: RitzState) -> RitzState:
        """Draw points, and go along the natural gradient of the functional over them."""
        number = int(state.step)
        rng = runtime.generator(int(state.seed), number + 1)
        x = self.equation.inside(self.points, rng).to(self.flat.vector)
        y = self.equation.boundary(max(self.points // 2, 1), rng).to(self.flat.vector)
        here = self.at(state.parameters)
        energy, boundary = here.functional(x, y)
        total = energy + self.penalty * boundary
        parts = torch.autograd.grad(total, list(here.flat.module.parameters()))
        gradient = torch.cat([part.reshape(-1) for part in parts]).double()
        factor = torch.linalg.cholesky(here.metric(x, y))
        direction = -torch.cholesky_solve(gradient[:, None], factor)[:, 0]
        change = direction.to(self.flat.dtype)
        rate = self._rate(state.parameters, change, float(total.detach()), x, y, number)
        parameters = state.parameters + rate * change
        keep = 1 - 1 / min(float(self.memory), max(number / 5, 1.0))
        return RitzState(
            parameters, keep * state.average + (1 - keep) * parameters, state.step + 1,
            state.seed, energy.detach().double().cpu(), boundary.detach().double().cpu(),
        )  # fmt: skip

    def functional(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the Ritz functional and the boundary violation at given points.

        Args:
            x: ``[points, dim]`` in the domain.
            y: ``[points, dim]`` on the boundary.
        """
        u = self.flat.module(jet.coordinates(x))
        density = 0.5 * u.jacobian.square().sum(0) - self.equation.right(x) * u.value
        wrong = self.flat.module(y) - self.equation.value(y)
        return density.mean() * self.equation.volume, wrong.square().mean()

    def metric(self, x: Tensor, y: Tensor) -> Tensor:
        """Return ``G + damping``, float64 ``[p, p]``, over given points."""
        named, module = self.flat.named(), self.flat.module

        def slope(parameters: dict[str, Tensor], one: Tensor) -> Tensor:
            return functional_call(
                module, parameters, (jet.coordinates(one[None]),)
            ).jacobian[:, 0]

        def value(parameters: dict[str, Tensor], one: Tensor) -> Tensor:
            return functional_call(module, parameters, (one[None],))[0]

        slopes = vmap(jacrev(slope), (None, 0))
        values = vmap(grad(value), (None, 0))
        result = self.damping * torch.eye(
            self.flat.size, dtype=torch.float64, device=x.device
        )
        for part in x.split(self.chunk):
            found = {name: t.flatten(0, 1) for name, t in slopes(named, part).items()}
            rows = x.new_empty(part.numel(), self.flat.size)
            self.flat.join(found, rows)
            wide = rows.double() * math.sqrt(self.equation.volume / len(x))
            result += wide.T @ wide
        for part in y.split(self.chunk):
            rows = y.new_empty(len(part), self.flat.size)
            self.flat.join(values(named, part), rows)
            wide = rows.double() * math.sqrt(2 * self.penalty / len(y))
            result += wide.T @ wide
        return result

    @torch.no_grad()
    def _rate(
        self,
        parameters: Tensor,
        change: Tensor,
        total: float,
        x: Tensor,
        y: Tensor,
        number: int,
    ) -> float:
        """Halve the step while that lowers the functional; 0 where nothing lowers it."""
        best, found = total, 0.0
        rate = self.rate / (1 + number / self.decay)
        for _ in range(8):
            moved = self.at(parameters + rate * change)
            energy, boundary = moved.functional(x, y)
            reached = float(energy + self.penalty * boundary)
            if reached < best:
                best, found = reached, rate
            elif found:
                break
            rate /= 2
        return found

    def observe(self, state: RitzState) -> Mapping[str, Tensor]:
        """Return the functional and the mean square boundary violation."""
        return {"energy": state.energy, "boundary": state.boundary}

    @torch.no_grad()
    def solution(self, state: RitzState, x: Tensor) -> Tensor:
        """Return ``u [count]``, float64, at ``x [count, dim]`` with averaged parameters."""
        module = self.flat.at(state.average).module
        return module(x.to(self.flat.vector)).double().cpu()

    def relative_error(self, state: RitzState) -> float:
        """Return ``|u - u_ref| / |u_ref|`` in the mean square over reference points."""
        x, exact = self.equation.reference()
        return float((self.solution(state, x) - exact).norm() / exact.norm())
