r"""Euler and Navier-Stokes-Fourier equations in 1, 2 and 3 dimensions.

    d rho / dt + div(rho u) = 0
    d rho u / dt + div(rho u u + p I + sigma) = 0
    d E / dt + div((E + p) u + sigma . u + q) = 0

Euler has ``sigma = q = 0``. Navier-Stokes-Fourier takes, from the same
:class:`..material.Gas` as the kinetic solver, ``sigma = -mu (grad u + grad u^T - (2/D) div
u I)`` and ``q = -kappa grad T`` with ``mu = tau p``, ``kappa = (D + 2)/2 mu/Pr`` (first
order of Chapman and Enskog for BGK-type models), and at walls the first-order slip and jump
coefficients of BGK.

Space: first order, MUSCL or WENO5 (component-wise on density, velocity, pressure), HLLC.
With WENO5 and an ideal gas, means over cells and faces are those of the products, ``<fg> =
<f><g> + sum f' g'/12 + O(h^4)`` with ``f'`` the change over a smooth cell, where products
of means would be of second order (as Buchmueller, Helzel, J. Sci. Comput. 61, 2014, p. 343,
note): fifth order for what is carried at one velocity and pressure; else fourth, with so
small a remainder that 4.8 to 5 are measured. With solids, or another equation of state,
nonlinear flows are of second order.
Time: SSP-RK2 (first order, MUSCL) or SSP-RK3 (WENO5) (Shu, Osher 1988). The step is fixed
and checked against the Courant number at every report. Viscosity is part of these stages
where they are stable with it; with ``viscous_stages = s`` it acts in two half steps around
them (Strang), each of s stages of the super-time-stepping scheme RKL2, second order and
stable up to ``(s^2 + s - 2)/4`` explicit steps (Meyer, Balsara, Aslam, J. Comput. Phys.
257, 2014, p. 594, eq. 16 to 18).
"""

import math
import weakref
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from ...errors import GuardError, InputError
from ...kernels import fluxes as kernels
from ...runtime import few_threads, room
from ..boundaries import (
    End,
    Piece,
    Sides,
    beyond,
    check_components,
    component,
    ends_of,
    pieces_of,
)
from ..faces import AtFace, Value
from ..grid import Grid
from ..material import Gas
from ..observe import check_initial, entropy, extrema, watch
from ..solids import Body
from .solids import FluidSolids
from .state_equation import IdealGas

GHOST = kernels.GHOST
Scheme = Literal["first", "muscl", "weno5"]
_SCHEMES = {"first": kernels.FIRST_ORDER, "muscl": kernels.MUSCL, "weno5": kernels.WENO5}
_STAGES = {
    "first": ((0.0, 1.0), (0.5, 0.5)),
    "muscl": ((0.0, 1.0), (0.5, 0.5)),
    "weno5": ((0.0, 1.0), (0.75, 0.25), (1.0 / 3.0, 2.0 / 3.0)),
}
REMEDIES = {
    "weno5": "lower the time step (cfl), or take model.scheme = muscl",
    "muscl": "lower the time step (cfl), or take model.scheme = first",
    "first": "lower the time step (cfl), or start with less steep jumps: the scheme is the "
    "most robust one",
}
"""What can help where a scheme breaks down, which is not that scheme."""
OUTRUN = "lower model.cfl, or set time.cfl, which steps follow"
"""What helps where waves become faster than those of the start."""

VELOCITY_SLIP, TEMPERATURE_JUMP = 1.01619, 1.30272
"""BGK slip and jump coefficients, in units of ``mu sqrt(2 T) / p`` (Albertoni, Cercignani,
Gotusso, Phys. Fluids 6, 1963, p. 993; Cercignani 2000, ch. 7)."""


@dataclass(frozen=True)
class FluidState:
    """A batch of flows.

    Attributes:
        u: ``[batch, dim + 2, *padded]`` density, momentum, total energy per volume, with
            ghost cells at every end, which are zero between steps.
        positivity: ``[batch]`` faces, summed over all stages, where the reconstruction was
            not positive and the cell averages stood in.
        step: scalar int64.
        time: scalar f64.
    """

    u: Tensor
    positivity: Tensor
    step: Tensor
    time: Tensor


@dataclass(frozen=True)
class FluidWorld:
    """A fluid problem on a grid. Implements ``Simulator``.

    Attributes:
        grid: cells in space.
        sides: boundaries, one pair per axis.
        gas: D and the transport law.
        batch: independent problems.
        time_step: fixed step.
        scheme: "first", "muscl" or "weno5".
        knudsen: ``[batch]``; None for Euler.
        state_equation: any module like :class:`.state_equation.IdealGas`; None takes the
            ideal gas with the gamma of ``gas``.
        dtype: f64 or f32.
        device: cpu or cuda.
        viscous_stages: 0, or the stages of RKL2, at least 3: see :func:`stages_for`.
        body: solids in the flow, or None.

    Raises:
        InputError: a contradiction, before anything is computed.
    """

    grid: Grid
    sides: tuple[Sides, ...]
    gas: Gas
    batch: int
    time_step: float
    scheme: Scheme = "muscl"
    knudsen: Tensor | None = None
    state_equation: torch.nn.Module | None = None
    dtype: torch.dtype = torch.float64
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    viscous_stages: int = 0
    body: Body | None = None
    _shape: kernels.FluxShape = field(init=False, repr=False, compare=False)
    _ends: tuple[tuple[End, End] | None, ...] = field(init=False, repr=False, compare=False)
    _solids: FluidSolids | None = field(init=False, repr=False, compare=False, default=None)
    _scratch: dict = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ends", ends_of(self.sides, self.grid))
        self._check_ends()
        if self.scheme not in _SCHEMES:
            raise InputError(f"scheme: {self.scheme}; allowed are {', '.join(_SCHEMES)}")
        if not self.time_step > 0:
            raise InputError(f"time_step: {self.time_step}; must be positive")
        if self.viscous_stages and (self.viscous_stages < 3 or self.knudsen is None):
            raise InputError(
                f"viscous_stages: {self.viscous_stages}; 0, or at least 3 with a knudsen"
            )
        equation = self.state_equation
        gamma = equation.gamma if isinstance(equation, IdealGas) else self.gas.gamma
        if abs(gamma - self.gas.gamma) > 1e-9 and self.knudsen is not None:
            raise InputError(
                f"gamma: {gamma} contradicts D = {self.gas.dimension} velocity "
                f"dimensions, which have gamma = {self.gas.gamma:.6g}; change one of them"
            )
        if self.knudsen is not None:
            if self.gas.dimension < self.grid.dim:
                raise InputError("gas.dimension: fewer velocity than space dimensions")
            if len(self.knudsen) != self.batch or not bool((self.knudsen > 0).all()):
                raise InputError(f"knudsen: {self.batch} positive values needed")
            object.__setattr__(self, "knudsen", self.knudsen.to(self.device, self.dtype))
        if equation is None:
            object.__setattr__(self, "state_equation", IdealGas(self.gas.gamma))
        shape = kernels.FluxShape(self.batch, self.grid.shape, self._ideal, self.device)
        object.__setattr__(self, "_shape", shape)
        if self.body is not None:
            place = shape.padded, shape.pads, self.dtype, self.device
            object.__setattr__(self, "_solids", FluidSolids(self.body, *place))

    def _check_ends(self) -> None:
        """Refuse what these equations would ignore."""
        name = "model.kind = euler" if self.knudsen is None else "model.kind = nsf"
        check_components(self._ends, self.grid.dim, name)
        if self.knudsen is not None:
            return
        walls = [(piece.key, piece.wall) for _, piece in pieces_of(self._ends)]
        if self.body is not None:
            solids = enumerate(self.body.solids)
            walls += [(f"solids.{number}.wall", s.wall) for number, s in solids]
        for key_of, wall in walls:
            if wall is None:
                continue
            ignored = {"velocity": any(u != 0.0 for u in wall.velocity)}
            ignored["temperature"] = wall.temperature != 1.0
            for key in (k for k, is_said in ignored.items() if is_said):
                raise InputError(
                    f"{key_of}.{key}: {getattr(wall, key)}; gas slips along the walls "
                    f"of {name} without friction or heat; leave it out"
                )

    @property
    def _ideal(self) -> bool:
        return isinstance(self.state_equation, IdealGas)

    @property
    def _fine(self) -> bool:
        """Whether fluxes are of fourth order in every flow."""
        return self.scheme == "weno5" and self._ideal and self.body is None

    def with_time_step(self, time_step: float) -> "FluidWorld":
        """Return the same world with another step; buffers are shared."""
        if not time_step > 0:
            raise InputError(f"time_step: {time_step}; must be positive")
        other = copy(self)
        object.__setattr__(other, "time_step", time_step)
        return other

    def paced(self, state: FluidState, time_step: float) -> "FluidWorld":
        """Return the world of a step from ``state``, with the stages that it needs."""
        other = self.with_time_step(time_step)
        if self.knudsen is not None:
            rho, _, p = self.fields(state)
            kn = self.knudsen.view(-1, *(1,) * self.grid.dim)
            limit = viscous_limit(self.gas, self.grid, kn, rho, p / rho)
            stages = stages_for(time_step, 0.5 * limit)
            object.__setattr__(other, "viscous_stages", stages)
        return other

    # -- initial states ---------------------------------------------------------------

    def start(self, density: Tensor, velocity: Tensor, pressure: Tensor) -> FluidState:
        """Return the state of given fields.

        Args:
            density: ``[batch, *grid.shape]``.
            velocity: ``[batch, *grid.shape, dim]``.
            pressure: ``[batch, *grid.shape]``.

        Raises:
            InputError: density or pressure not positive, or a step that is too long.
        """
        check_initial(density=density, pressure=pressure)
        fields = (density, velocity, pressure)
        density, velocity, pressure = (x.to(self.device) for x in fields)
        e = self.state_equation.energy(density, pressure)  # type: ignore[union-attr,operator]
        momentum = density[..., None] * velocity
        total = e + 0.5 * (momentum * velocity).sum(-1)
        cells = torch.cat([density[:, None], momentum.movedim(-1, 1), total[:, None]], 1)
        cells = cells.to(self.device, self.dtype)
        u = cells.new_zeros(*cells.shape[:2], *self._shape.padded)
        self.inside(u)[...] = cells
        self._hold(u, momentum=True)
        time = torch.tensor(0.0, dtype=torch.float64)
        state = FluidState(u, u.new_zeros(self.batch), torch.tensor(0), time)
        courant = float(self.courant(state).amax())
        if courant > 1.0:
            raise InputError(
                f"time_step: {self.time_step} means a CFL of {courant:.3g}, over 1; "
                f"at most {self.time_step / courant:.3g}"
            )
        self._check_viscous(density, pressure)
        return state

    def equilibrium(
        self, density: Tensor, velocity: Tensor, temperature: Tensor
    ) -> FluidState:
        """Return the state of density, velocity and temperature, as :meth:`start`."""
        u = velocity[..., : self.grid.dim]
        return self.start(density, u, density * temperature)

    def stable_step(self, state: FluidState, cfl: float = 0.3) -> float:
        """Return the step of a Courant number for a state; viscosity is left out."""
        return cfl * self.time_step / float(self.courant(state).amax())

    def _check_viscous(self, density: Tensor, pressure: Tensor) -> None:
        if self.knudsen is None:
            return
        kn = self.knudsen.view(-1, *(1,) * self.grid.dim)
        limit = viscous_limit(self.gas, self.grid, kn, density, pressure / density)
        if self.time_step > limit * _stretch(self.viscous_stages):
            raise InputError(
                f"time_step: {self.time_step:.3g} is too long for the viscosity at Knudsen "
                f"number {float(self.knudsen.amax()):.3g}; at most {limit:.3g}, or "
                f"viscous_stages of at least {stages_for(self.time_step, limit)}"
            )

    def init(self, rng: torch.Generator) -> FluidState:
        """Return the gas at rest with unit density and temperature."""
        one = torch.ones(self.batch, *self.grid.shape, dtype=torch.float64)
        return self.start(one, torch.zeros(*one.shape, self.grid.dim), one)

    def inside(self, padded: Tensor) -> Tensor:
        """Return the view without ghost cells of ``[batch, variables, *padded]``."""
        for axis, (low, n) in enumerate(
            zip(self._shape.pads, self.grid.shape, strict=True)
        ):
            padded = padded.narrow(2 + axis, low, n)
        return padded

    # -- time -------------------------------------------------------------------------

    def step(self, state: FluidState) -> FluidState:
        """Advance by ``time_step``.

        Raises:
            GuardError: density or pressure not positive; names cell and step.
        """
        with few_threads(state.u.numel()):
            return self._step(state)

    def _step(self, state: FluidState) -> FluidState:
        w, extra, flux = self._buffers(state.u)
        positivity = state.positivity.clone()
        old, stages, now = state.u, _STAGES[self.scheme], float(state.time)
        if self.viscous_stages:
            old = self._diffuse(old, 0.5 * self.time_step, now)
        u = old
        for number, weights in enumerate(stages):
            self._primitive(u, w, extra, now)
            last = number == len(stages) - 1
            out = room(u, *u.shape) if last else self._stage(number, u)
            scheme, par = _SCHEMES[self.scheme], self._flux_par()
            cells = self._means(w, now, par) if self._fine else w
            self._shape.flux(scheme, cells, extra, flux, positivity, par, self._fine)
            if self._solids is not None:
                self._solids.put(flux, self._at_solids(w))
            if self.knudsen is not None and not self.viscous_stages:
                self._add_viscous(w, flux, now)
            self._shape.update(old, u, out, w, flux, self._update_par(weights))
            u = out
            self._hold(u, momentum=True)
            self._note(u)
        if self.viscous_stages:
            u = self._diffuse(u, 0.5 * self.time_step, now + 0.5 * self.time_step)
            self._hold(u, momentum=True)
            self._primitive(u, w, extra, now)
        after = FluidState(u, positivity, state.step + 1, state.time + self.time_step)
        if self._ideal:
            fields = self.inside(w)
            rho, p = fields[:, 0], fields[:, -1]
            watch(self.inside(u), rho, p, self.remedy, after)
        return after

    @property
    def remedy(self) -> str:
        """What can help where the scheme breaks down."""
        return REMEDIES[self.scheme]

    def _buffers(self, u: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        if "w" not in self._scratch:
            extra = u.new_zeros(0) if self._ideal else torch.zeros_like(u[:, :2])
            self._scratch["w"] = torch.zeros_like(u)
            self._scratch["extra"] = extra
            self._scratch["flux"] = [torch.zeros_like(u) for _ in range(self.grid.dim)]
        s = self._scratch
        return s["w"], s["extra"], s["flux"]

    def _stage(self, number: int, u: Tensor) -> Tensor:
        key = f"stage{number}"
        if key not in self._scratch:
            self._scratch[key] = torch.empty_like(u)
        return self._scratch[key]

    def _flux_par(self) -> Tensor:
        if "flux_par" not in self._scratch:
            gamma = getattr(self.state_equation, "gamma", 1.4)
            tiny, least = (1e-40, 0.0) if self.dtype == torch.float64 else (1e-30, 1e-15)
            weno = (1 / 6, 13 / 12, 0.25, 0.1, 0.3, 0.6, 1 / 12, least, 41 / 60, 11 / 120)
            self._scratch["flux_par"] = torch.tensor(
                [0.5, gamma, 1 / (gamma - 1), tiny, *weno],
                dtype=self.dtype,
                device=self.device,
            )
        return self._scratch["flux_par"]

    def _update_par(self, weights: tuple[float, float]) -> Tensor:
        key = ("update", weights)
        made, par = self._scratch.get(key, (0.0, None))
        if made != self.time_step:
            ratios = [self.time_step / h for h in (*self.grid.spacing, 1.0, 1.0)][:3]
            gamma = getattr(self.state_equation, "gamma", 1.4)
            values = [*weights, *ratios, gamma - 1.0, 0.5]
            par = torch.tensor(values, dtype=self.dtype, device=self.device)
            self._scratch[key] = self.time_step, par
        return par

    def _note(self, u: Tensor) -> None:
        """Note that the scratch holds density, velocity and pressure of a state."""
        known = self._ideal and not u.is_inference()
        self._scratch["of"] = (weakref.ref(u), u._version) if known else None

    def _is_noted(self, u: Tensor, w: Tensor) -> bool:
        """Whether ``w`` is the scratch and still holds what :meth:`_note` noted."""
        noted = self._scratch.get("of")
        if noted is None or w is not self._scratch["w"]:
            return False
        return noted[0]() is u and noted[1] == u._version

    def _primitive(self, u: Tensor, w: Tensor, extra: Tensor, time: float) -> None:
        """Fill w (density, velocity, pressure) with its ghost cells."""
        if self._ideal and not self._is_noted(u, w):
            self._shape.primitive(u, w, self._update_par((1.0, 0.0)))
            self._scratch.pop("of", None)
        elif not self._ideal:
            inside, cells = self.inside(u), self.inside(w)
            cells[:, 0] = inside[:, 0]
            cells[:, 1:-1] = inside[:, 1:-1] / inside[:, :1]
            kinetic = 0.5 * (inside[:, 1:-1] * cells[:, 1:-1]).sum(1)
            e = inside[:, -1] - kinetic
            cells[:, -1] = self.state_equation.pressure(inside[:, 0], e)  # type: ignore[union-attr,operator]
        self._hold(w)  # before the ghost cells, which mirror some of them
        self._fill(w, time)
        if not self._ideal:
            equation = self.state_equation
            e = equation.energy(w[:, 0], w[:, -1])  # type: ignore[union-attr,operator]
            extra[:, 0] = e
            extra[:, 1] = equation.sound_speed(w[:, 0], e)  # type: ignore[union-attr,operator]

    def _means(self, w: Tensor, time: float, par: Tensor) -> Tensor:
        """Return mean density, velocity and pressure; ``w`` is that of the mean state."""
        if "means" not in self._scratch:
            self._scratch["means"] = torch.zeros_like(w)
        means = self._scratch["means"]
        self._shape.means(w, means, par)
        self._fill(means, time)
        return means

    # -- solids -----------------------------------------------------------------------

    def _hold(self, fields: Tensor, momentum: bool = False) -> None:
        """Put a gas at rest in solid cells, which no cell of gas reads.

        Args:
            fields: density, velocity, pressure; or the state.
            momentum: whether it is the state.
        """
        if self._solids is None or self.body is None:
            return
        if "still" not in self._scratch:
            rho, p = self.body.density, self.body.density * self.body.temperature
            one = torch.tensor([rho, p], dtype=torch.float64, device=self.device)
            energy = self.state_equation.energy(one[0], one[1])  # type: ignore[union-attr,operator]
            rest = (0.0,) * self.grid.dim
            self._scratch["still"] = [(rho, *rest, p), (rho, *rest, float(energy))]
        self._solids.hold(fields, self._scratch["still"][momentum])

    def _at_solids(self, w: Tensor) -> list[Tensor]:
        """Return the inviscid fluxes at the faces of the cuts and behind them."""
        assert self._solids is not None
        return self._solids.fluxes(w, self.scheme == "first", self.state_equation)

    def _loads(self, state: FluidState) -> dict[str, Tensor]:
        """Return the force on solids and the heat that they take."""
        if self._solids is None:
            return {}
        w = torch.zeros_like(state.u)
        extra = state.u.new_zeros(0) if self._ideal else torch.zeros_like(state.u[:, :2])
        time = float(state.time)
        self._primitive(state.u, w, extra, time)
        flux = [torch.zeros_like(state.u) for _ in range(self.grid.dim)]
        self._solids.put(flux, self._at_solids(w))
        if self.knudsen is not None:
            self._add_viscous(w, flux, time)
        return self._solids.loads(self._solids.take(flux))

    # -- boundaries -------------------------------------------------------------------

    def _fill(self, w: Tensor, time: float) -> None:
        """Fill the ghost cells of the primitive fields, axis after axis."""
        for axis, pair in enumerate(self._ends):
            n, at, first = self.grid.shape[axis], 2 + axis, self._shape.pads[axis]
            end = first + n
            if pair is None:
                cells = w.unfold(at, GHOST, 1)
                cells.select(at, first - GHOST).copy_(cells.select(at, end - GHOST))
                cells.select(at, end).copy_(cells.select(at, first))
                continue
            for piece in pair[0].pieces:
                self._fill_piece(w, pair[0], piece, first, -1, time)
            for piece in pair[1].pieces:
                self._fill_piece(w, pair[1], piece, end - 1, 1, time)

    def _fill_piece(
        self, w: Tensor, end: End, piece: Piece, edge: int, step: int, time: float
    ) -> None:
        """Fill the ghost layers of a piece: ``edge`` is the last cell, ``step`` outwards.

        A boundary that knows its place is asked for the cells of the face alone; those
        beyond its edges are then filled with the nearest.
        """
        axis, at = end.face.axis, AtFace(self, end.face, time)
        ghost = w.select(2 + axis, edge)
        if piece.wall is None and piece.alike:
            ghost = beyond(piece, at, ghost)
        elif piece.wall is None:
            ghost = self._across(beyond(piece, at, self._of_face(w, axis, edge)), axis)
        for k in range(GHOST):
            to = w.select(2 + axis, edge + step * (k + 1))
            if piece.wall is not None:
                ghost = w.select(2 + axis, edge - step * k).clone()
                ghost[:, 1 + axis] *= -1.0
            mask = piece.mask
            if mask is None:
                to[...] = ghost
            else:
                mask = self._across(mask.to(w.device)[None, None], axis)
                to[...] = torch.where(mask, ghost, to)

    def _of_face(self, w: Tensor, axis: int, place: int) -> Tensor:
        """Return the layer at a place along an axis, cells of the face only."""
        out = w.select(2 + axis, place)
        others = [d for d in range(self.grid.dim) if d != axis]
        for at, d in enumerate(others):
            out = out.narrow(2 + at, self._shape.pads[d], self.grid.shape[d])
        return out

    def _across(self, face: Tensor, axis: int) -> Tensor:
        """Return ``[..., *face]`` with the nearest of its cells beyond its edges."""
        others = [d for d in range(self.grid.dim) if d != axis]
        for at, d in enumerate(others):
            low, n = self._shape.pads[d], self.grid.shape[d]
            places = torch.arange(-low, self._shape.padded[d] - low, device=face.device)
            near = places % n if self._ends[d] is None else places.clamp(0, n - 1)
            face = face.index_select(2 + at, near)
        return face

    def gas_at(self, edge: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return density, velocity and temperature of the cells at a face."""
        return edge[:, 0], edge[:, 1:-1].movedim(1, -1), edge[:, -1] / edge[:, 0]

    def sound_speed(self, density: Tensor, temperature: Tensor) -> Tensor:
        """Return the speed of sound."""
        equation: Any = self.state_equation
        energy = equation.energy(density, density * temperature)
        return equation.sound_speed(density, energy)

    def reservoir(self, density: Tensor, velocity: Tensor, temperature: Tensor) -> Tensor:
        """Return what cells beyond a face hold: density, velocity, pressure."""
        missing = max(0, self.grid.dim - velocity.shape[-1])
        u = torch.nn.functional.pad(velocity, (0, missing))[..., : self.grid.dim]
        fields = (density, *u.unbind(-1), density * temperature)
        return torch.stack(fields, 1)

    # -- viscosity --------------------------------------------------------------------

    def _diffuse(self, u: Tensor, duration: float, time: float) -> Tensor:
        """Return u after viscosity and conduction alone: one step of RKL2."""
        s = self.viscous_stages
        weight = 4.0 / (s * s + s - 2)
        b = [1 / 3, 1 / 3, *((j * j + j - 2) / (2 * j * (j + 1)) for j in range(2, s + 1))]
        start = u.clone()
        first = self._viscous_rate(start, time) * (duration * weight)
        before, now = start, start.clone()
        self.inside(now).add_(first, alpha=b[1])
        for j in range(2, s + 1):
            mu = (2 * j - 1) / j * b[j] / b[j - 1]
            nu = (1 - j) / j * b[j] / b[j - 2]
            after = mu * now + nu * before + (1 - mu - nu) * start
            rate = self._viscous_rate(now, time) * (duration * weight)
            rate = rate - (1 - b[j - 1]) * first
            self.inside(after).add_(rate, alpha=mu)
            before, now = now, after
        return now

    def _viscous_rate(self, u: Tensor, time: float) -> Tensor:
        """Return ``du/dt`` of the cells from stress and heat flux alone."""
        w, extra, flux = self._buffers(u)
        self._primitive(u, w, extra, time)
        rate: Tensor | float = 0.0
        for f in flux:
            f.zero_()
        self._add_viscous(w, flux, time)
        for axis, f in enumerate(flux):
            low = self.inside(torch.roll(f, 1, 2 + axis))
            rate = rate - (self.inside(f) - low) / self.grid.spacing[axis]
        assert isinstance(rate, Tensor)
        return rate

    def _add_viscous(self, w: Tensor, flux: list[Tensor], time: float) -> None:
        """Add the viscous stress and the heat flux to the faces."""
        dim = self.grid.dim
        fields, wall = self._flow(w, time)
        changes = [self._central(fields, wall, along) for along in range(dim)]
        kn = self.knudsen.view(-1, *(1,) * dim)  # type: ignore[union-attr]
        t = fields[:, -1].clamp(min=1e-12)
        mu_cells = self.gas.viscosity(kn, w[:, 0].clamp(min=1e-12), t)
        passing = None if self._solids is None else self._solids.take(flux)
        for axis in range(dim):
            mu = _on_faces(mu_cells, axis, 1)
            at_face = _on_faces(fields, axis, 2)
            d = [_on_faces(change, axis, 2) for change in changes]
            d[axis] = torch.diff(fields, dim=2 + axis) / self.grid.spacing[axis]
            target = flux[axis].narrow(2 + axis, 0, flux[axis].shape[2 + axis] - 1)
            target[:, 1:] += self._viscous(mu, d, at_face, axis)
        if self._solids is not None and wall is not None and passing is not None:
            # solid cells have no part in what passes the faces of the cuts
            d = [self._solids.of_cells(change) for change in changes]
            mu = self._solids.of_cells(mu_cells[:, None])[:, 0]
            values, slope = self._solids.at_face(fields, wall)
            for axis, on in enumerate(self._solids.on):
                own = [x[:, :, on] for x in d]
                own[axis] = slope[:, :, on]
                passing[:, 1:, on] += self._viscous(mu[:, on], own, values[:, :, on], axis)
            self._solids.replace(flux, passing)

    def _viscous(
        self, mu: Tensor, d: Sequence[Tensor], values: Tensor, axis: int
    ) -> Tensor:
        """Return viscous fluxes of momentum and energy, ``[batch, dim + 1, ...]``.

        Args:
            mu: viscosity, ``[batch, ...]``.
            d: derivatives of velocity and temperature along each axis.
            values: velocity and temperature.
            axis: across the faces.
        """
        dim, D = self.grid.dim, self.gas.dimension
        divergence = sum(d[k][:, k] for k in range(dim))
        stress = []
        for k in range(dim):
            shear = d[axis][:, k] + d[k][:, axis]
            if k == axis:
                shear = shear - (2.0 / D) * divergence
            stress.append(-mu * shear)
        work = sum(s * values[:, k] for k, s in enumerate(stress))
        prandtl = self.gas.prandtl_at(values[:, -1])
        heat = 0.5 * (D + 2) / prandtl * mu * d[axis][:, -1]
        return torch.stack([*stress, work - heat], 1)

    def _flow(self, w: Tensor, time: float) -> tuple[Tensor, Tensor | None]:
        """Return velocity and temperature with ghost cells, and those at solids."""
        dim = self.grid.dim
        fields = torch.cat([w[:, 1 : 1 + dim], (w[:, -1] / w[:, 0])[:, None]], 1)
        self._fill_walls(fields, w, time)
        if self._solids is None:
            return fields, None
        slips = VELOCITY_SLIP, TEMPERATURE_JUMP
        return fields, self._solids.wall(fields, w, self.gas, self.knudsen, slips)  # type: ignore[arg-type]

    def _central(self, fields: Tensor, wall: Tensor | None, along: int) -> Tensor:
        """Return derivatives in cells, along an axis."""
        change = torch.roll(fields, -1, 2 + along) - torch.roll(fields, 1, 2 + along)
        change = change * 0.5
        if self._solids is not None and wall is not None:
            self._solids.central(change, fields, wall, along)
        return change / self.grid.spacing[along]

    def _fill_walls(self, fields: Tensor, w: Tensor, time: float) -> None:
        """Set the first ghost cell of velocity and temperature: slip and jump."""
        for axis, pair in enumerate(self._ends):
            first = self._shape.pads[axis]
            last = first + self.grid.shape[axis] - 1
            for end, edge, step in zip(pair or (), (first, last), (-1, 1), strict=False):
                for piece in end.pieces:
                    if piece.wall is not None and piece.wall.accommodation > 0.0:
                        self._fill_wall(fields, w, end, piece, edge, step, time)

    def _fill_wall(
        self, fields: Tensor, w: Tensor, end: End, piece: Piece, edge: int, step: int,
        time: float,
    ) -> None:  # fmt: skip
        axis, dim = end.face.axis, self.grid.dim
        near = w.select(2 + axis, edge)
        wall = end.wall_at(piece, time, w)
        t = (near[:, -1] / near[:, 0]).clamp(min=1e-12)
        kn = self.knudsen.view(-1, *(1,) * (dim - 1))  # type: ignore[union-attr]
        tau = self.gas.relaxation_time(kn, near[:, 0].clamp(min=1e-12), t)
        share, h = wall.accommodation, self.grid.spacing[axis]
        reach = (2.0 - share) / share * tau * (2 * t).sqrt()
        to, source = fields.select(2 + axis, edge + step), fields.select(2 + axis, edge)

        def put(place: int, value: Any, far: Tensor) -> None:
            if isinstance(value, Tensor):
                value = self._across(value[None, None], axis)[0]
            ghost = _robin(source[:, place], value, far)
            if piece.mask is not None:
                mask = self._across(piece.mask.to(w.device)[None, None], axis)[0]
                ghost = torch.where(mask, ghost, to[:, place])
            to[:, place] = ghost

        for k in range(dim):
            if k != axis:
                put(k, component(wall.velocity, k), VELOCITY_SLIP * reach / h)
        jump = TEMPERATURE_JUMP * reach / self.gas.prandtl_at(t) / h
        put(dim, wall.temperature, jump)

    # -- observations -----------------------------------------------------------------

    def courant(self, state: FluidState) -> Tensor:
        """Return the Courant number ``dt max sum (|u_d| + c) / dx_d``, ``[batch]``."""
        rho, u, p = self.fields(state)
        e = self.state_equation.energy(rho, p)  # type: ignore[union-attr,operator]
        c = self.state_equation.sound_speed(rho, e)  # type: ignore[union-attr,operator]
        rate = sum((u[..., d].abs() + c) / h for d, h in enumerate(self.grid.spacing))
        return self.time_step * rate.flatten(1).amax(1)  # type: ignore[union-attr]

    def fields(self, state: FluidState) -> tuple[Tensor, Tensor, Tensor]:
        """Return density, velocity ``[..., dim]`` and pressure of the cells."""
        inside = self.inside(state.u)
        rho, velocity = inside[:, 0], (inside[:, 1:-1] / inside[:, :1]).movedim(1, -1)
        e = inside[:, -1] - 0.5 * (inside[:, 1:-1].movedim(1, -1) * velocity).sum(-1)
        return rho, velocity, self.state_equation.pressure(rho, e)  # type: ignore[union-attr,operator]

    def observe(self, state: FluidState) -> dict[str, Tensor]:
        """Return the names of :mod:`..observe`; ``positivity`` counts repaired faces."""
        rho, u, p = self.fields(state)
        dim, inside, volume = self.grid.dim, self.inside(state.u), self.grid.volume
        space = tuple(range(2, 2 + dim))
        gas = inside if self.body is None else self.body.gas(inside.movedim(1, -1))
        gas = inside if self.body is None else gas.movedim(-1, 1)
        totals = gas.sum(space) * volume
        temperature = p / rho
        stress = torch.zeros(*rho.shape, dim, dim, dtype=rho.dtype, device=rho.device)
        heat = torch.zeros_like(u)
        if self.knudsen is not None:
            stress, heat = self._centred_transport(state, rho, temperature)
        clipped = sum(extrema(rho, 1 + axis) for axis in range(dim)) / dim
        return {
            "density": rho,
            "velocity": u,
            "temperature": temperature,
            "stress": stress,
            "heat_flux": heat,
            "entropy": entropy(rho, temperature, self.gas.dimension),
            "mass": totals[:, 0],
            "momentum": totals[:, 1:-1],
            "energy": totals[:, -1],
            "courant": self.courant(state),
            "limiter_activity": clipped,  # type: ignore[dict-item]
            "positivity": state.positivity,
            **self._loads(state),
        }

    def _centred_transport(
        self, state: FluidState, rho: Tensor, temperature: Tensor
    ) -> tuple[Tensor, Tensor]:
        w = torch.zeros_like(state.u)
        time = float(state.time)
        self._primitive(state.u, w, state.u.new_zeros(0), time)
        dim = self.grid.dim
        fields, wall = self._flow(w, time)
        kn = self.knudsen.view(-1, *(1,) * dim)  # type: ignore[union-attr]
        mu = self.gas.viscosity(kn, rho, temperature)
        g = [self.inside(self._central(fields, wall, axis)) for axis in range(dim)]
        gradient = torch.stack(g, 2).movedim((1, 2), (-2, -1))
        velocity = gradient[..., :dim, :]
        trace = velocity.diagonal(dim1=-2, dim2=-1).sum(-1)
        eye = torch.eye(dim, dtype=mu.dtype, device=mu.device)
        spherical = (2.0 / self.gas.dimension) * trace[..., None, None] * eye
        stress = velocity + velocity.mT - spherical
        heat = 0.5 * (self.gas.dimension + 2) / self.gas.prandtl_at(temperature)
        kappa = heat * mu
        return -mu[..., None, None] * stress, -kappa[..., None] * gradient[..., dim, :]


def stages_for(time_step: float, limit: float) -> int:
    """Return the fewest stages of RKL2 for which a step of the fluid is stable.

    Args:
        time_step: of the fluid; viscosity takes two halves of it.
        limit: longest stable explicit step of the viscosity.

    Returns:
        0 where the explicit scheme will do, else an odd number from 3 on.
    """
    if time_step <= limit:
        return 0
    stages = int(math.sqrt(2.25 + 2.0 * time_step / limit) - 0.5) + 1
    return max(3, stages + 1 - stages % 2)


def viscous_limit(gas: Gas, grid: Grid, kn: Tensor, rho: Tensor, t: Tensor) -> float:
    """Return the longest stable explicit step of viscosity and conduction."""
    factor = max(2.0, (gas.dimension + 2) / gas.dimension / gas.prandtl_ends[0])
    diffusivity = float((factor * gas.relaxation_time(kn, rho, t) * t).amax())
    return 0.5 / (diffusivity * sum(1 / h**2 for h in grid.spacing))


def _stretch(stages: int) -> float:
    """Longest stable step over the explicit one: two halves of ``(s^2 + s - 2)/4`` each."""
    return 0.5 * (stages * stages + stages - 2) if stages else 1.0


def courant_guard(step: int, state: object, observed: dict[str, Tensor]) -> None:
    """Stop when waves outrun the fixed step (a guard of the advance loop).

    Raises:
        GuardError: Courant number above 1.
    """
    courant = float(observed["courant"].amax())
    if courant > 1.0:
        raise GuardError(f"CFL {courant:.3g} at step {step}; {OUTRUN}", step, state)


def _on_faces(x: Tensor, axis: int, lead: int) -> Tensor:
    n = x.shape[lead + axis]
    return 0.5 * (x.narrow(lead + axis, 0, n - 1) + x.narrow(lead + axis, 1, n - 1))


def _robin(inner: Tensor, wall: Value, reach: Tensor) -> Tensor:
    """Ghost value with ``(ghost + inner)/2 = wall + reach (inner - ghost)``."""
    return (2.0 * wall - inner * (1.0 - 2.0 * reach)) / (1.0 + 2.0 * reach)
