"""Collision integrals and the viscosity of argon, and their exact scaling laws."""

import math

import numpy as np
import pytest
import torch

from scalebridge.engine.audit.certify import Law, certify
from scalebridge.engine.gas.collisions import scattering
from scalebridge.engine.gas.collisions.pairs import Table, lennard_jones
from scalebridge.engine.gas.collisions.transport import viscosity

ONE = torch.tensor(1.0, dtype=torch.float64)
POINT = {"epsilon": ONE, "sigma": ONE, "temperature": torch.tensor([0.9, 3.3]).double()}


def argon_like(p):
    potential = lennard_jones(p["epsilon"], p["sigma"])
    return viscosity(potential, p["temperature"], 1.0, 1.0)


# The potential is tabulated at fixed distances, so laws of scale hold to the error of the
# interpolation and of its derivatives, 1e-7.
LAWS = [
    Law("viscosity ~ sigma^-2", "viscosity", {"sigma": 1.0}, -2.0, 1e-6),
    Law(
        "viscosity ~ sqrt(T) g(T/epsilon)", "viscosity",
        {"epsilon": 1.0, "temperature": 1.0}, 0.5, 1e-6,
    ),
]  # fmt: skip


@pytest.mark.slow
def test_viscosity_is_certified():
    one = POINT | {"temperature": torch.tensor(2.5, dtype=torch.float64)}
    found = certify(
        {"viscosity": lambda p: argon_like(p | {"temperature": p["temperature"][None]})},
        one,
        laws=LAWS,
        steps=[1e-1, 10**-1.5, 1e-2, 1e-3, 1e-4, 1e-5],
    )
    assert found.passed, found.table()


def test_ends_that_do_not_move_are_found_out(monkeypatch):
    """Roots without their Newton step: the value is the same, the slope is not."""
    before = argon_like(POINT)
    right = scattering.root
    monkeypatch.setattr(scattering, "root", lambda *a: right(*a).detach())
    torch.testing.assert_close(argon_like(POINT), before, rtol=1e-12, atol=0)
    cold = POINT | {"temperature": torch.tensor([0.9]).double()}
    found = certify(
        {"viscosity": argon_like}, cold, laws=LAWS[:1], steps=[1e-3, 1e-4, 1e-5]
    )
    wrong = {c.judge for c in found.checks if c.verdict != "agrees"}
    assert wrong == {"finite differences", "law"}


# -- the planted quadrature: values right, slopes wrong, and differences confirm them -----


def laguerre():
    x, w = np.polynomial.laguerre.laggauss(40)
    return torch.from_numpy(x[w > 1e-18]), torch.from_numpy(w[w > 1e-18])


def fixed_nodes(p, head):
    """Mean cross section by fixed distances; ``head``: with the piece from b = 0 on.

    Leaving the head out costs half a percent of the value, but it moves with sigma: within
    a tooth of the saw, automatic and finite differences agree on a wrong slope.
    """
    potential, temperature = lennard_jones(p["epsilon"], p["sigma"]), 3.3
    x, w = laguerre()
    energy = (temperature * x)[:, None]
    r = torch.from_numpy(np.geomspace(0.55, 12.0, 800)).expand(len(x), -1)
    square = r**2 * (1 - potential(r) / energy)
    # beyond the gap of orbiting: nowhere farther out does b fall again
    least = square.detach().flip(1).cummin(1).values.flip(1)
    real = (square.detach() > 0) & (square.detach() <= least)
    table = Table.of(potential, 0.25, 40.0)
    chi = scattering.deflection(table, energy.expand_as(r)[real], r[real].log(), angles=48)
    f = torch.zeros_like(square).masked_scatter(real, torch.sin(chi) ** 2)
    both = real[:, 1:] & real[:, :-1]
    body = (0.5 * (f[:, 1:] + f[:, :-1]) * square.diff() * both).sum(1)
    first = real & (real.cumsum(1) == 1)
    start = (0.5 * f * square * first).sum(1) if head else 0.0
    return (w * x**3 * math.pi * (body + start)).sum() / 6


@pytest.mark.parametrize("head", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_moving_end_point_is_caught(head):
    law = Law("cross section ~ sigma^2", "observable", {"sigma": 1.0}, 2.0, 0.03)
    point = {"epsilon": ONE, "sigma": 1.0 * ONE}
    found = certify(lambda p: fixed_nodes(p, head), point, laws=[law], tolerance=0.03)
    by_law = next(c for c in found.checks if c.judge == "law")
    by_sigma = next(c for c in found.checks if c.parameter == "sigma")
    at = by_sigma.steps.index(1e-4)
    # the trap: at the usual step the differences confirm either gradient
    assert abs(by_sigma.differences[at] / by_sigma.gradient - 1) < 1e-2
    if head:
        assert by_law.verdict == "agrees", found.table()
    else:
        assert abs(by_law.gradient / by_law.expected - 1) > 0.1
        assert by_law.verdict.startswith("breaks the law")
        assert "a saw" in by_sigma.verdict


def test_argon():
    """Kim and Monroe's parameters give the tabulated viscosities within 3%."""
    t = torch.tensor([200.0, 300.0, 400.0, 600.0], dtype=torch.float64)
    mass, boltzmann = 39.948 * 1.66053906892e-27, 1.380649e-23
    potential = lennard_jones(120.38 * ONE, 3.4062 * ONE)
    found = viscosity(potential, t, mass * boltzmann, 3.4) * 1e20 * 1e6
    tabulated = torch.tensor([15.9, 22.7, 28.6, 38.8], dtype=torch.float64)
    torch.testing.assert_close(found, tabulated, rtol=0.03, atol=0)
