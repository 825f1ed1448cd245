"""Deep Ritz: partial differential equations by their variational principle.

    minimise  I(u) = mean over the domain of |grad u|^2 / 2 - f u
                     + penalty * mean over the boundary of (u - g)^2

with a network for ``u``, random points and Adam: the same Monte Carlo and the same jets as
for wavefunctions. Reference: E and Yu, Commun. Math. Stat. 6, 1 (2018).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ...models.wavefunctions import jet
from .. import runtime
from .parameters import Flat


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


def _cube_boundary(
    count: int, dim: int, low: float, high: float, rng: torch.Generator
) -> Tensor:
    x = low + (high - low) * torch.rand(count, dim, generator=rng, dtype=torch.float64)
    face = torch.randint(dim, (count,), generator=rng)
    side = torch.randint(2, (count,), generator=rng).double()
    x[torch.arange(count), face] = low + (high - low) * side
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
        return 2 * torch.rand(count, 2, generator=rng, dtype=torch.float64) - 1

    def boundary(self, count: int, rng: torch.Generator) -> Tensor:
        """Return points of the four sides (length 8) and of the slit (length 1)."""
        x = _cube_boundary(count, 2, -1.0, 1.0, rng)
        cut = max(count // 9, 1)
        x[:cut, 0] = torch.rand(cut, generator=rng, dtype=torch.float64)
        x[:cut, 1] = 0.0
        return x

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
        return torch.rand(count, self.dim, generator=rng, dtype=torch.float64)

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
        first: first moment of Adam.
        second: second moment.
        step: int64; keys the random points together with ``seed``.
        seed: int64.
        energy: the functional at the last step, without the penalty.
        boundary: mean square violation of the boundary condition.
    """

    parameters: Tensor
    first: Tensor
    second: Tensor
    step: Tensor
    seed: Tensor
    energy: Tensor
    boundary: Tensor


@dataclass(frozen=True)
class DeepRitz:
    """The world of the Deep Ritz method; implements ``Simulator``.

    Attributes:
        equation: what is solved.
        flat: the network ``u(x)`` and its parameters.
        points: random points in the domain per step; half as many on the boundary.
        penalty: weight of the boundary condition.
        rate: learning rate of Adam, which falls linearly to zero.
        steps: when it is zero.
        seed: of the random points.
    """

    equation: Poisson
    flat: Flat
    points: int = 1000
    penalty: float = 500.0
    rate: float = 3e-3
    steps: int = 2000
    seed: int = 1

    def init(self, rng: torch.Generator) -> RitzState:
        """Return the first state; the network brings its own weights."""
        del rng
        vector = self.flat.vector.clone()
        zero = torch.zeros_like(vector)
        nothing = torch.tensor(float("nan")).double()
        return RitzState(
            vector, zero, zero.clone(), torch.tensor(0), torch.tensor(self.seed),
            nothing, nothing.clone(),
        )  # fmt: skip

    def step(self, state: RitzState) -> RitzState:
        """Draw points, differentiate the functional, make one step of Adam."""
        number = int(state.step)
        rng = runtime.generator(int(state.seed), number + 1)
        self.flat.load(state.parameters)
        energy, boundary = self.functional(rng)
        named = list(self.flat.module.parameters())
        parts = torch.autograd.grad(energy + self.penalty * boundary, named)
        gradient = torch.cat([part.reshape(-1) for part in parts])
        first = 0.9 * state.first + 0.1 * gradient
        second = 0.999 * state.second + 0.001 * gradient.square()
        scale = (second / (1 - 0.999 ** (number + 1))).sqrt() + 1e-10
        rate = self.rate * max(0.0, 1 - number / self.steps)
        change = -rate * first / (1 - 0.9 ** (number + 1)) / scale
        return RitzState(
            state.parameters + change, first, second, state.step + 1, state.seed,
            energy.detach().double(), boundary.detach().double(),
        )  # fmt: skip

    def functional(self, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the Ritz functional and the boundary violation at random points."""
        dtype = self.flat.dtype
        x = self.equation.inside(self.points, rng).to(dtype)
        u = self.flat.module(jet.coordinates(x))
        density = 0.5 * u.jacobian.square().sum(0) - self.equation.right(x) * u.value
        y = self.equation.boundary(max(self.points // 2, 1), rng).to(dtype)
        wrong = self.flat.module(y) - self.equation.value(y)
        return density.mean() * self.equation.volume, wrong.square().mean()

    def observe(self, state: RitzState) -> Mapping[str, Tensor]:
        """Return the functional and the mean square boundary violation."""
        return {"energy": state.energy, "boundary": state.boundary}

    @torch.no_grad()
    def relative_error(self, state: RitzState) -> float:
        """Return ``|u - u_ref| / |u_ref|`` in the mean square over reference points."""
        self.flat.load(state.parameters)
        x, exact = self.equation.reference()
        u = self.flat.module(x.to(self.flat.dtype)).double()
        return float((u - exact).norm() / exact.norm())
