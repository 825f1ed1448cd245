"""The kinetic equation with a BGK-type collision term, by discrete velocities.

    df/dt + v . grad f = (G[f] - f) / tau,      tau = mu / p  (:class:`..material.Gas`)

with G the Maxwellian (BGK), an anisotropic Gaussian (ES-BGK, Holway 1966) or Shakhov's
polynomial times the Maxwellian (Shakhov 1968), on discrete equilibria that conserve mass,
momentum and energy to round-off.

Time: IMEX ARS(2,2,2) (Ascher, Ruuth, Spiteri, Appl. Numer. Math. 25, 1997, p. 151),
L-stable and asymptotic-preserving: ``dt`` is bound by advection alone, at any Knudsen
number. Space: MUSCL with van Leer's limiter, second order.

As a label generator::

    gas = Gas.constant_time(dimension=1)                      # tau = Kn
    world = KineticWorld(
        grid=Grid((200,), (-0.5,), (0.5,)), sides=(ALL_PERIODIC,),
        velocities=Velocities.symmetric(1, 100, 8.0), gas=gas,
        knudsen=torch.logspace(-3, 1, 64),                    # one per problem
    )
    state = world.equilibrium(rho, u[..., None], T)           # [64, 200]; or world.start(f)
    state = world.advance(state, steps)                       # two copies of f, no more
    raw = world.raw_moments(state, 10)                        # [64, 200, 11]
    f6 = world.hermite_moments(state, 10)                     # [64, 200, 11], own frame

``world.time_step`` is the largest stable step for the chosen ``cfl``;
``world.with_time_step(t_end / n)`` hits a time exactly.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from ...errors import InputError
from ...kernels import transport
from ...kernels.types import aligned
from ..boundaries import (
    End,
    Sides,
    check_components,
    component,
    ends_of,
    pieces_of,
)
from ..grid import Grid
from ..material import Gas
from ..observe import check_initial, refuse_unphysical, unphysical
from ..scheme.finite_volume import DELTA, GAMMA
from ..solids import Body
from .equilibrium import CHUNK, maxwellian, near_equilibrium
from .scheme import Ghosts, Layout, layout
from .solids import SolidWalls, neighbours_with_cuts
from .velocities import Velocities

Model = Literal["bgk", "es", "shakhov"]
_LAWS = {
    "bgk": transport.BGK,
    "es": transport.ELLIPSOIDAL,
    "shakhov": transport.SHAKHOV_MODEL,
}

REMEDY = "lower the cfl, refine the grid, or widen the velocity range"


@dataclass(frozen=True)
class KineticState:
    """A batch of distributions.

    Attributes:
        f: ``[batch, parts, rows, nodes]``; rows are the cells, then ghost cells, which
            are zero between steps. ``parts`` is 1, or 2 for g and h (Chu).
        step: scalar int64, steps made.
        time: scalar f64.
    """

    f: Tensor
    step: Tensor
    time: Tensor


@dataclass(frozen=True)
class KineticWorld:
    """A kinetic problem on a grid; see the module's text. Implements ``Simulator``.

    Attributes:
        grid: cells in space.
        sides: boundaries, one pair per axis.
        velocities: nodes; V axes, at least as many as space dimensions.
        gas: D, transport law, Prandtl number. ``D > V`` reduces the other directions.
        knudsen: ``[batch]``, or ``[batch, *grid.shape]`` where it varies in space.
        model: "bgk", "es" (ES-BGK) or "shakhov".
        cfl: advective Courant number, at most 0.5 for a positive second-order scheme.
        dtype: f64 or f32.
        device: cpu or cuda.
        in_place: ``step`` may overwrite the state it is given; the run then holds two
            copies of f instead of three.
        body: solids in the flow, or None.

    Raises:
        InputError: a contradiction, before anything is computed.
    """

    grid: Grid
    sides: tuple[Sides, ...]
    velocities: Velocities
    gas: Gas
    knudsen: Tensor
    model: Model = "bgk"
    cfl: float = 0.45
    dtype: torch.dtype = torch.float64
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    in_place: bool = False
    time_step: float = 0.0
    body: Body | None = None
    _ends: tuple[tuple[End, End] | None, ...] = field(init=False, repr=False, compare=False)
    _layout: Layout = field(init=False, repr=False, compare=False)
    _ghosts: Ghosts = field(init=False, repr=False, compare=False)
    _walls: SolidWalls | None = field(init=False, repr=False, compare=False, default=None)
    _scratch: dict = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "_ends", ends_of(self.sides, self.grid))
        self._check()
        D, V = self.gas.dimension, self.velocities.axes
        parts = 2 if D > V else 1
        box, kind = (self.grid, self.sides, self.velocities), (self.dtype, self.device)
        laid = layout(*box, parts, _LAWS[self.model], *kind)
        if self.body is not None:
            put(self, "_walls", SolidWalls(self.body, self.velocities, D, parts, *kind))
            table = neighbours_with_cuts(laid.neighbours, self.body, laid.rows)
            rows = laid.rows + len(self.body.cuts.cell)
            laid = replace(laid, neighbours=table, rows=rows)
        put(self, "_layout", laid)
        put(self, "_ghosts", Ghosts(self.grid, self._ends, self.velocities, D, *kind))
        put(self, "knudsen", self.knudsen.to(self.device, self.dtype))
        if self.time_step == 0.0:
            put(self, "time_step", self.cfl / self._rate())

    def _check(self) -> None:
        V, D = self.velocities.axes, self.gas.dimension
        if not self.grid.dim <= V <= D:
            raise InputError(
                f"velocities: {V} axes; need at least the {self.grid.dim} of space and at "
                f"most the gas's dimension {D}"
            )
        if not 0.0 < self.cfl <= 0.5:
            raise InputError(f"cfl: {self.cfl}; allowed is 0 to 0.5 (second-order upwind)")
        if self.time_step * self._rate() > 0.5 + 1e-9:
            raise InputError(
                f"time_step: {self.time_step} means a CFL of "
                f"{self.time_step * self._rate():.3g}, over 0.5; "
                f"at most {0.5 / self._rate():.4g}"
            )
        if not bool((self.knudsen > 0).all()):
            raise InputError("knudsen: must be positive everywhere")
        if self.knudsen.dim() != 1 and self.knudsen.shape[1:] != self.grid.shape:
            raise InputError(
                f"knudsen: shape {tuple(self.knudsen.shape)}; [batch] or [batch, *cells]"
            )
        if self.model == "bgk" and self.gas.prandtl_ends != (1.0, 1.0):
            raise InputError(
                f"gas.prandtl: {self.gas.prandtl:g}; BGK has Prandtl number 1, choose "
                "model es or shakhov"
            )
        if self.model == "es" and D == 1:
            raise InputError("model: es needs a gas of at least 2 dimensions; use shakhov")
        least = self.gas.prandtl_ends[0]
        if self.model == "es" and least < (D - 1) / D - 1e-6:
            raise InputError(
                f"gas.prandtl: {least:.5g}; ES-BGK is realisable from {D - 1}/{D} on; set "
                f"prandtl = {(D - 1) / D:.6f}, or choose shakhov"
            )
        check_components(self._ends, V, "model.nodes")
        self.check_ends(0.0)

    def check_ends(self, time: float) -> None:
        """Refuse walls and reservoirs that the nodes cannot hold.

        Raises:
            InputError: names the key, and what would do.
        """
        for end, piece in pieces_of(self._ends):
            side = piece.wall or piece.side
            if not hasattr(side, "temperature"):
                continue
            velocity = getattr(side, "velocity", ())
            names = [component(velocity, d) for d in range(self.velocities.axes)]
            values = [end.face.value(q, time) for q in (*names, side.temperature)]
            rows = [torch.as_tensor(v, dtype=torch.float64) for v in values]
            *u, t = torch.broadcast_tensors(*rows)
            if piece.mask is not None and t.dim():
                *u, t = (x[piece.mask] for x in (*u, t))
            self.velocities.check_range(torch.stack(u, -1), t, piece.key)

    def _rate(self) -> float:
        v = self.velocities
        ends = zip(v.lower, v.upper, v.spacing, strict=True)
        fastest = [max(abs(a), abs(b)) - 0.5 * h for a, b, h in ends]
        return sum(v / dx for v, dx in zip(fastest, self.grid.spacing, strict=False))

    @property
    def batch(self) -> int:
        """Number of independent problems."""
        return self.knudsen.shape[0]

    def with_time_step(self, time_step: float) -> "KineticWorld":
        """Return the same world with another step; refused above CFL 0.5."""
        return replace(self, time_step=time_step)

    # -- initial states ---------------------------------------------------------------

    def equilibrium(
        self, density: Tensor, velocity: Tensor, temperature: Tensor
    ) -> KineticState:
        """Return the local discrete Maxwellian.

        Args:
            density: ``[batch, *grid.shape]``.
            velocity: ``[batch, *grid.shape, V]``.
            temperature: ``[batch, *grid.shape]``.

        Raises:
            InputError: not positive, or beyond what the nodes can hold.
        """
        check_initial(density=density, temperature=temperature)
        self.velocities.check_range(velocity, temperature, "initial")
        rho, u, t = density.double(), velocity.double(), temperature.double()
        f = maxwellian(self.velocities, rho, u, t, self.gas.dimension)
        return self.start(f.movedim(-2, 1))

    def near_equilibrium(
        self, density: Tensor, velocity: Tensor, temperature: Tensor, stress: Tensor,
        heat_flux: Tensor,
    ) -> KineticState:  # fmt: skip
        """Return Grad's distribution (:func:`.equilibrium.near_equilibrium`).

        Args:
            density: ``[batch, *grid.shape]``.
            velocity: ``[batch, *grid.shape, V]``.
            temperature: ``[batch, *grid.shape]``.
            stress: ``[batch, *grid.shape, V, V]``.
            heat_flux: ``[batch, *grid.shape, V]``.

        Raises:
            InputError: not positive, or beyond what the nodes can hold.
        """
        check_initial(density=density, temperature=temperature)
        self.velocities.check_range(velocity, temperature, "initial")
        rho, u, t = density.double(), velocity.double(), temperature.double()
        off = stress.double(), heat_flux.double()
        f = near_equilibrium(self.velocities, rho, u, t, *off, self.gas.dimension)
        return self.start(f.movedim(-2, 1))

    def start(self, f: Tensor) -> KineticState:
        """Return the state of a distribution ``[batch, parts, *grid.shape, nodes]``."""
        cells = f.reshape(self.batch, self._layout.parts, self.grid.cells, -1)
        shape = (*cells.shape[:2], self._layout.rows, self.velocities.count)
        rows = torch.zeros(shape, dtype=self.dtype, device=self.device)
        rows[:, :, : self.grid.cells] = cells
        self._hold_solids(rows)
        return KineticState(rows, torch.tensor(0), torch.tensor(0.0, dtype=torch.float64))

    def init(self, rng: torch.Generator) -> KineticState:
        """Return the uniform gas at rest with unit density and temperature."""
        shape = (self.batch, *self.grid.shape)
        one = torch.ones(shape, dtype=torch.float64)
        return self.equilibrium(one, torch.zeros(*shape, self.velocities.axes), one)

    def stable_step(self, state: KineticState, cfl: float = 0.45) -> float:
        """Return the step of a Courant number; no state changes it."""
        return cfl / self._rate()

    # -- time -------------------------------------------------------------------------

    def sampled(
        self, state: KineticState, times: Sequence[float]
    ) -> Iterator[KineticState]:
        """Advance from time 0; yield the state at each of some rising times."""
        now = 0.0
        for time in times:
            if time > now + 1e-12:
                steps = math.ceil((time - now) / self.time_step - 1e-9)
                state = self.with_time_step((time - now) / steps).advance(state, steps)
                now = time
            yield state

    def step(self, state: KineticState) -> KineticState:
        """Advance by ``time_step``.

        Raises:
            GuardError: density or temperature not positive; names cell and step.
        """
        state = replace(state, f=aligned(state.f))
        out = state.f if self.in_place else torch.empty_like(state.f)
        return self._step(state, out)

    def advance(self, state: KineticState, steps: int) -> KineticState:
        """Make many steps with two copies of f; ``state`` is kept."""
        f = state.f.clone()
        for _ in range(steps):
            state = self._step(replace(state, f=f), f)
        return state

    def _step(self, state: KineticState, out: Tensor) -> KineticState:
        stage, tables, records, knudsen = self._buffers(state.f)
        lay, law = self._layout, self._law()
        time = float(state.time)
        self._fill(state.f, time)
        first = (tables[0],) * 2, (records[0],) * 2
        transport.run_stage(
            False, lay, state.f, state.f, stage, knudsen, *first, self._par(False), law
        )
        self._fill(stage, time + GAMMA * self.time_step)
        transport.run_stage(
            True, lay, state.f, stage, out, knudsen, tables, records, self._par(True), law
        )
        if lay.rows > self.grid.cells:  # so that equal runs have equal states
            for f in (state.f, out):
                f[:, :, self.grid.cells :] = 0.0
        self._hold_solids(out)
        step = state.step + 1
        fields = records[1].view(self.batch, *self.grid.shape, -1)
        after = KineticState(out, step, state.time + self.time_step)
        rho, temperature = fields[..., transport.RHO], fields[..., transport.T]
        if out.is_cuda:
            bad = unphysical(rho, temperature).view(self.batch, 1, -1, 1)
            out[:, :, : self.grid.cells].masked_fill_(bad, math.nan)
        else:
            refuse_unphysical(int(step), rho, temperature, REMEDY, after)
        return after

    def _fill(self, f: Tensor, time: float) -> None:
        """Write the ghost rows: of the ends of the box, then of the cuts of solids."""
        self._ghosts.fill(f, time)
        if self._walls is not None:
            cuts = len(self._walls.body.cuts.cell)
            self._walls.fill(f, f[:, :, self._layout.rows - cuts :])

    def _hold_solids(self, f: Tensor) -> None:
        """Put a gas at rest in solid cells, which no cell of gas reads."""
        if self._walls is not None:
            f[:, :, self._walls.mask] = self._walls.still

    def _buffers(self, f: Tensor) -> tuple:
        if "stage" not in self._scratch:
            cells = self.batch * self.grid.cells
            width = -(-sum(self.velocities.shape) // 16) * 16
            kn = self.knudsen.reshape(self.batch, -1).expand(self.batch, self.grid.cells)

            def pair(columns: int) -> tuple[Tensor, Tensor]:
                first, second = (f.new_zeros(cells, columns) for _ in range(2))
                return first, second

            self._scratch["stage"] = torch.empty_like(f)
            self._scratch["rest"] = (pair(width), pair(transport.COLUMNS), kn.contiguous())
        return (self._scratch["stage"], *self._scratch["rest"])

    def _law(self) -> Tensor:
        if "law" not in self._scratch:
            law, none = self.gas.law, torch.zeros(1, 8, dtype=torch.float64)
            self._scratch["law"] = law.packed(self.device) if law else none.to(self.device)
        return self._scratch["law"]

    def _par(self, second: bool) -> Tensor:
        if ("par", second) not in self._scratch:
            dt, dv = self.time_step, (*self.velocities.spacing, 1.0, 1.0)
            law = self.gas.law
            ratio = DELTA / GAMMA
            move = (1.0 - DELTA) * dt if second else GAMMA * dt
            last = self.velocities.axis(self.velocities.axes - 1)
            parameters = transport.StageParameters(
                transport_step=move,
                old_share=1.0 - ratio,
                lag=(DELTA - (1.0 - GAMMA)) / GAMMA,
                relaxation_step=GAMMA * dt,
                weight=self.velocities.weight,
                dimension=self.gas.dimension,
                prandtl=self.gas.prandtl,
                density_power=self.gas.density_power,
                temperature_power=self.gas.temperature_power,
                law_start=math.log(law.table.coldest) if law else 0.0,
                law_rate=law.per_interval if law else 0.0,
                negative_nodes=int((last < 0).sum()),
                spacing_first=dv[0],
                spacing_second=dv[1],
                spacing_third=dv[2],
                tiny=1e-100 if self.dtype == torch.float64 else 1e-18,
            )
            self._scratch["par", second] = parameters.packed(self.dtype, self.device)
        return self._scratch["par", second]

    # -- moments ----------------------------------------------------------------------

    def cells_of(self, state: KineticState) -> Tensor:
        """Return the distribution of the cells, ``[batch, parts, *grid.shape, nodes]``."""
        return state.f[:, :, : self.grid.cells].unflatten(2, self.grid.shape)

    def raw_moments(self, state: KineticState, order: int) -> Tensor:
        """Return ``integral v^k f dv`` for k = 0..order along the first axis of velocity.

        Returns:
            ``[batch, *grid.shape, order + 1]``; only g counts where directions are reduced.
        """
        v = self.velocities.like(state.f)[:, 0]
        powers = torch.stack([v**k for k in range(order + 1)], -1) * self.velocities.weight
        return (state.f[:, 0, : self.grid.cells] @ powers).unflatten(1, self.grid.shape)

    def hermite_moments(self, state: KineticState, order: int) -> Tensor:
        """Return density, velocity, temperature and Hermite coefficients in the own frame.

        ``f_k = theta^(k/2) / k! integral He_k((v - u) / sqrt(theta)) f dv`` for k =
        3..order, with theta the variance along the first axis (Cai, Fan, Li, 2013, eq.
        2.3). See :mod:`..equations.line`.

        Returns:
            ``[batch, *grid.shape, order + 1]`` = (rho, u, theta, f_3 .. f_order).
        """
        f = state.f[:, 0, : self.grid.cells]
        w, v = self.velocities.weight, self.velocities.like(f)[:, 0]
        rho = w * f.sum(-1)
        u = w * (f @ v) / rho
        c = v - u[..., None]
        theta = w * (f * c.square()).sum(-1) / rho
        xi = c / theta.sqrt()[..., None]
        before, he, out = torch.ones_like(xi), xi, [rho, u, theta]
        for k in range(2, order + 1):
            before, he = he, xi * he - (k - 1) * before
            if k > 2:
                out.append(w * (f * he).sum(-1) * theta ** (k / 2) / math.factorial(k))
        return torch.stack(out[: order + 1], -1).unflatten(1, self.grid.shape)

    def observe(self, state: KineticState) -> dict[str, Tensor]:
        """Return the names of :mod:`..observe`, and what the limiter and positivity did.

        ``limiter_activity`` is the fraction of (cell, velocity, axis) with a clipped
        extremum, ``negative_fraction`` that of negative values of f (Shakhov's target is
        not positive), ``negative_density`` the part of the density in them, in the worst
        cell.
        """
        V, D = self.velocities.axes, self.gas.dimension
        g = state.f[:, 0, : self.grid.cells]
        nodes = self.velocities.like(g)
        pairs = [(i, j) for i in range(V) for j in range(V)]
        square = nodes.square().sum(-1)
        columns = [torch.ones_like(square), *nodes.T]
        columns += [nodes[:, i] * nodes[:, j] for i, j in pairs]
        columns += [square * nodes[:, i] for i in range(V)]
        m = g @ torch.stack(columns, -1) * self.velocities.weight
        rho, u = m[..., 0], m[..., 1 : 1 + V] / m[..., :1]
        second = m[..., 1 + V : 1 + V + V * V].unflatten(-1, (V, V))
        third = m[..., 1 + V + V * V :]
        pressure = second - rho[..., None, None] * u[..., :, None] * u[..., None, :]
        rest, rest_flow = torch.zeros_like(rho), torch.zeros_like(u)
        if D > V:
            h = state.f[:, 1, : self.grid.cells]
            hm = h @ torch.stack([torch.ones_like(square), *nodes.T], -1)
            hm = hm * self.velocities.weight
            rest, rest_flow = hm[..., 0], hm[..., 1:]
        trace = pressure.diagonal(dim1=-2, dim2=-1).sum(-1) + rest
        temperature = trace / (D * rho)
        u2 = u.square().sum(-1)
        total = second.diagonal(dim1=-2, dim2=-1).sum(-1) + rest
        # q = 1/2 int c c^2 f with c = v - u, written out in raw moments
        heat = 0.5 * (
            third
            + rest_flow
            - 2 * torch.einsum("bcij,bcj->bci", second, u)
            - (total - 2 * rho * u2)[..., None] * u
        )
        shape = self.grid.shape
        eye = torch.eye(V, dtype=g.dtype, device=g.device)
        stress = pressure - (rho * temperature)[..., None, None] * eye
        volume, gas = self.grid.volume, 1.0
        if self.body is not None:
            gas = (~self.body.mask).flatten().to(g)
        fields = {
            "density": rho,
            "velocity": u,
            "temperature": temperature,
            "stress": stress,
            "heat_flux": heat,
            "entropy": self._entropy(state),
        }
        return {
            **{k: v.unflatten(1, shape) for k, v in fields.items()},
            "mass": volume * (gas * rho).sum(-1),
            "momentum": volume * ((gas * rho)[..., None] * u).sum(1),
            "energy": 0.5 * volume * (gas * total).sum(-1),
            **({} if self._walls is None else self._walls.loads(state.f)),
            "end_fluxes": self._at_ends(state),
            **self._diagnose(state),
        }

    def _at_ends(self, state: KineticState) -> Tensor:
        """Return what passes the ends of the box, positive along the axis.

        Mass, momentum along the resolved axes and energy, ``[batch, dim, 2, 2 + V]``;
        zero along a periodic axis.
        """
        f, v, grid = state.f, self.velocities.like(state.f), self.grid
        solid = None if self.body is None else self.body.mask.to(f.device)
        out = f.new_zeros(self.batch, grid.dim, 2, 2 + v.shape[1])
        powers = torch.cat([torch.ones_like(v[:, :1]), v], 1)
        for axis, end, face in self._ghosts.passing(f, float(state.time), solid):
            through = face.sum(2) * v[:, axis]
            through *= self.velocities.weight * grid.volume / grid.spacing[axis]
            energy = through[:, 0] @ v.square().sum(1) + through[:, 1:].sum((1, 2))
            out[:, axis, end, :-1] += through[:, 0] @ powers
            out[:, axis, end, -1] += 0.5 * energy
        return out

    def _entropy(self, state: KineticState) -> Tensor:
        """``-sum f ln f``; for reduced pairs the entropy of the Gaussian with T = h / g."""
        f = state.f[:, :, : self.grid.cells]
        rest = self.gas.dimension - self.velocities.axes
        out = torch.empty_like(f[:, 0, :, 0])
        step = max(1, CHUNK // self.velocities.count)
        for i in range(0, self.grid.cells, step):
            g = f[:, 0, i : i + step].clamp(
                min=1e-300 if self.dtype == torch.float64 else 1e-37
            )
            integrand = -g * g.log()
            if rest:
                spread = (f[:, 1, i : i + step] / (rest * g)).clamp(min=1e-30)
                integrand = integrand + 0.5 * rest * g * (1 + (2 * math.pi * spread).log())
            out[:, i : i + step] = self.velocities.weight * integrand.sum(-1)
        return out

    def _diagnose(self, state: KineticState) -> dict[str, Tensor]:
        g = self.cells_of(state)[:, 0]
        clipped, count = torch.zeros(self.batch, device=g.device), 0
        for axis in range(self.grid.dim):
            for b in range(self.batch):
                one = g[b]
                n = one.shape[axis]
                left = one.narrow(axis, 1, n - 2) - one.narrow(axis, 0, n - 2)
                left *= one.narrow(axis, 2, n - 2) - one.narrow(axis, 1, n - 2)
                clipped[b] += (left < 0).sum()
            count += left.numel()
        below = g.clamp(max=0.0).abs().sum(-1) / g.sum(-1)
        return {
            "limiter_activity": clipped / count,
            "negative_fraction": (g < 0).flatten(1).float().mean(1),
            "negative_density": below.flatten(1).amax(1),
        }


def mean_free_path(knudsen: float) -> float:
    """Return ``lambda = 16 mu / (5 rho sqrt(2 pi T))`` at the reference state, mu = Kn.

    The hard-sphere definition (Bird 1994, eq. 4.52).
    """
    return 16.0 * knudsen / (5.0 * math.sqrt(2.0 * math.pi))
