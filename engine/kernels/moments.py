"""Hermite moments on a line: primitive variables, faces, cells, and what a closure sees.

The kernels of :mod:`..gas.equations.fused`, which has the equations. Flows turn about the
line, so that the moments are those of ``(k, j)``, k powers along it and 2 j across, by
degree ``k + 2 j <= M``; with one velocity dimension j is 0. Arrays of w are ``[batch, cells
+ 4, N]`` with two ghost cells at either end, those of moments ``[batch, N, cells]``; face f
is between the ghosted cells f + 1 and f + 2.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from .indices import multi_indices
from .types import Array1, Array2, Array3, Array4, Real, Template, ti

HME, GRAD, LEARNED = 0, 1, 2
VAN_LEER, KOREN, FIRST_ORDER = 0, 1, 2


@dataclass(frozen=True)
class Chain:
    """Moments that differ along one axis alone: those that multiplication by v mixes.

    Attributes:
        size: k = 0 .. size - 1 powers of v.
        speeds: eigenvalues over ``sqrt(theta)``, without u.
        vectors: orthonormal, the columns, of the moments times ``scale theta^(-k / 2)``.
        scale: ``sqrt(k!)``.
    """

    size: int
    speeds: list[float]
    vectors: list[list[float]]
    scale: tuple[float, ...]

    @staticmethod
    def of(size: int) -> "Chain":
        """Return the chain of a size."""
        off = np.sqrt(np.arange(1.0, size))
        speeds, vectors = np.linalg.eigh(np.diag(off, 1) + np.diag(off, -1))
        scale = tuple(math.sqrt(math.factorial(k)) for k in range(size))
        return Chain(size, speeds.tolist(), vectors.tolist(), scale)


@dataclass(frozen=True, eq=False)
class Line:
    """What the kernels are compiled for; made once for the same (:func:`line_of`).

    Attributes:
        order: M.
        axes: D.
        limiter: a code.
        robust: whether the dissipation is that of Lax and Friedrichs.
        closure: a code.
        periodic: whether the last face is the first.
        shut: whether no mass passes the first face, and the last.
        sonic: smallest signal of the upwinding over ``sqrt(theta)``.
        serial: whether loops run where they are called: to hand one to the threads and
            wait takes 5 to 20 us, longer than a short one runs.
    """

    order: int
    axes: int
    limiter: int
    robust: bool
    closure: int
    periodic: bool
    shut: tuple[bool, bool]
    sonic: float
    serial: bool = False

    @cached_property
    def indices(self) -> tuple[tuple[int, int], ...]:
        """All (k, j) by degree."""
        across = 1 if self.axes == 1 else self.order // 2 + 1
        every = [(k, j) for j in range(across) for k in range(self.order + 1 - 2 * j)]
        return tuple(sorted(every, key=lambda a: (a[0] + 2 * a[1], a[1])))

    @cached_property
    def places(self) -> dict[tuple[int, int], int]:
        """Where each (k, j) stands."""
        return {a: i for i, a in enumerate(self.indices)}

    @cached_property
    def copies(self) -> tuple[tuple[tuple[int, float], ...], ...]:
        """Of each (k, j) its places among all moments by degree, and the weights there.

        ``f_(k, 2 i, 2 l) = f_(k, j) j! / (i! l!)`` with i + l = j; the first has weight 1.
        """
        found: list[list[tuple[int, float]]] = [[] for _ in self.indices]
        for at, (k, *across) in enumerate(multi_indices(self.order, self.axes)):
            if all(n % 2 == 0 for n in across):
                halves = [n // 2 for n in across]
                weight = math.factorial(sum(halves)) / math.prod(
                    map(math.factorial, halves)
                )
                found[self.places[k, sum(halves)]].append((at, weight))
        return tuple(map(tuple, found))

    @cached_property
    def odd(self) -> tuple[tuple[int, ...], ...]:
        """Places of the moments that are odd across, which are 0, degree by degree."""
        every = list(enumerate(multi_indices(self.order, self.axes)))
        return tuple(
            tuple(i for i, a in every if sum(a) == n and any(k % 2 for k in a[1:]))
            for n in range(self.order + 1)
        )

    @property
    def spots(self) -> tuple[int, ...]:
        """Where each (k, j) stands among all moments."""
        return tuple(copies[0][0] for copies in self.copies)

    @property
    def count(self) -> int:
        """N."""
        return len(self.indices)

    @property
    def low(self) -> int:
        """How many of them have fluxes, the first ones."""
        return 3 if self.axes == 1 else 4

    @property
    def tops(self) -> int:
        """How many moments of degree M + 1 close the equations, j = 0 .. ."""
        return 1 if self.axes == 1 else self.order // 2 + 1

    def at(self, k: int, j: int) -> int:
        """Return the place of (k, j), -1 for none."""
        return self.places.get((k, j), -1)

    @cached_property
    def chains(self) -> tuple[Chain, ...]:
        """Those of j = 0, 1 .."""
        across = range(self.order // 2 + 1 if self.axes > 1 else 1)
        return tuple(Chain.of(self.order + 1 - 2 * j) for j in across)

    @cached_property
    def fastest(self) -> float:
        """Largest signal over sqrt(theta)."""
        return float(np.polynomial.hermite_e.hermegauss(self.order + 1)[0].max())


@lru_cache(maxsize=None)
def line_of(*values: Any) -> Line:
    """Return the one :class:`Line` of these values, which launches find quickly again."""
    return Line(*values)


@lru_cache(maxsize=None)
def serial(line: Line) -> Line:
    """Return the same with loops that run where they are called."""
    return replace(line, serial=True)


@ti.func
def temperature(w, line: Template):
    t = w[2]
    if ti.static(line.axes > 1):
        t = (w[2] + (line.axes - 1) * w[3]) / line.axes
    return t


@ti.func
def coefficients(w, t, line: Template):
    f = w
    f[1] = 0.0
    for i in ti.static(range(2, line.low)):
        f[i] = 0.5 * w[0] * (w[i] - t)
    return f


@ti.func
def carried(f, du, dt, k: Template, j: Template, line: Template):
    """``f_{k-1, j} du + 1/2 dtheta (f_{k-2, j} + f_{k, j-1})``."""
    total = 0.0 * du
    if ti.static(line.at(k - 1, j) >= 0):
        total += f[ti.static(line.at(k - 1, j))] * du
    if ti.static(line.at(k - 2, j) >= 0):
        total += 0.5 * dt * f[ti.static(line.at(k - 2, j))]
    if ti.static(line.at(k, j - 1) >= 0):
        total += 0.5 * dt * f[ti.static(line.at(k, j - 1))]
    return total


@ti.func
def to_frozen(w, f, d, line: Template):
    dt = temperature(d, line)
    out = d
    for i in ti.static(range(line.count)):
        if ti.static(i == 1):
            out[i] = 0.0
        if ti.static(1 < i < line.low):
            out[i] = f[i] / w[0] * d[0] + 0.5 * w[0] * (d[i] - dt)
        out[i] += carried(f, d[1], dt, line.indices[i][0], line.indices[i][1], line)
    return out


@ti.func
def from_frozen(w, f, frozen, line: Template):
    out = frozen
    out[1] = frozen[1] / w[0]
    for i in ti.static(range(2, line.low)):
        out[i] = 2.0 * (frozen[i] - f[i] / w[0] * frozen[0]) / w[0]
    dt = temperature(out, line)
    for i in ti.static(range(line.low, line.count)):
        out[i] -= carried(f, out[1], dt, line.indices[i][0], line.indices[i][1], line)
    return out


@ti.func
def multiplied(u, t, frozen, line: Template):
    out = u * frozen
    for i in ti.static(range(line.count)):
        k = ti.static(line.indices[i][0])
        j = ti.static(line.indices[i][1])
        if ti.static(line.at(k - 1, j) >= 0):
            out[i] += t * frozen[ti.static(line.at(k - 1, j))]
        if ti.static(line.at(k + 1, j) >= 0):
            out[i] += (k + 1) * frozen[ti.static(line.at(k + 1, j))]
    return out


@ti.func
def upwinded(u, t, frozen, line: Template):
    root = ti.sqrt(ti.max(t, 1e-9))
    slow = 1.0 / root
    out = 0.0 * frozen
    for j, chain in ti.static(enumerate(line.chains)):
        size = ti.Vector.zero(ti.f64, chain.size)
        scaled = ti.Vector.zero(ti.f64, chain.size)
        power = 1.0
        for k in ti.static(range(chain.size)):
            size[k] = chain.scale[k] * power
            scaled[k] = frozen[ti.static(line.at(k, j))] * size[k]
            power *= slow
        back = 0.0 * scaled
        for m in ti.static(range(chain.size)):
            wave = 0.0
            for k in ti.static(range(chain.size)):
                wave += chain.vectors[k][m] * scaled[k]
            speed = ti.abs(u * slow + chain.speeds[m])
            if speed < line.sonic:
                speed = 0.5 * (speed * speed / line.sonic + line.sonic)
            wave *= speed * root
            for k in ti.static(range(chain.size)):
                back[k] += chain.vectors[k][m] * wave
        for k in ti.static(range(chain.size)):
            out[ti.static(line.at(k, j))] = back[k] / size[k]
    return out


@ti.func
def resting(u, t, frozen, line: Template):
    """``integral (1, v, v^2 along and across) g dv``."""
    out = ti.Vector.zero(ti.f64, line.low)
    out[0] = frozen[0]
    out[1] = frozen[1] + u * frozen[0]
    out[2] = 2.0 * (frozen[2] + u * frozen[1]) + (u * u + t) * frozen[0]
    if ti.static(line.axes > 1):
        out[3] = 2.0 * frozen[3] + t * frozen[0]
    return out


@ti.func
def flux(w, line: Template):
    t = temperature(w, line)
    return resting(w[1], t, multiplied(w[1], t, coefficients(w, t, line), line), line)


@ti.func
def conserved(w, line: Template):
    out = w
    out[1] = w[0] * w[1]
    out[2] = w[0] * (w[1] * w[1] + w[2])
    if ti.static(line.axes > 1):
        out[3] = w[0] * w[3]
    return out


@ti.func
def dropped(f, d, line: Template):
    """What HME leaves out of the equations of degree M."""
    out = 0.0 * d
    dt = temperature(d, line)
    for i in ti.static(range(line.count)):
        k = ti.static(line.indices[i][0])
        j = ti.static(line.indices[i][1])
        if ti.static(k + 2 * j == line.order):
            out[i] = (k + 1) * carried(f, d[1], dt, k + 1, j, line)
    return out


@ti.func
def half_slope(behind, ahead, line: Template):
    found = 0.0 * behind
    if ti.static(line.limiter == VAN_LEER):
        if behind * ahead > 0:
            found = behind * ahead / (behind + ahead)
    if ti.static(line.limiter == KOREN):
        if behind * ahead > 0:
            most = 2.0 * ti.min(ti.abs(behind), ti.abs(ahead))
            found = 0.5 * ti.min(most, ti.abs(behind + 2.0 * ahead) / 3.0)
            if behind < 0:
                found = -found
    return found


@ti.func
def ahead_of(w: Template, b, c, line: Template):
    """W at the face ahead of the ghosted cell c."""
    out = ti.Vector.zero(ti.f64, line.count)
    for i in ti.static(range(line.count)):
        here = w[b, c, i]
        out[i] = here + half_slope(here - w[b, c - 1, i], w[b, c + 1, i] - here, line)
    return out


@ti.func
def behind_of(w: Template, b, c, line: Template):
    """W at the face behind the ghosted cell c."""
    out = ti.Vector.zero(ti.f64, line.count)
    for i in ti.static(range(line.count)):
        here = w[b, c, i]
        out[i] = here - half_slope(w[b, c + 1, i] - here, here - w[b, c - 1, i], line)
    return out


@ti.func
def of_cell(m: Template, b, c, line: Template):
    """The moments of :attr:`Line.indices` among all."""
    v = ti.Vector.zero(ti.f64, line.count)
    for i in ti.static(range(line.count)):
        v[i] = m[b, line.spots[i], c]
    return v


@ti.func
def to_cell(v, m: Template, b, c, line: Template):
    """Write all moments of a flow that turns, but for those that are 0."""
    for i in ti.static(range(line.count)):
        for at, weight in ti.static(line.copies[i]):
            m[b, at, c] = weight * v[i]


@ti.func
def lowest(v, line: Template):
    """What must be positive: density, and the temperatures along and across."""
    out = ti.Vector.zero(ti.f64, line.low - 1)
    out[0] = v[0]
    out[1] = v[2] / v[0] - (v[1] / v[0]) ** 2
    if ti.static(line.axes > 1):
        out[2] = v[3] / v[0]
    return out


@ti.func
def unturned(v, m: Template, b, c, line: Template):
    """How far a cell is from a flow that turns."""
    most = 0.0
    for i in ti.static(range(line.count)):
        for at, weight in ti.static(line.copies[i]):
            most = ti.max(most, ti.abs(m[b, at, c] - weight * v[i]))
    for places in ti.static(line.odd):
        for at in ti.static(places):
            most = ti.max(most, ti.abs(m[b, at, c]))
    return most


@ti.func
def write_primitive(m: Template, w: Template, off: Template, b, c, line: Template):
    """Primitive variables of a cell, and of the ghost cells of a periodic line."""
    cells = m.shape[2]
    v = of_cell(m, b, c, line)
    if ti.static(line.axes > 1):
        off[b, c] = unturned(v, m, b, c, line)
    v[1] /= v[0]
    v[2] = v[2] / v[0] - v[1] * v[1]
    if ti.static(line.axes > 1):
        v[3] /= v[0]
    for i in ti.static(range(line.count)):
        w[b, c + 2, i] = v[i]
        if ti.static(line.periodic):
            if c < 2:
                w[b, c + 2 + cells, i] = v[i]
            if c >= cells - 2:
                w[b, c + 2 - cells, i] = v[i]


@ti.kernel
def k_primitive(m: Array3, w: Array3, off: Array2, line: Template):
    """Primitive variables ``w`` of the moments; ``off [batch, cells]``: does it turn?"""
    ti.loop_config(serialize=line.serial)
    for item in range(m.shape[0] * m.shape[2]):
        b = item // m.shape[2]
        write_primitive(m, w, off, b, item - b * m.shape[2], line)


@ti.func
def rates(w: Template, ends: Template, blend: Template, top: Template, given: Template,
          b, c, spacing, line: Template):  # fmt: skip
    """Transport part of ``dU/dt`` in cell c."""
    begin = behind_of(w, b, c + 2, line)
    end = ahead_of(w, b, c + 2, line)
    mean = 0.5 * (begin + end)
    d = end - begin
    t = temperature(mean, line)
    f = coefficients(mean, t, line)
    moved = multiplied(mean[1], t, to_frozen(mean, f, d, line), line)
    out = from_frozen(mean, f, moved, line)
    if ti.static(line.closure != HME):
        out += 0.5 * (blend[b, c] + blend[b, c + 1]) * dropped(f, d, line)
    for i in ti.static(range(line.count)):
        k = ti.static(line.indices[i][0])
        j = ti.static(line.indices[i][1])
        if ti.static(i < line.low):
            out[i] = given[b, c + 1, i] - given[b, c, i]
        else:
            if ti.static(line.closure == LEARNED and k + 2 * j == line.order):
                out[i] += (k + 1) * (top[b, c + 1, j] - top[b, c, j])
            out[i] += given[b, c + 1, i] + given[b, c, line.count + i]
    return -out / spacing


@ti.func
def relaxation_time(kn, rho, t, law: Template):
    """``tau = Kn rho^-a T^b``; ``law`` holds a, b, and Pr."""
    tau = kn
    if law[0] != 0.0:
        tau *= rho ** (-law[0])
    if law[1] != 0.0:
        tau *= t ** law[1]
    return tau


@ti.func
def relaxed(m, kn, step, law: Template, line: Template):
    rho = m[0]
    u = m[1] / rho
    w = m
    w[2] = m[2] / rho - u * u
    if ti.static(line.axes > 1):
        w[3] = m[3] / rho
    t = temperature(w, line)
    ratio = step / relaxation_time(kn, rho, t, law)
    keep = 1.0 / (1.0 + ratio)
    out = m * keep
    out[0] = rho
    out[1] = m[1]
    out[2] = rho * (u * u + t + (w[2] - t) * keep)
    if ti.static(line.axes > 1):
        out[3] = rho * (t + (w[3] - t) * keep)
    if law[2] != 1.0:
        # Shakhov's equilibrium, at the heat flux of the end of the step
        q = 3.0 * m[ti.static(line.at(3, 0))]
        if ti.static(line.axes > 1):
            q += (line.axes - 1) * m[ti.static(line.at(1, 1))]
        share = (1.0 - law[2]) / (line.axes + 2) * ratio * keep / (1.0 + law[2] * ratio)
        out[ti.static(line.at(3, 0))] += share * q
        if ti.static(line.axes > 1):
            out[ti.static(line.at(1, 1))] += share * q
    return out


@ti.func
def beside(f, faces, line: Template):
    """Place of a face beyond the ends: around, or mirrored."""
    at = f
    if ti.static(line.periodic):
        at = (f + faces - 1) % (faces - 1)
    else:
        at = faces - 1 - ti.abs(faces - 1 - ti.abs(f))
    return at


@ti.func
def write_answer(
    answer: Template, far: Template, gates: Template, back: Template, raw: Template,
    blend: Template, count: Template, b, f, line: Template,
):  # fmt: skip
    """The moments of degree M + 1 at a face, the share of Grad's row, and whether it fell.

    Of a point (row, face) ``answer`` is that of the network and ``far`` its largest input
    over the edge of the training range; ``back [tops, directions]``; ``raw`` takes the
    moments before the filter; ``count [2, batch]`` the faces fallen back.
    """
    batch = blend.shape[0]
    faces = blend.shape[1]
    share = 1.0
    trust = 1.0
    total = ti.Vector.zero(ti.f64, line.tops)
    for m in range(back.shape[1]):
        row = m * batch + b
        over = ti.min(ti.max(far[row * faces + f] - 1.0, 0.0), 1.0)
        known = 1.0 - over * over * (3.0 - 2.0 * over)
        real = gates[row, f, 1]
        for step in ti.static((-1, 1)):
            real = ti.min(real, gates[row, beside(f + step, faces, line), 1])
        share = ti.min(share, real * known)
        trust = ti.min(trust, known)
        top = answer[row * faces + f] * gates[row, f, 0] - gates[row, f, 2]
        for j in ti.static(range(line.tops)):
            total[j] += back[j, m] * top
    for j in ti.static(range(line.tops)):
        raw[b, f, j] = share * total[j]
    blend[b, f] = share
    if trust < 1.0 or share < trust:
        ti.atomic_add(count[0, b], 1.0)
    if trust < 1.0:
        ti.atomic_add(count[1, b], 1.0)


@ti.func
def filtered(raw: Template, taps: Template, b, f, j: Template, line: Template):
    """A moment after the filter of ``taps``, mirrored at ends."""
    half = taps.shape[0] // 2
    total = 0.0
    for i in range(taps.shape[0]):
        total += taps[i] * raw[b, beside(f + i - half, raw.shape[1], line), j]
    return total


@ti.kernel
def k_move(
    answer: Array1, far: Array1, gates: Array3, back: Array2, raw: Array3, taps: Array1,
    count: Array2, w: Array3, ends: Array3, blend: Array2, top: Array3, given: Array3,
    base: Array3, knudsen: Array2, law: Array1, spacing: Real, transport: Real, carry: Real,
    lag: Real, step: Real, new: Array3, kept: Array3, off: Array2, extremes: Array3,
    asked: Template, first: Template, line: Template,
):  # fmt: skip
    """Move by ``transport`` times the rates from ``base`` and relax over ``step``.

    The first stage keeps ``base + carry rates + lag (new - moved)``, from which the second
    moves on. ``ends [batch, 2, N]`` is w beyond the first and the last face of a line with
    ends; ``given [batch, faces, 2 N]`` takes the fluxes of the low moments, then what a
    face gives of the others to the cell on its left, and with N more to that on its right.
    Where the closure was ``asked``, see :func:`write_answer`, it is applied from here on.
    After the first stage w is of ``new`` on a periodic line. ``extremes [2, batch, ..]``
    takes the largest of what must be positive in the ``base`` of the first stage, and the
    least in the ``new`` of the second.
    """
    if ti.static(asked):
        ti.loop_config(serialize=line.serial)
        for item in range(blend.shape[0] * blend.shape[1]):
            b = item // blend.shape[1]
            f = item - b * blend.shape[1]
            write_answer(answer, far, gates, back, raw, blend, count, b, f, line)
        ti.loop_config(serialize=line.serial)
        for item in range(blend.shape[0] * blend.shape[1]):
            b = item // blend.shape[1]
            f = item - b * blend.shape[1]
            for j in ti.static(range(line.tops)):
                top[b, f, j] = filtered(raw, taps, b, f, j, line)
    ti.loop_config(serialize=line.serial)
    for item in range(w.shape[0] * (w.shape[1] - 3)):
        faces = w.shape[1] - 3
        b = item // faces
        f = item - b * faces
        left = ahead_of(w, b, f + 1, line)
        right = behind_of(w, b, f + 2, line)
        if ti.static(not line.periodic):
            for i in ti.static(range(line.count)):
                if f == 0:
                    left[i] = ends[b, 0, i]
                if f == faces - 1:
                    right[i] = ends[b, 1, i]
        mean = 0.5 * (left + right)
        d = right - left
        t = temperature(mean, line)
        v = coefficients(mean, t, line)
        frozen = to_frozen(mean, v, d, line)
        jump = from_frozen(mean, v, multiplied(mean[1], t, frozen, line), line)
        smear = d
        taken = ti.Vector.zero(ti.f64, line.low)
        if ti.static(line.robust):
            roots = ti.sqrt(ti.max(temperature(left, line), 1e-9))
            speed = ti.abs(left[1]) + line.fastest * roots
            roots = ti.sqrt(ti.max(temperature(right, line), 1e-9))
            speed = ti.max(speed, ti.abs(right[1]) + line.fastest * roots)
            smear *= speed
            more = conserved(right, line) - conserved(left, line)
            for i in ti.static(range(line.low)):
                taken[i] = speed * more[i]
        else:
            waves = upwinded(mean[1], t, frozen, line)
            taken = resting(mean[1], t, waves, line)
            smear = from_frozen(mean, v, waves, line)
        through = 0.5 * (flux(left, line) + flux(right, line) - taken)
        if ti.static(line.shut[0]):
            if f == 0:
                through[0] = 0.0
        if ti.static(line.shut[1]):
            if f == faces - 1:
                through[0] = 0.0
        if ti.static(line.closure != HME):
            jump += blend[b, f] * dropped(v, d, line)
        for i in ti.static(range(line.count)):
            if ti.static(i < line.low):
                given[b, f, i] = through[i]
            else:
                given[b, f, i] = 0.5 * (jump[i] - smear[i])
                given[b, f, line.count + i] = 0.5 * (jump[i] + smear[i])
    ti.loop_config(serialize=line.serial)
    for item in range(base.shape[0] * base.shape[2]):
        cells = base.shape[2]
        b = item // cells
        c = item - b * cells
        rate = rates(w, ends, blend, top, given, b, c, spacing, line)
        start = of_cell(base, b, c, line)
        moved = start + transport * rate
        out = relaxed(moved, knudsen[b, c], step, law, line)
        to_cell(out, new, b, c, line)
        if ti.static(first):
            to_cell(start + carry * rate + lag * (out - moved), kept, b, c, line)
    ti.loop_config(serialize=line.serial)
    for b in range(base.shape[0]):
        most = lowest(of_cell(base, b, 0, line), line)
        least = lowest(of_cell(new, b, 0, line), line)
        for c in range(1, base.shape[2]):
            if ti.static(first):
                most = ti.max(most, lowest(of_cell(base, b, c, line), line))
            else:
                least = ti.min(least, lowest(of_cell(new, b, c, line), line))
        for i in ti.static(range(line.low - 1)):
            if ti.static(first):
                extremes[0, b, i] = most[i]
            else:
                extremes[1, b, i] = least[i]
    if ti.static(first and line.periodic):
        ti.loop_config(serialize=line.serial)
        for item in range(base.shape[0] * base.shape[2]):
            b = item // base.shape[2]
            write_primitive(new, w, off, b, item - b * base.shape[2], line)


# -- what a closure sees -------------------------------------------------------------------


@ti.func
def seen_along(f, cosine, line: Template):
    """``phi_m = sum_{k + 2 j = m} n^a f_a`` along a direction, m = 0 .. M."""
    sine = 1.0 - cosine * cosine
    phi = ti.Vector.zero(ti.f64, line.order + 1)
    for i in ti.static(range(line.count)):
        k = ti.static(line.indices[i][0])
        j = ti.static(line.indices[i][1])
        size = 1.0
        for _ in ti.static(range(k)):
            size *= cosine
        for _ in ti.static(range(j)):
            size *= sine
        phi[ti.static(k + 2 * j)] += size * f[i]
    return phi


@ti.func
def carried_over(phi, delta, k: Template):
    """``phi'_k - phi_k``: what the frame of the marginal changes."""
    total = 0.0
    factor = 1.0
    for j in ti.static(range(1, k // 2 + 1)):
        factor *= -delta / j
        if ti.static(k - 2 * j != 1):
            total += phi[ti.static(k - 2 * j)] * factor
    return total


@ti.func
def at_cell(w: Template, b, c, line: Template):
    out = ti.Vector.zero(ti.f64, line.count)
    for i in ti.static(range(line.count)):
        out[i] = w[b, c, i]
    return out


@ti.func
def write_marginal(w: Template, cosine, out: Template, b, row, c, line: Template):
    """The state of the marginal along a direction in a cell, M + 1 numbers."""
    v = at_cell(w, b, c, line)
    t = temperature(v, line)
    phi = seen_along(coefficients(v, t, line), cosine, line)
    delta = phi[2] / phi[0]
    out[row, c, 0] = phi[0]
    out[row, c, 1] = cosine * v[1]
    out[row, c, 2] = t + 2.0 * delta
    for k in ti.static(range(3, line.order + 1)):
        out[row, c, k] = phi[k] + carried_over(phi, delta, k)


@ti.func
def tau_at(w: Template, b, f, kn, law: Template, line: Template):
    mean = 0.5 * (at_cell(w, b, f + 1, line) + at_cell(w, b, f + 2, line))
    t = ti.max(temperature(mean, line), 1e-9)
    return relaxation_time(kn, ti.max(mean[0], 1e-9), t, law)


@ti.func
def look(
    mean, row, f, slow: Template, row_weights: Template, margin, caution, stretch,
    z: Template, gates: Template, real: Template,
):  # fmt: skip
    """Write the moments of a state, and its gates, as :func:`k_see` tells.

    Returns one over the scales of the state, which those of gradients are measured by.
    """
    M = ti.static(mean.n - 1)
    point = row * gates.shape[1] + f
    rho = ti.max(mean[0], 1e-6)
    root = ti.sqrt(ti.max(mean[2], 1e-6))
    unit = ti.Vector.zero(ti.f64, M + 1)
    unit[0] = 1.0 / rho
    unit[1] = 1.0 / root
    unit[2] = unit[1] * unit[1]
    power = unit[0] * unit[2]
    for k in ti.static(range(3, M + 1)):
        power *= unit[1] * ti.static(math.sqrt(k) if k > 3 else math.sqrt(6.0))
        unit[k] = power
    square = 0.0
    for k in ti.static(range(3, M + 1)):
        g = mean[k] * unit[k]
        square += g * g
        put(z, point, ti.static(k - 3), g * slow[ti.static(k - 3)], real)
    worst = margin
    for p in range(row_weights.shape[1]):
        low = mean[M - 1] * unit[M - 1] * row_weights[0, p]
        worst = ti.max(worst, low + mean[M] * unit[M] * row_weights[1, p])
    size = rho * ti.static(math.exp(-0.5 * math.lgamma(M + 2)))
    for _ in ti.static(range(M + 1)):
        size *= root
    gates[row, f, 0] = size * ti.sqrt(1.0 + stretch * stretch * square)
    gates[row, f, 1] = ti.min(margin / worst, 1.0) ** caution
    gates[row, f, 2] = 0.0
    return unit


@ti.func
def put(z: Template, point, i, value, real: Template):
    """Write input i of a point."""
    group = point // z.shape[2]
    z[group, i, point - group * z.shape[2]] = ti.cast(value, real)


@ti.func
def put_gradients(
    unit, row, f, seen: Template, slow: Template, z: Template, gates: Template,
    real: Template,
):  # fmt: skip
    """Write the averages of gradients at a point."""
    for r in range(seen.shape[1]):
        for k in ti.static(range(unit.n)):
            i = ti.static(unit.n - 3) + r * unit.n + k
            value = seen[row, r, f, k] * unit[k] * slow[i]
            put(z, row * gates.shape[1] + f, i, value, real)


@ti.kernel
def k_see(
    m: Array3, off: Array2, w: Array3, along: Array3, knudsen: Array2, law: Array1,
    cosines: Array1, ranges: Array1, spacing: Real, parts: Array4, seen: Array4,
    slow: Array1, row_weights: Array2, margin: Real, caution: Real, stretch: Real,
    z: Array3, gates: Array3, real: Template, line: Template,
):  # fmt: skip
    """What a closure sees of every face.

    On a periodic line w is written from the moments m first, on others it is given.
    ``along [rows, cells + 4, M + 1]`` takes the marginals, with one velocity dimension it
    is w; a row is a direction and a member of the batch.
    ``parts [rows, faces, ranges, 3]`` takes the weights of averages over free paths,
    ``exp(-x / 2)``, ``(1 - exp(-x / 2)) / x`` and ``(1 - exp(-x)) / 2 x`` for x free paths
    between the middles of two cells over the range; ``seen [rows, ranges, faces, M + 1]``
    the averages; ``z [groups, inputs, lanes]`` the invariants times ``slow`` of the points
    (row, face), one after another; ``gates [rows, faces, 3]`` the unit of the answer, the
    share of Grad's row, and what the frame of the marginal adds.
    """
    if ti.static(line.periodic):
        ti.loop_config(serialize=line.serial)
        for item in range(m.shape[0] * m.shape[2]):
            b = item // m.shape[2]
            write_primitive(m, w, off, b, item - b * m.shape[2], line)
    if ti.static(line.axes > 1):
        ti.loop_config(serialize=line.serial)
        for item in range(along.shape[0] * w.shape[1]):
            row = item // w.shape[1]
            b = row % w.shape[0]
            cosine = cosines[row // w.shape[0]]
            write_marginal(w, cosine, along, b, row, item - row * w.shape[1], line)
    ti.loop_config(serialize=line.serial)
    for item in range(along.shape[0] * (w.shape[1] - 3)):
        faces = w.shape[1] - 3
        row = item // faces
        f = item - row * faces
        b = row % w.shape[0]
        tau = tau_at(w, b, f, knudsen[b, f], law, line)
        warm = ti.max(0.5 * (along[row, f + 1, 2] + along[row, f + 2, 2]), 1e-12)
        depth = spacing / (tau * ti.sqrt(warm) * cosines[row // w.shape[0]])
        for r in range(ranges.shape[0]):
            x = depth / ranges[r]
            half = ti.exp(-0.5 * x)
            lost = 1.0 - half
            if x < 0.01:
                y = 0.5 * x
                lost = y * (1.0 - y / 2 * (1.0 - y / 3 * (1.0 - y / 4 * (1.0 - y / 5))))
            parts[row, f, r, 0] = half
            parts[row, f, r, 1] = lost / x
            parts[row, f, r, 2] = 0.5 * lost * (1.0 + half) / x
    ti.loop_config(serialize=line.serial)
    for item in range(along.shape[0] * seen.shape[1]):
        row = item // seen.shape[1]
        r = item - row * seen.shape[1]
        n = seen.shape[2] - ti.static(1 if line.periodic else 0)
        for side in ti.static(range(2)):
            come = ti.Vector.zero(ti.f64, line.order + 1)
            for turn in ti.static(range(2 if line.periodic else 1)):
                whole = 1.0
                for i in range(n):
                    f = i if ti.static(side == 0) else n - 1 - i
                    half = parts[row, f, r, 0]
                    keep = half * half
                    whole *= keep
                    for k in ti.static(range(line.order + 1)):
                        jump = along[row, f + 2, k] - along[row, f + 1, k]
                        if ti.static(turn == (1 if line.periodic else 0)):
                            if ti.static(side == 0):
                                own = parts[row, f, r, 1] * jump
                                seen[row, r, f, k] = own + half * come[k]
                            else:
                                seen[row, r, f, k] += half * come[k]
                        come[k] = keep * come[k] + parts[row, f, r, 2] * jump
                if ti.static(line.periodic and turn == 0):
                    come /= 1.0 - whole
        if ti.static(line.periodic):
            for k in ti.static(range(line.order + 1)):
                seen[row, r, n, k] = seen[row, r, 0, k]
    ti.loop_config(serialize=line.serial)
    for item in range(along.shape[0] * (w.shape[1] - 3)):
        M = ti.static(line.order)
        faces = w.shape[1] - 3
        row = item // faces
        f = item - row * faces
        mean = ti.Vector.zero(ti.f64, M + 1)
        for k in ti.static(range(M + 1)):
            mean[k] = 0.5 * (along[row, f + 1, k] + along[row, f + 2, k])
        unit = look(
            mean, row, f, slow, row_weights, margin, caution, stretch, z, gates, real
        )
        put_gradients(unit, row, f, seen, slow, z, gates, real)
        if ti.static(line.axes > 1):
            b = row % w.shape[0]
            one = at_cell(w, b, f + 1, line)
            two = at_cell(w, b, f + 2, line)
            sides = coefficients(one, temperature(one, line), line)
            sides = 0.5 * (sides + coefficients(two, temperature(two, line), line))
            phi = seen_along(sides, cosines[row // w.shape[0]], line)
            gates[row, f, 2] = carried_over(phi, phi[2] / phi[0], M + 1)


@ti.kernel
def k_see_on_grid(
    f: Array3, u: Array3, theta: Array2, tau: Array2, units: Array2, powers: Array2,
    depth: Array1, order: Array2, length: Array1, ranges: Array1, state: Array3,
    parts: Array4, seen: Array4, slow: Array1, row_weights: Array2, margin: Real,
    caution: Real, stretch: Real, z: Array3, gates: Array3, real: Template, M: Template,
):  # fmt: skip
    """What a closure sees of every cell of a periodic grid, along many directions.

    Cells are numbered through. ``f [batch, cells, N]`` are all moments by degree, ``u
    [batch, cells, D]``; of a direction n ``units`` has n, ``powers [directions, N]`` n^a,
    ``depth`` the width of a cell along it (over the cosine of its angle to the grid; 0
    where nothing changes along it), ``order [directions, cells]`` the cells line by line,
    each of ``length`` cells. ``state [rows, cells, M + 1]`` takes the marginals, ``parts
    [rows, cells, ranges, 2]`` what is kept of a free path from a cell to the next, and what
    is added there; the others are those of :func:`k_see`. A row is a direction and a
    member of the batch.
    """
    for item in range(state.shape[0] * state.shape[1]):
        row = item // state.shape[1]
        c = item - row * state.shape[1]
        m = row // f.shape[0]
        b = row - m * f.shape[0]
        phi = ti.Vector.zero(ti.f64, M + 1)
        for k in ti.static(range(M + 1)):
            for i in range(ti.static(math.comb(k + 2, 3)), ti.static(math.comb(k + 3, 3))):
                phi[k] += powers[m, i] * f[b, c, i]
        delta = phi[2] / phi[0]
        state[row, c, 0] = phi[0]
        state[row, c, 1] = units[m, 0] * u[b, c, 0]
        for d in ti.static(range(1, 3)):
            state[row, c, 1] += units[m, d] * u[b, c, d]
        state[row, c, 2] = theta[b, c] + 2.0 * delta
        for k in ti.static(range(3, M + 1)):
            state[row, c, k] = phi[k] + carried_over(phi, delta, k)
        gates[row, c, 2] = carried_over(phi, delta, M + 1)
    for item in range(parts.shape[0] * parts.shape[1]):
        row = item // parts.shape[1]
        p = item - row * parts.shape[1]
        m = row // f.shape[0]
        b = row - m * f.shape[0]
        if depth[m] > 0.0:
            c = order[m, p]
            begin = p // length[m] * length[m]
            ahead = order[m, begin + (p - begin + 1) % length[m]]
            here = 1.0 / (tau[b, c] * ti.sqrt(ti.max(state[row, c, 2], 1e-12)))
            there = 1.0 / (tau[b, ahead] * ti.sqrt(ti.max(state[row, ahead, 2], 1e-12)))
            for r in range(ranges.shape[0]):
                y = 0.5 * depth[m] * (here + there) / ranges[r]
                keep = ti.exp(-y)
                lost = 1.0 - keep
                if y < 0.01:
                    lost = y * (1.0 - y / 2 * (1.0 - y / 3 * (1.0 - y / 4)))
                parts[row, c, r, 0] = keep
                parts[row, c, r, 1] = 0.5 * lost / y
    for item in range(seen.shape[0] * seen.shape[1] * seen.shape[2]):
        row = item // (seen.shape[1] * seen.shape[2])
        rest = item - row * seen.shape[1] * seen.shape[2]
        r = rest // seen.shape[2]
        begin = rest - r * seen.shape[2]
        m = row // f.shape[0]
        n = length[m]
        if begin % n == 0 and depth[m] > 0.0:
            for side in ti.static(range(2)):
                come = ti.Vector.zero(ti.f64, M + 1)
                for turn in ti.static(range(2)):
                    whole = 1.0
                    for i in range(n):
                        c = order[m, begin + (i if ti.static(side == 0) else n - 1 - i)]
                        at = i if ti.static(side == 0) else (2 * n - 2 - i) % n
                        low = order[m, begin + at]
                        high = order[m, begin + (at + 1) % n]
                        keep = parts[row, low, r, 0]
                        whole *= keep
                        for k in ti.static(range(M + 1)):
                            if ti.static(turn == 1):
                                if ti.static(side == 0):
                                    seen[row, r, c, k] = ti.cast(come[k], real)
                                else:
                                    seen[row, r, c, k] += ti.cast(come[k], real)
                            jump = state[row, high, k] - state[row, low, k]
                            come[k] = keep * come[k] + parts[row, low, r, 1] * jump
                    if ti.static(turn == 0):
                        come /= 1.0 - whole
    for item in range(state.shape[0] * state.shape[1]):
        row = item // state.shape[1]
        c = item - row * state.shape[1]
        mean = ti.Vector.zero(ti.f64, M + 1)
        for k in ti.static(range(M + 1)):
            mean[k] = state[row, c, k]
        other = gates[row, c, 2]
        unit = look(
            mean, row, c, slow, row_weights, margin, caution, stretch, z, gates, real
        )
        put_gradients(unit, row, c, seen, slow, z, gates, real)
        gates[row, c, 2] = other


__all__ = [
    "Chain", "Line", "k_move", "k_primitive", "k_see", "k_see_on_grid", "line_of",
    "serial",
]  # fmt: skip
