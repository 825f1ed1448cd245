r"""Collisions of Maxwell molecules by a fast spectral method, and homogeneous relaxation.

For the kernel ``B = 1 / |S|`` of Maxwell molecules that scatter evenly over the sphere S,
with relative velocity ``q = r w`` cut at ``|q| < R``::

    Q+(v) = int dr r^(D-1) / |S|  A_r[ int dw f(. + r w / 2) f(. - r w / 2) ](v)

``A_r`` sums over the sphere of radius r / 2, which in Fourier space is a multiplication by
``|S| J_0(r k / 2)`` (2V) or ``|S| sinc(r k / 2)`` (3V); a shifted f is a phase. With Mr
radii and Mw directions an evaluation costs ``Mr Mw`` transforms of ``N^D`` points (Gamba,
Haack, Hauck, Hu, SIAM J. Sci. Comput. 39, 2017, B658). The loss term is cut alike. What
the method loses of momentum and energy, spectrally small, is projected out, so all three
are kept to round-off.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError
from ...protocols import Check, Figure, Outcome
from ...rundir import write_array
from .. import exact

CHUNK = 1 << 20
"""Most complex numbers of one transform."""


class _Tables(NamedTuple):
    """What the operator needs, on one device."""

    velocities: Tensor
    waves: Tensor
    directions: Tensor
    weights: Tensor
    radii: Tensor
    gains: Tensor
    losses: Tensor


@dataclass(frozen=True)
class Boltzmann:
    """``Q(f, f)`` on a uniform periodic velocity grid.

    Attributes:
        dimension: D, 2 or 3.
        nodes: N per axis, even.
        limit: the box is ``[-limit, limit]^D``.
        angles: directions over half a circle (2V); around the pole, half as many latitudes
            (3V).
        radii: Gauss nodes of the relative speed; 0 takes N / 2.
    """

    dimension: int
    nodes: int
    limit: float
    angles: int = 8
    radii: int = 0

    def __post_init__(self) -> None:
        if self.dimension not in (2, 3):
            raise InputError(
                f"dimension: {self.dimension}; the spectral method has 2 and 3"
            )
        if self.nodes % 2:
            raise InputError(f"nodes: {self.nodes}; must be even")
        # at a spacing of 0.56 the aliases already spoil the sixth moment, at 0.5 by 4e-3
        if 2 * self.limit / self.nodes > 0.5 + 1e-12:
            raise InputError(
                f"nodes: {self.nodes} are too few for the unit temperature on "
                f"[-{self.limit}, {self.limit}]; use at least "
                f"{2 * math.ceil(2 * self.limit)}"
            )

    @property
    def reach(self) -> float:
        """R: relative speeds up to here; larger ones would wrap around the box."""
        return 4.0 * self.limit / (3.0 + math.sqrt(2.0))

    @property
    def weight(self) -> float:
        """Quadrature weight of a node."""
        return (2.0 * self.limit / self.nodes) ** self.dimension

    @cached_property
    def velocities(self) -> Tensor:
        """Nodes ``[N, .., N, D]``; v = 0 is one of them."""
        line = torch.arange(self.nodes, dtype=torch.float64) - self.nodes // 2
        line = line * (2.0 * self.limit / self.nodes)
        return torch.stack(torch.meshgrid(*[line] * self.dimension, indexing="ij"), -1)

    @cached_property
    def _waves(self) -> Tensor:
        line = (
            torch.fft.fftfreq(self.nodes, dtype=torch.float64)
            * math.pi
            * self.nodes
            / self.limit
        )
        return torch.stack(torch.meshgrid(*[line] * self.dimension, indexing="ij"), -1)

    @cached_property
    def _directions(self) -> tuple[Tensor, Tensor]:
        """Half a sphere of directions and their weights, which sum to half its area."""
        middle = torch.arange(self.angles, dtype=torch.float64) + 0.5
        phi = math.pi * middle / self.angles
        if self.dimension == 2:
            w = torch.stack([phi.cos(), phi.sin()], -1)
            return w, torch.full((self.angles,), math.pi / self.angles, dtype=torch.float64)
        phi = 2 * phi
        z, wz = np.polynomial.legendre.leggauss(max(self.angles // 2, 1))
        z, wz = torch.tensor(0.5 * (z + 1)), torch.tensor(0.5 * wz)
        flat = (1 - z * z).sqrt()[:, None]
        w = torch.stack(
            [flat * phi.cos(), flat * phi.sin(), z[:, None].expand(-1, len(phi))], -1
        )
        weights = wz[:, None] * torch.full((1, len(phi)), 2 * math.pi / self.angles)
        return w.reshape(-1, 3), weights.reshape(-1)

    @property
    def _area(self) -> float:
        """``|S|`` of the unit sphere."""
        return 2 * math.pi if self.dimension == 2 else 4 * math.pi

    @cached_property
    def _radial(self) -> tuple[Tensor, Tensor]:
        r, w = np.polynomial.legendre.leggauss(self.radii or self.nodes // 2)
        r, w = 0.5 * self.reach * (torch.tensor(r) + 1), 0.5 * self.reach * torch.tensor(w)
        return r, w * r ** (self.dimension - 1) * (1 / self._area)

    def _sphere(self, r: Tensor) -> Tensor:
        """Fourier transform of the sphere of radius r / 2, ``[N, .., N]``."""
        k = 0.5 * r * self._waves.square().sum(-1).sqrt()
        if self.dimension == 2:
            return 2 * math.pi * torch.special.bessel_j0(k)
        return 4 * math.pi * torch.sinc(k / math.pi)

    @cached_property
    def _shells(self) -> tuple[Tensor, Tensor]:
        """Weight times transformed sphere of each radius, and the loss's multiplier."""
        r, w = self._radial
        gains = torch.stack([b * self._sphere(a) for a, b in zip(r, w, strict=True)])
        losses = [self._area * b * self._sphere(2 * a) for a, b in zip(r, w, strict=True)]
        return gains, torch.stack(losses).sum(0)

    @cached_property
    def _copies(self) -> dict[torch.device, _Tables]:
        return {}

    def _on(self, device: torch.device) -> _Tables:
        """Return the tables on a device, copied there once."""
        if device not in self._copies:
            parts = (self.velocities, self._waves, *self._directions, self._radial[0])
            moved = (x.to(device) for x in (*parts, *self._shells))
            self._copies[device] = _Tables(*moved)
        return self._copies[device]

    def gain(self, f: Tensor) -> Tensor:
        """Return ``Q+`` of ``f [..., N, .., N]``."""
        flat = f.reshape(-1, *f.shape[-self.dimension :])
        step = max(1, CHUNK // (len(self._on(f.device).weights) * flat[0].numel()))
        return torch.cat([self._gain(g) for g in flat.split(step)]).reshape(f.shape)

    def _gain(self, f: Tensor) -> Tensor:
        space = tuple(range(-self.dimension, 0))
        spectrum = torch.fft.fftn(f.to(torch.complex128), dim=space)
        tables = self._on(f.device)
        along = torch.einsum("...d,md->m...", tables.waves, tables.directions)
        shape = (-1, *(1,) * self.dimension)
        total = torch.zeros_like(spectrum)
        for r, shell in zip(tables.radii, tables.gains, strict=True):
            phase = torch.exp(0.5j * r * along)
            # both shifted copies in one transform: real and imaginary part
            both = torch.fft.ifftn(
                spectrum[:, None] * (phase + 1j * phase.conj()), dim=space
            )
            pairs = 2.0 * (tables.weights.view(shape) * both.real * both.imag).sum(1)
            total += shell * torch.fft.fftn(pairs.to(spectrum.dtype), dim=space)
        return torch.fft.ifftn(total, dim=space).real

    def loss(self, f: Tensor) -> Tensor:
        """Return ``Q-``: f times its collision frequency, cut like the gain."""
        space = tuple(range(-self.dimension, 0))
        spectrum = torch.fft.fftn(f.to(torch.complex128), dim=space)
        return f * torch.fft.ifftn(spectrum * self._on(f.device).losses, dim=space).real

    def __call__(self, f: Tensor) -> Tensor:
        """Return ``Q(f, f)`` of ``f [..., N, .., N]``.

        Mass, momentum and energy of the result are zero to round-off.
        """
        q = self.gain(f) - self.loss(f)
        v = self._on(f.device).velocities
        basis = torch.cat(
            [torch.ones_like(v[..., :1]), v, v.square().sum(-1, keepdim=True)], -1
        )
        basis = basis.reshape(-1, self.dimension + 2)
        flat, weight = (x.flatten(-self.dimension) for x in (q, f.abs()))
        matrix = torch.einsum("...v,va,vb->...ab", weight, basis, basis)
        fix = torch.linalg.solve(matrix, (flat @ basis)[..., None])[..., 0]
        return (flat - weight * (fix @ basis.T)).reshape(f.shape)

    def moments(self, f: Tensor) -> dict[str, Tensor]:
        """Return density, temperature, ``<v^4>``, ``<v^6>`` and entropy, scalars."""
        v = self._on(f.device).velocities
        square = v.square().sum(-1)
        density = f.sum() * self.weight
        mean = (f[..., None] * v).reshape(-1, self.dimension).sum(0) * self.weight
        second = (f * square).sum() * self.weight
        t = (second / density - (mean / density).square().sum()) / self.dimension
        safe = f.clamp(min=1e-300)
        return {
            "density": density,
            "temperature": t,
            "fourth": (f * square**2).sum() * self.weight,
            "sixth": (f * square**3).sum() * self.weight,
            "entropy": -(safe * safe.log()).sum() * self.weight,
        }

    def step(self, f: Tensor, time_step: float) -> Tensor:
        """Advance ``df/dt = Q(f, f)`` by one step of the classical Runge-Kutta scheme."""
        a = self(f)
        b = self(f + 0.5 * time_step * a)
        c = self(f + 0.5 * time_step * b)
        d = self(f + time_step * c)
        return f + time_step / 6.0 * (a + 2 * b + 2 * c + d)


@dataclass(frozen=True)
class RelaxationState:
    """A distribution ``f [nodes, ...]`` of one gas without space; step and time."""

    f: Tensor
    step: Tensor
    time: Tensor


@dataclass(frozen=True)
class RelaxationWorld:
    """Molecules that collide, and nothing else. A ``Simulator``.

    Attributes:
        collision: the operator.
        time_step: fixed.
    """

    collision: Boltzmann
    time_step: float

    def init(self, rng: torch.Generator) -> RelaxationState:
        """Return the distribution of Bobylev, Krook and Wu at time 0."""
        square = self.collision.velocities.square().sum(-1)
        f = exact.bkw(self.collision.dimension, 0.0, square)
        time = torch.tensor(0.0, dtype=torch.float64)
        return RelaxationState(f, torch.tensor(0), time)

    def step(self, state: RelaxationState) -> RelaxationState:
        """Advance by ``time_step``."""
        f = self.collision.step(state.f, self.time_step)
        return RelaxationState(f, state.step + 1, state.time + self.time_step)

    def observe(self, state: RelaxationState) -> dict[str, Tensor]:
        """Return moments of the distribution."""
        return dict(self.collision.moments(state.f))


@dataclass(frozen=True)
class Relaxation:
    """A job: Maxwell molecules relax, against the exact solution of Bobylev, Krook, Wu.

    Attributes:
        dimension: 2 or 3.
        nodes: velocities per axis.
        limit: half width of the box.
        angles: of the quadrature.
        time_end: duration.
        time_step: of the Runge-Kutta scheme.
        frames: written, evenly in time.
        device: must be "cpu".
    """

    dimension: int
    nodes: int
    limit: float
    angles: int
    time_end: float
    time_step: float
    frames: int
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.device != "cpu":
            raise InputError("device: the relaxation runs on cpu")

    @property
    def world(self) -> "RelaxationWorld":
        """The gas, for a host program."""
        q = Boltzmann(self.dimension, self.nodes, self.limit, self.angles)
        frames = self.frames
        steps = max(1, math.ceil(self.time_end / self.time_step / frames)) * frames
        return RelaxationWorld(q, self.time_end / steps)

    def run(self, folder: Any, report: Any) -> Outcome:
        """Run, or go on from the newest checkpoint; figures are errors of moments."""
        world = self.world
        q, dt = world.collision, world.time_step
        steps = round(self.time_end / dt)
        every = steps // self.frames
        square = q.velocities.square().sum(-1)
        checkpoint = folder.load_checkpoint()
        f, step = exact.bkw(self.dimension, 0.0, square), 0
        rows = torch.zeros(self.frames + 1, 6, dtype=torch.float64)
        rows[0] = self._row(q, f, 0.0)
        if checkpoint is not None:
            kept, step = checkpoint.tensors, checkpoint.step
            f, rows = kept["f"], kept["rows"]
        while step < steps:
            f, step = q.step(f, dt), step + 1
            if step % every == 0:
                row = self._row(q, f, step * dt)
                rows[step // every] = row
                report.progress(step, steps, {"<v^4>": f"{float(row[3]):.4f}"})
                folder.log(step=step, time=step * dt, fourth=float(row[3]))
            if step % max(every, steps // 4) == 0:
                folder.save_checkpoint(step, {"f": f, "rows": rows})
        return self._finish(folder, q, f, rows)

    def _row(self, q: Boltzmann, f: Tensor, time: float) -> Tensor:
        m = q.moments(f)
        names = ("density", "temperature", "fourth", "sixth", "entropy")
        return torch.tensor([time, *(float(m[n]) for n in names)], dtype=torch.float64)

    def _finish(self, folder: Any, q: Boltzmann, f: Tensor, rows: Tensor) -> Outcome:
        exactly = torch.tensor(
            [exact.bkw_moments(self.dimension, float(t)) for t in rows[:, 0]]
        )
        columns = {
            "time": rows[:, 0],
            "fourth": rows[:, 3],
            "fourth_exact": exactly[:, 0],
            "sixth": rows[:, 4],
            "sixth_exact": exactly[:, 1],
        }
        units = {"time": "mean collision times", "fourth": "(R T0)^2", "sixth": "(R T0)^3"}
        _write(folder, "profile", "Moments of the distribution", columns, units)
        columns = {"time": rows[:, 0], "entropy": rows[:, 5]}
        _write(folder, "entropy", "Entropy", columns, units)
        title, units = "Distribution along one velocity", {"v": "sqrt(R T0)"}
        _write(folder, "cut", title, self._cut(q, f), units)
        errors = (rows[:, 3:5] / exactly - 1).abs().amax(0)
        drift = float((rows[:, 1:3] - rows[0, 1:3]).abs().amax())
        note = "relative, largest over time"
        figures = {
            "fourth_moment_error": Figure(float(errors[0]), note=note),
            "sixth_moment_error": Figure(float(errors[1]), note=note),
            "conservation_drift": Figure(
                drift, note="of density and temperature, largest over time"
            ),
        }
        fall = float((rows[:-1, 5] - rows[1:, 5]).amax())
        entropy = Check("entropy", "health", fall, 1e-12, note="largest fall in a frame")
        kept = Check("conservation", "health", drift, 1e-10)
        note = "fourth and sixth moment, of the exact solution, largest over time"
        moments = Check("moments", "accuracy", float(errors.max()), 1e-3, note=note)
        return Outcome(figures, (entropy, kept, moments))

    def _cut(self, q: Boltzmann, f: Tensor) -> dict[str, Tensor]:
        """The distribution through the middle of velocity space, at start and end."""
        square, middle = q.velocities.square().sum(-1), self.nodes // 2
        at = (slice(None), *(middle,) * (self.dimension - 1))
        columns = {"v": q.velocities[at][:, 0], "at_the_end": f[at]}
        for name, time in (("at_the_end_exact", self.time_end), ("at_the_start", 0.0)):
            columns[name] = exact.bkw(self.dimension, time, square)[at]
        return columns


NAMES = {"fourth": "mean of v^4", "sixth": "mean of v^6"}


def _write(
    folder: Any, name: str, title: str, columns: dict[str, Tensor], units: dict[str, str]
) -> None:
    group = folder.store.require_group(name)
    group.attrs["title"] = title
    for key, values in columns.items():
        write_array(group, key, values.double(), units.get(key, ""), NAMES.get(key, ""))
