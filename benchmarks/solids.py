"""Solids in the flow: exact solutions around them, drag and heat of a cylinder."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import sparta
from scipy.special import i0e, i1e

GRIDS = (40, 80, 160)
SPEED = 6.454972243679028
"""Mach 5 of a monatomic gas."""


def vortex(run: Callable[..., Any], cells: int) -> tuple[float, float]:
    """Return mean errors of density and velocity of a vortex about a cylinder.

    The isentropic vortex stands still; its circles are streamlines, so a slip wall on one
    of them changes nothing.
    """
    x, y = "(x - 0.03)", "(y - 0.02)"
    swirl = f"5/(2*pi)*exp(0.5*(1 - {x}**2 - {y}**2))"
    t = f"(1 - (5/(2*pi))**2*exp(1 - {x}**2 - {y}**2)/7)"
    ran = run(
        "isentropic_vortex", f"grid.cells=[{cells}, {cells}]", "grid.lower=[-5.0, -5.0]",
        "grid.upper=[5.0, 5.0]", "boundaries={}", "compare=[]", "reference='none'",
        "model={kind='euler', gamma=1.4, cfl=0.3}", "time={end=2.0, frames=1}",
        "solids=[{name='disc', shape={kind='ball', center=[0.03, 0.02], radius=1.0}}]",
        f"initial={{kind='fields', density='{t}**2.5', velocity=['-{y}*{swirl}', "
        f"'{x}*{swirl}'], temperature='{t}'}}",
    )  # fmt: skip
    gas = np.asarray(ran.store["geometry/solid"]) == 0
    found = []
    for name in ("density", "velocity"):
        first, last = (np.asarray(ran.store[f"fields/{name}"][n])[0] for n in (0, -1))
        off = np.abs(last - first)
        found.append(float((off.sum(-1) if off.ndim > 2 else off)[gas].mean()))
    return found[0], found[1]


def order(run: Callable[..., Any], record: Any) -> None:
    """Measure the order around a solid whose surface cuts the cells."""
    if not record.wants("solid_order"):
        return
    off = np.array([vortex(run, cells) for cells in GRIDS])
    orders = np.log2(off[:-1] / off[1:])
    told = "; ".join(
        f"{name} {', '.join(f'{o:.2f}' for o in orders[:, k])}"
        for k, name in enumerate(("density", "velocity"))
    )
    note = f"Euler, vortex about a cylinder, mean error, {GRIDS} cells along x: {told}"
    least = float(orders[-1].min())
    record("solid_order", least, goal=1.5, better="higher", note=note)


def free_molecular(speed: float, wall: float = 1.0) -> tuple[float, float]:
    """Return drag coefficient and heat of a diffuse cylinder in a free-molecular stream.

    By quadrature of the half-range moments of the stream's Maxwellian around the circle;
    the closed form of the drag (Schaaf, Chambre, Flow of Rarefied Gases, 1961, sec. 8) must
    agree, else this raises. Density, R T and diameter are 1; ``wall`` is T of the wall.
    """
    angles = (np.arange(2000) + 0.5) * math.pi / 2000
    v = (np.arange(4000) + 0.5) * (speed + 8.0) / 4000  # speed towards the surface
    normal = speed * np.cos(angles)[:, None]  # of the stream, into the surface
    f = np.exp(-0.5 * (v - normal) ** 2) / math.sqrt(2 * math.pi) * (v[1] - v[0])
    rate, push, cube = ((v**k * f).sum(1) for k in (1, 2, 3))
    along = speed * np.sin(angles)
    back = push + rate * math.sqrt(2 * math.pi * wall) / 2
    width = math.pi / 2000  # both halves of the circle, radius 1/2
    drag = (back * np.cos(angles) + along * rate * np.sin(angles)).sum() * width
    heat = (0.5 * (cube + rate * (along**2 + 2.0)) - 2.0 * wall * rate).sum() * width
    s = speed / math.sqrt(2.0)
    closed = math.sqrt(math.pi) / s * (
        (s * s + 1.5) * i0e(s * s / 2) + (s * s + 0.5) * i1e(s * s / 2)
    ) + math.pi**1.5 / (4 * s) * math.sqrt(wall)
    coefficient = drag / (0.5 * speed**2)
    assert abs(coefficient / closed - 1.0) < 1e-6
    return coefficient, heat


def cylinder(run: Callable[..., Any], record: Any) -> None:
    """Measure drag and heat of the nearly free cylinder; half of it is computed."""
    if not record.wants("cylinder_drag_error", "cylinder_heat_error"):
        return
    ran = run("cylinder_free")
    coefficient, heat = free_molecular(SPEED)
    force = np.asarray(ran.store["solids/solid_cylinder_force_x"])[-1]
    taken = np.asarray(ran.store["solids/solid_cylinder_heat"])[-1]
    exact = 0.5 * 0.5 * SPEED**2 * coefficient, 0.5 * heat
    for name, got, true, goal in (
        ("cylinder_drag_error", force, exact[0], 0.02),
        ("cylinder_heat_error", taken, exact[1], 0.04),
    ):
        off = got / true - 1.0
        note = f"Mach 5, Kn {ran.knudsen[0]:g}, against free molecules; at Kn "
        note += f"{ran.knudsen[1]:g}, where molecules do collide: {off[1]:+.4f}; "
        note += f"{ran.seconds:.3g} CPU s"
        record(name, abs(float(off[0])), goal=goal, note=note)


def rarefied(run: Callable[..., Any], record: Any) -> None:
    """Drag and heat of a cylinder at Mach 5 and Kn 0.1 beside SPARTA, in the same box.

    Kn counts collision times: the viscosity is ``0.1 rho sqrt(R T) D`` of the stream.
    """
    wanted = "cylinder_rarefied_drag_error", "cylinder_rarefied_heat_error"
    if not (record.wants(*wanted) and sparta.there()):
        return
    ran = run("cylinder_rarefied")
    rough, fine = (sparta.cylinder(SPEED, 0.1, n, 20, 2.0, 2.0) for n in (25, 50))
    loads = (
        np.asarray(ran.store[f"solids/solid_cylinder_{name}"])[-1]
        for name in ("force_x", "heat")
    )
    of = ("force", 0.02), ("heat", 0.04)
    for name, (part, goal), got in zip(wanted, of, loads, strict=True):
        true, half = getattr(fine, part), getattr(rough, part)
        off = 2.0 * float(np.ravel(got)[0]) / true - 1.0
        note = f"{off:+.4f}; SPARTA's {part} {true:.2f} with cells of 1/50, {half:.2f} of "
        note += f"1/25; ours {ran.seconds:.3g} CPU s, SPARTA {fine.seconds:.3g} s"
        record(name, abs(off), goal=goal, note=note)


def shocks(run: Callable[..., Any], record: Any) -> None:
    """Measure the pressure on a wedge and at the nose of a cylinder, Mach 3."""
    if record.wants("wedge_pressure_error"):
        ran = run("oblique_shock")
        last = {
            n: np.asarray(ran.store[f"fields/{n}"])[-1][0]
            for n in ("density", "temperature")
        }
        pressure = last["density"] * last["temperature"]
        h = 1.5 / pressure.shape[0]
        x = -0.5 + h * (np.arange(pressure.shape[0]) + 0.5)
        y = h * (np.arange(pressure.shape[1]) + 0.5)
        slope = math.tan(math.radians(15.0)), math.tan(math.radians(32.24))
        inside = (y > slope[0] * x[:, None] + 0.05) & (y < slope[1] * x[:, None] - 0.08)
        inside &= (x[:, None] > 0.4) & (x[:, None] < 0.9)
        off = float(pressure[inside].mean() / 2.8216 - 1.0)
        note = "mean between the wall and the shock, exact 2.8216 times that of the stream"
        record("wedge_pressure_error", abs(off), goal=0.01, note=note)
    if record.wants("nose_pressure_error"):
        ran = run("bow_shock")
        last = {
            n: np.asarray(ran.store[f"fields/{n}"])[-1][0]
            for n in ("density", "temperature")
        }
        gas = np.asarray(ran.store["geometry/solid"])[:, 0] == 0
        nose = (last["density"] * last["temperature"])[gas, 0].max()
        note = "at the cell before the wall, on the axis; exact 12.061 (Rayleigh)"
        record("nose_pressure_error", abs(float(nose / 12.061) - 1.0), goal=0.02, note=note)
