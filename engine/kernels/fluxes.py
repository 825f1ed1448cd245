"""Finite-volume kernels for conservation laws of gases: reconstruction, HLLC, update.

Arrays are flat and padded by ``GHOST`` cells along every active axis, ``[batch, variables,
n0, n1, n2]`` with n2 contiguous (an unused axis has length 1). Variables: density, momentum
(or velocity) per space dimension, energy (or pressure). A flux is stored at the place of
the cell on the left of its face. Every kernel runs over lines along n2, ``LANES`` cells at
a time: the lanes are written as vectors, which the compiler turns into SIMD instructions.
"""

import torch

from ..runtime import start
from .types import Array1, Array2, Int, Template, ti

GHOST = 3
LANES = 4

FIRST_ORDER, MUSCL, WENO5 = 0, 1, 2


@ti.func
def limited(a, b, tiny):
    """Van Leer's slope without a branch: ``(a|b| + |a|b) / (|a| + |b|)``."""
    p = ti.abs(a)
    q = ti.abs(b)
    return (a * q + p * b) / (p + q + tiny)


@ti.func
def weno_z(a, b, c, d, e, tiny, par: Template):
    """Value at the right face of c from five cells (Borges et al., JCP 227, 2008, p. 3191).

    ``par`` holds 1/6, 13/12, 1/4, 0.1, 0.3, 0.6 in the working precision from place 4 on.
    """
    s0 = a - 2 * b + c
    s1 = b - 2 * c + d
    s2 = c - 2 * d + e
    r0 = a - 4 * b + 3 * c
    r1 = b - d
    r2 = 3 * c - 4 * d + e
    b0 = par[5] * s0 * s0 + par[6] * r0 * r0 + tiny
    b1 = par[5] * s1 * s1 + par[6] * r1 * r1 + tiny
    b2 = par[5] * s2 * s2 + par[6] * r2 * r2 + tiny
    t = ti.abs(b0 - b2)
    q0 = t / b0
    q1 = t / b1
    q2 = t / b2
    w0 = par[7] * (1 + q0 * q0)
    w1 = par[9] * (1 + q1 * q1)
    w2 = par[8] * (1 + q2 * q2)
    v0 = 2 * a - 7 * b + 11 * c
    v1 = 5 * c - b + 2 * d
    v2 = 2 * c + 5 * d - e
    return par[4] * (w0 * v0 + w1 * v1 + w2 * v2) / (w0 + w1 + w2)


@ti.func
def load(x: Template, at, lanes: Template):
    """Read ``lanes`` neighbouring numbers."""
    return ti.Vector([x[at + l] for l in range(lanes)])


@ti.func
def face_values(
    w: Template, at, stride, scheme: Template, lanes: Template, tiny, par: Template
):
    """Return the two values at the face between ``at`` and ``at + stride``."""
    c = load(w, at, lanes)
    d = load(w, at + stride, lanes)
    left = c
    right = d
    if ti.static(scheme == MUSCL):
        b = load(w, at - stride, lanes)
        e = load(w, at + 2 * stride, lanes)
        jump = d - c
        left = c + par[0] * limited(c - b, jump, tiny)
        right = d - par[0] * limited(jump, e - d, tiny)
    if ti.static(scheme == WENO5):
        a = load(w, at - 2 * stride, lanes)
        b = load(w, at - stride, lanes)
        e = load(w, at + 2 * stride, lanes)
        f = load(w, at + 3 * stride, lanes)
        left = weno_z(a, b, c, d, e, tiny, par)
        right = weno_z(f, e, d, c, b, tiny, par)
    return left, right


@ti.kernel
def k_hllc_fwd(
    dim: Template,
    axis: Template,
    scheme: Template,
    ideal: Template,
    lanes: Template,
    w: Array1,
    extra: Array1,
    flux: Array1,
    count: Array2,
    par: Array1,
    lines: Int,
    n1: Int,
    start0: Int,
    start1: Int,
    start2: Int,
    size1: Int,
    size2: Int,
    system: Int,
    variable: Int,
    stride: Int,
    length: Int,
):
    """HLLC fluxes (Toro, Spruce, Speares, Shock Waves 4, 1994, p. 25) along one axis.

    ``w``: density, velocities, pressure; ``extra``: internal energy per volume and sound
    speed, for a general equation of state; ``count [batch, lines]``: faces where the
    reconstruction was not positive and the cell values stood in; ``par``: 1/2, gamma,
    1/(gamma-1), tiny, then the constants of WENO.
    """
    for job in range(count.shape[0] * lines):
        s = job // lines
        line = job - s * lines
        i0 = line // n1
        i1 = line - i0 * n1
        base = s * system + ((i0 + start0) * size1 + i1 + start1) * size2 + start2
        tiny = par[3]
        bad_faces = 0.0
        for t in range((length + lanes - 1) // lanes):
            # the last vector overlaps the one before instead of running over
            at = base + ti.max(ti.min(t * lanes, length - lanes), 0)
            r_l, r_r = face_values(w, at, stride, scheme, lanes, tiny, par)
            u_l, u_r = face_values(
                w, at + (1 + axis) * variable, stride, scheme, lanes, tiny, par
            )
            p_l, p_r = face_values(
                w, at + (1 + dim) * variable, stride, scheme, lanes, tiny, par
            )
            v_l = u_l * 0
            v_r = u_l * 0
            x_l = u_l * 0
            x_r = u_l * 0
            if ti.static(dim > 1):
                other = ti.static((axis + 1) % dim)
                v_l, v_r = face_values(
                    w, at + (1 + other) * variable, stride, scheme, lanes, tiny, par
                )
            if ti.static(dim > 2):
                third = ti.static((axis + 2) % dim)
                x_l, x_r = face_values(
                    w, at + (1 + third) * variable, stride, scheme, lanes, tiny, par
                )
            rc_l = load(w, at, lanes)
            rc_r = load(w, at + stride, lanes)
            pc_l = load(w, at + (1 + dim) * variable, lanes)
            pc_r = load(w, at + stride + (1 + dim) * variable, lanes)
            good = ti.min(ti.min(r_l, r_r), ti.min(p_l, p_r)) > 0
            r_l = ti.select(good, r_l, rc_l)
            r_r = ti.select(good, r_r, rc_r)
            p_l = ti.select(good, p_l, pc_l)
            p_r = ti.select(good, p_r, pc_r)
            missed = ti.select(good, 0 * r_l, 0 * r_l + 1)
            bad_faces += missed.sum()
            e_l = p_l * par[2]
            e_r = p_r * par[2]
            c_l = u_l * 0
            c_r = u_l * 0
            if ti.static(ideal):
                c_l = ti.sqrt(par[1] * p_l / r_l)
                c_r = ti.sqrt(par[1] * p_r / r_r)
            else:
                here = s * 2 * variable + at - s * system
                e_l, e_r = face_values(extra, here, stride, scheme, lanes, tiny, par)
                c_l, c_r = face_values(
                    extra, here + variable, stride, scheme, lanes, tiny, par
                )
                e_l = ti.select(good, e_l, load(extra, here, lanes))
                e_r = ti.select(good, e_r, load(extra, here + stride, lanes))
            s_l = ti.min(u_l - c_l, u_r - c_r)
            s_r = ti.max(u_l + c_l, u_r + c_r)
            m_l = r_l * (s_l - u_l)
            m_r = r_r * (s_r - u_r)
            s_m = (p_r - p_l + m_l * u_l - m_r * u_r) / (m_l - m_r)
            left = s_m >= 0
            r = ti.select(left, r_l, r_r)
            u = ti.select(left, u_l, u_r)
            v = ti.select(left, v_l, v_r)
            x = ti.select(left, x_l, x_r)
            p = ti.select(left, p_l, p_r)
            e = ti.select(left, e_l, e_r) + par[0] * r * (u * u + v * v + x * x)
            m = ti.select(left, m_l, m_r)
            wave = ti.select(left, s_l, s_r)
            cut = ti.select(left, ti.min(s_l, 0 * s_l), ti.max(s_r, 0 * s_r))
            star = m / (wave - s_m)
            d_r = star - r
            d_m = star * s_m - r * u
            d_e = star * (e / r + (s_m - u) * (s_m + p / m)) - e
            f_r = r * u + cut * d_r
            f_u = r * u * u + p + cut * d_m
            f_v = r * u * v + cut * d_r * v
            f_x = r * u * x + cut * d_r * x
            f_e = u * (e + p) + cut * d_e
            for l in ti.static(range(lanes)):
                flux[at + l] = f_r[l]
            for l in ti.static(range(lanes)):
                flux[at + (1 + axis) * variable + l] = f_u[l]
            if ti.static(dim > 1):
                for l in ti.static(range(lanes)):
                    flux[at + (1 + (axis + 1) % dim) * variable + l] = f_v[l]
            if ti.static(dim > 2):
                for l in ti.static(range(lanes)):
                    flux[at + (1 + (axis + 2) % dim) * variable + l] = f_x[l]
            for l in ti.static(range(lanes)):
                flux[at + (1 + dim) * variable + l] = f_e[l]
        count[s, line] += bad_faces


@ti.kernel
def k_update_fwd(
    dim: Template,
    ideal: Template,
    lanes: Template,
    old: Array1,
    u: Array1,
    out: Array1,
    w: Array1,
    f0: Array1,
    f1: Array1,
    f2: Array1,
    par: Array1,
    jobs: Int,
    lines: Int,
    n1: Int,
    pad0: Int,
    pad1: Int,
    pad2: Int,
    size1: Int,
    size2: Int,
    system: Int,
    variable: Int,
    t0: Int,
    t1: Int,
    t2: Int,
    length: Int,
):
    """``out = a old + (1 - a)(u - sum dt/dx (F - F_left))``, and w of it for an ideal gas.

    ``par``: a, 1 - a, dt/dx per axis (3), gamma - 1, 1/2.
    """
    for job in range(jobs):
        s = job // lines
        line = job - s * lines
        i0 = line // n1
        i1 = line - i0 * n1
        base = s * system + ((i0 + pad0) * size1 + i1 + pad1) * size2 + pad2
        for t in range((length + lanes - 1) // lanes):
            at = base + ti.max(ti.min(t * lanes, length - lanes), 0)
            kinetic = load(u, at, lanes) * 0
            density = kinetic + 1
            for q in ti.static(range(dim + 2)):
                here = at + q * variable
                value = load(u, here, lanes)
                value -= par[2] * (load(f0, here, lanes) - load(f0, here - t0, lanes))
                if ti.static(dim > 1):
                    value -= par[3] * (load(f1, here, lanes) - load(f1, here - t1, lanes))
                if ti.static(dim > 2):
                    value -= par[4] * (load(f2, here, lanes) - load(f2, here - t2, lanes))
                new = par[0] * load(old, here, lanes) + par[1] * value
                for l in ti.static(range(lanes)):
                    out[here + l] = new[l]
                if ti.static(ideal):
                    prim = new
                    if ti.static(q == 0):
                        density = new
                    elif ti.static(q < dim + 1):
                        prim = new / density
                        kinetic += prim * new
                    else:
                        prim = par[5] * (new - par[6] * kinetic)
                    for l in ti.static(range(lanes)):
                        w[here + l] = prim[l]


class FluxShape:
    """Sizes and strides of padded arrays, and launches of the kernels on them.

    Args:
        batch: systems.
        shape: cells along each axis.
        ideal: whether the gas is ideal with a constant gamma.
        device: where the arrays live.
    """

    def __init__(
        self, batch: int, shape: tuple[int, ...], ideal: bool, device: torch.device
    ) -> None:
        self.batch, self.dim, self.shape, self.ideal = batch, len(shape), shape, ideal
        self.device = device
        self.padded = tuple(n + 2 * GHOST for n in shape)
        full = (1,) * (3 - self.dim) + self.padded
        self.full = full
        self.variable = full[0] * full[1] * full[2]
        self.system = (self.dim + 2) * self.variable
        self.strides = (full[1] * full[2], full[2], 1)[3 - self.dim :]
        self.pads = (0,) * (3 - self.dim) + (GHOST,) * self.dim
        self.cells = (1,) * (3 - self.dim) + shape
        self.lanes = LANES if shape[-1] >= LANES else 1

    def flux(
        self,
        axis: int,
        scheme: int,
        w: torch.Tensor,
        extra: torch.Tensor,
        flux: torch.Tensor,
        count: torch.Tensor,
        par: torch.Tensor,
    ) -> None:
        """Fill ``flux`` (padded like ``w``) with the face fluxes along ``axis``."""
        start(self.device)
        at = 3 - self.dim + axis
        begin, run = list(self.pads), list(self.cells)
        begin[at] -= 1
        run[at] += 1
        k_hllc_fwd(
            self.dim,
            axis,
            scheme,
            self.ideal,
            self.lanes,
            w.view(-1),
            extra.view(-1),
            flux.view(-1),
            count,
            par,
            run[0] * run[1],
            run[1],
            *begin,
            *self.full[1:],
            self.system,
            self.variable,
            self.strides[axis],
            run[2],
        )

    def lines(self, axis: int) -> int:
        """Number of lines that :meth:`flux` runs over: the width of ``count``."""
        run = list(self.cells)
        run[3 - self.dim + axis] += 1
        return run[0] * run[1]

    def update(
        self,
        old: torch.Tensor,
        u: torch.Tensor,
        out: torch.Tensor,
        w: torch.Tensor,
        fluxes: list[torch.Tensor],
        par: torch.Tensor,
    ) -> None:
        """Advance one Runge-Kutta stage; for an ideal gas also fill ``w``."""
        start(self.device)
        padded = [*fluxes, fluxes[0], fluxes[0]][:3]
        strides = [*self.strides, 0, 0][:3]
        lines = self.cells[0] * self.cells[1]
        k_update_fwd(
            self.dim,
            self.ideal,
            self.lanes,
            old.view(-1),
            u.view(-1),
            out.view(-1),
            w.view(-1),
            *(f.view(-1) for f in padded),
            par,
            self.batch * lines,
            lines,
            self.cells[1],
            *self.pads,
            *self.full[1:],
            self.system,
            self.variable,
            *strides,
            self.cells[2],
        )
