"""Transport of two gases: known limits, and another textbook's form of the same."""

import math

import pytest
import torch

from scalebridge.engine.errors import InputError
from scalebridge.engine.gas.collisions.binary import Binary
from scalebridge.engine.gas.collisions.pairs import Table, inverse_power, lennard_jones
from scalebridge.engine.gas.collisions.scattering import scatter
from scalebridge.engine.gas.collisions.transport import transport

F64 = torch.float64
ONE = torch.ones(1, dtype=F64)
HOT = torch.tensor([1.0, 3.0], dtype=F64)


@pytest.fixture(scope="module")
def spheres():
    return scatter(Table.of(inverse_power(ONE[0], 400.0), 0.9, 20.0), 1.0, 1.0)


@pytest.fixture(scope="module")
def attracting():
    """Cross sections of two gases, and of one molecule of each."""

    def of(epsilon, sigma):
        pair = lennard_jones(
            torch.tensor(epsilon, dtype=F64), torch.tensor(sigma, dtype=F64)
        )
        return scatter(Table.of(pair, 0.25 * sigma, 40 * sigma), 1.0, 3.0)

    return of(1.0, 1.0), of(0.1, 0.75), of(0.3, 0.88)


def test_diffusion_of_spheres_has_its_known_limits(spheres):
    """Second over first: 59/58 for like spheres, 13/12 for a trace of light ones."""
    for masses, parts, ratio in (
        ((1.0, 1.0), (0.3, 0.7), 59 / 58),
        ((1e-4, 1.0), (1e-9, 1 - 1e-9), 13 / 12),
    ):
        gas = Binary((spheres, spheres), spheres, masses, parts)
        found = gas.diffusion(ONE) / gas.diffusion(ONE, 1)
        assert float(found) == pytest.approx(ratio, rel=2e-3)
    # spheres of diameter 1: 3/8 sqrt(pi kT / (2 m)) / pi, m the reduced mass
    gas = Binary((spheres, spheres), spheres, (1.0, 1.0), (0.5, 0.5))
    assert float(gas.diffusion(ONE, 1)) == pytest.approx(0.375 / math.pi**0.5, rel=0.01)
    with pytest.raises(InputError, match="order: 3"):
        gas.diffusion(ONE, 3)


def test_the_heavier_isotope_of_spheres_gathers_in_the_cold(spheres):
    """First approximation of k_T / (x1 x2): 105/118 times the difference of the masses."""
    gas = Binary((spheres, spheres), spheres, (1.01, 0.99), (0.4, 0.6))
    found = float(gas.thermal_diffusion(ONE)) / (0.4 * 0.6)
    rigid = float(gas._ratios(ONE)[2]) / 0.2  # C of r^-400 is 1 % below that of spheres
    assert found == pytest.approx(105 / 118 * 0.01 * rigid, rel=0.005)


@pytest.mark.parametrize("parts", [(0.3, 0.7), (1.0, 0.0), (0.0, 1.0)])
def test_two_names_of_a_gas_are_that_gas(attracting, parts):
    gas = Binary((attracting[0],) * 2, attracting[0], (2.0, 2.0), parts)
    alone = transport(attracting[0], HOT, 2.0, 1)
    torch.testing.assert_close(gas.viscosity(HOT), alone.viscosity)
    torch.testing.assert_close(gas.conductivity(HOT), alone.conductivity / 2.0)
    torch.testing.assert_close(gas.thermal_diffusion(HOT), torch.zeros(2, dtype=F64))


@pytest.mark.parametrize(
    ("masses", "x"), [((1.0, 0.1), (0.4, 0.6)), ((1.0, 2.0), (0.7, 0.3))]
)
def test_it_agrees_with_chapman_and_cowlings_form(attracting, masses, x):
    """Sections 9.82 and 9.84 of their book, which needs no matrices."""
    one, two, unlike = attracting
    gas = Binary((one, two), unlike, masses, x)
    whole = sum(masses)
    (m1, m2), (a, b, _) = (m / whole for m in masses), gas._ratios(HOT)
    first, second = (
        transport(found, HOT, m, 1) for found, m in zip((one, two), masses, strict=True)
    )
    e = 2 / 3 * whole * gas.diffusion(HOT, 1)
    mu1, mu2 = first.viscosity, second.viscosity
    r1, r2 = 2 / 3 + m1 * a / m2, 2 / 3 + m2 * a / m1
    above = e / 2 * (1 / mu1 + 1 / mu2) + 2 * (2 / 3 - a)
    below = e / (2 * mu1 * mu2) + 4 * a / (3 * e * m1 * m2)
    viscosity = (x[0] ** 2 * r1 + x[1] ** 2 * r2 + x[0] * x[1] * above) / (
        x[0] ** 2 * r1 / mu1 + x[1] ** 2 * r2 / mu2 + x[0] * x[1] * below
    )
    torch.testing.assert_close(gas.viscosity(HOT), viscosity)

    p1, p2 = m1 * e / mu1, m2 * e / mu2
    q1 = p1 * (6 * m2**2 + (5 - 4 * b) * m1**2 + 8 * m1 * m2 * a)
    q2 = p2 * (6 * m1**2 + (5 - 4 * b) * m2**2 + 8 * m1 * m2 * a)
    q12 = 3 * (m1 - m2) ** 2 * (5 - 4 * b) + 4 * m1 * m2 * a * (11 - 4 * b) + 2 * p1 * p2
    mixed = 7.5 * e / whole * (p1 + p2 + (11 - 4 * b - 8 * a) * m1 * m2)
    above = x[0] ** 2 * q1 * first.conductivity / masses[0]
    above = above + x[1] ** 2 * q2 * second.conductivity / masses[1] + x[0] * x[1] * mixed
    below = x[0] ** 2 * q1 + x[1] ** 2 * q2 + x[0] * x[1] * q12
    torch.testing.assert_close(gas.conductivity(HOT), above / below)


def test_what_is_no_mixture_and_what_is_not_covered_is_refused(attracting):
    one, two, unlike = attracting
    with pytest.raises(InputError, match="do not add up to 1"):
        Binary((one, two), unlike, (1.0, 1.0), (0.5, 0.6))
    with pytest.raises(InputError, match="must be positive"):
        Binary((one, two), unlike, (1.0, 0.0), (0.5, 0.5))
    with pytest.raises(InputError, match="must be positive"):
        Binary((one, two), unlike, (1.0, 1.0), (math.nan, 0.5))
    gas = Binary((one, two), unlike, (1.0, 2.0), (0.5, 0.5))
    for ask in (gas.viscosity, gas.conductivity, gas.diffusion, gas.thermal_diffusion):
        with pytest.raises(InputError, match="the cross sections serve 1 to 3"):
            ask(9 * ONE)
