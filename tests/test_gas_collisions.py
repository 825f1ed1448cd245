"""Scattering and transport against absolute values, exact laws and finite differences."""

import math

import pytest
import torch

from scalebridge.engine.errors import InputError
from scalebridge.engine.gas.collisions import pairs, scattering, transport
from scalebridge.engine.gas.collisions.pairs import Table, inverse_power, lennard_jones
from scalebridge.engine.gas.collisions.published import PUBLISHED, TangToennies, damped
from scalebridge.engine.gas.collisions.quantum import with_quantum
from scalebridge.engine.gas.collisions.scattering import Resolution, scatter
from scalebridge.engine.gas.collisions.virial import second_virial

UNIT = (1.66053906660e-27 * 1.380649e-23) ** 0.5 * 1e26
"""sqrt(amu K k) / angstrom^2 in uPa s."""

LENNARD_JONES = {
    0.5: (2.06636, 2.28517), 0.7: (1.72938, 1.92259), 1.0: (1.43980, 1.59316),
    1.5: (1.19867, 1.31520), 2.0: (1.07540, 1.17579), 3.0: (0.95006, 1.03885),
    5.0: (0.84281, 0.92681), 10.0: (0.74223, 0.82437), 20.0: (0.66405, 0.74363),
    50.0: (0.57597, 0.64979), 100.0: (0.51677, 0.58515),
}  # fmt: skip
"""T* -> Omega(1,1)*, Omega(2,2)*: an independent quadrature that agrees with the fits of
S. U. Kim and C. W. Monroe, J. Comput. Phys. 273, 358 (2014), to 2e-4."""


def double(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def reduced(epsilon=1.0, sigma=1.0, smallest=0.25) -> Table:
    return Table.of(lennard_jones(double(epsilon)[0], double(sigma)[0]), smallest, 60.0)


def test_lennard_jones_integrals_are_those_of_the_table():
    t = double(*LENNARD_JONES)
    found = scatter(reduced(), 0.5, 100.0)
    for column, order in ((0, 1), (1, 2)):
        known = double(*(row[column] for row in LENNARD_JONES.values()))
        ours = transport.reduced_integral(found, t, order, order)
        assert float((ours / known - 1).abs().max()) < 1e-4


def test_hot_gas_is_converged_and_goes_to_the_inverse_twelfth_power():
    """The first edition cut energies at a fixed multiple of the well: 34 % off here."""
    t, table = double(100.0, 300.0, 1000.0), reduced(smallest=0.2)
    coarse, fine = (
        scatter(table, 100.0, 1000.0, r) for r in (None, Resolution().doubled())
    )
    one, two = (transport.integral(f, t, 2, 2) for f in (coarse, fine))
    assert float((one / two - 1).abs().max()) < 1e-8
    wall = Table.of(inverse_power(double(4.0)[0], 12), 0.2, 60.0)
    limit = transport.integral(scatter(wall, 100.0, 1000.0), t, 2, 2)
    gap = (one / limit - 1).abs()
    assert bool((gap[1:] < gap[:-1]).all())
    assert float(gap[-1]) < 0.04


@pytest.mark.parametrize("power", [12, 9, 6, 4])
def test_inverse_powers_follow_their_law(power):
    table = Table.of(inverse_power(double(1.0)[0], power), 0.04, 300.0, 3000)
    t = double(1.0, 10.0)
    cold, hot = transport.integral(scatter(table, 1.0, 10.0), t, 2, 2).tolist()
    assert abs(hot / cold / 10 ** (-2 / power) - 1) < 1e-6


def test_maxwell_molecules_have_the_known_cross_sections():
    """A_1(5) = 0.422, A_2(5) = 0.436 (Chapman and Cowling, table 3), to those digits."""
    table = Table.of(inverse_power(double(1.0)[0], 4), 0.04, 300.0, 3000)
    found = scatter(table, 1.0, 1.0)
    # Q_l = 2 pi (nu K / (2 E))^(2/nu) A_l with V = K / r^nu, nu = 4
    scale = 2 * math.pi * (4 / (2 * found.energy)) ** 0.5
    for row, known in ((0, 0.422), (1, 0.436)):
        ratio = found.sections[row] / scale
        assert float((ratio - ratio.mean()).abs().max()) < 1e-6
        assert float(ratio.mean()) == pytest.approx(known, abs=6e-4)


def test_matrices_are_diagonal_for_maxwell_molecules_with_the_known_eigenvalues():
    """Which fixes the weight of O_44: lambda_r of Wang Chang and Uhlenbeck's operator.

    With p = (1 - cos^2 chi) / 4 the third eigenvalues over the first are
    1 + q4 / (4 q2) for the stress and 3/2 + q4 / (4 q2) for the heat flux, q_l the mean of
    1 - cos^l chi; norms of the Sonine polynomials give 63/8 and 21/8.
    """
    q2, q4 = 0.8, 1.1
    o = {(2, s): torch.tensor([q2 * math.gamma(s + 1.5)]) for s in (2, 3, 4, 5, 6)}
    o[4, 4] = torch.tensor([q4 * math.gamma(5.5)])
    o = {key: value.double() for key, value in o.items()}
    viscous, thermal = transport._matrices(o)
    for matrix, base, norm in ((viscous, 1.0, 63 / 8), (thermal, 1.5, 21 / 8)):
        m = matrix[0] / matrix[0, 0, 0]
        off = m - torch.diag(torch.diag(m))
        assert float(off.abs().max()) < 1e-5
        assert float(m[2, 2]) == pytest.approx(norm * (base + q4 / (4 * q2)), rel=1e-5)


def test_hard_spheres_have_the_known_factors():
    """1.014851, 1.015879 and 1.022727, 1.024819 (Chapman and Cowling, section 10.21)."""
    o = {(2, s): torch.tensor([math.factorial(s + 1) * 2 / 3]) for s in (2, 3, 4, 5, 6)}
    o[4, 4] = torch.tensor([math.factorial(5) * 4 / 5])
    o = {key: value.double() for key, value in o.items()}
    viscous, thermal = transport._matrices(o)
    found = [float(transport._factor(m, n)) for m in (viscous, thermal) for n in (2, 3)]
    assert found == pytest.approx([1.014851, 1.015879, 1.022727, 1.024819], abs=1e-6)


ARGON = {
    100.0: (8.126, 6.343, -182.37), 300.0: (22.668, 17.708, -15.18),
    500.0: (33.916, 26.530, 7.01), 1000.0: (55.443, 43.424, 20.32),
    2000.0: (88.592, 69.407, 24.37),
}  # fmt: skip
HELIUM = {
    100.0: (9.552, 74.72, 11.666), 300.0: (19.907, 155.63, 11.819),
    500.0: (28.327, 221.38, 11.007), 1000.0: (46.350, 362.05, 9.550),
    2000.0: (77.242, 603.04, 7.956),
}  # fmt: skip
"""K -> viscosity in uPa s, conductivity in mW/(m K), B in cm^3/mol, by an independent
quadrature of the same potentials; argon is within 0.06 % of May et al.,
Metrologia 43 (2006)."""


@pytest.mark.parametrize(
    ("symbol", "known", "bound"), [("Ar", ARGON, 1.5e-4), ("He", HELIUM, 1.5e-4)]
)
def test_noble_gases_have_the_known_transport(symbol, known, bound):
    gas, t = PUBLISHED[symbol], double(*known)
    table = gas.table()
    found = scatter(table, float(t[0]), float(t[-1]))
    if symbol == "He":
        found = with_quantum(found, table, gas.mass, gas.bosons)
    ours = transport.transport(found, t, 1.0)
    viscosity, conductivity, virial = (
        double(*(row[i] for row in known.values())) for i in range(3)
    )
    mu = ours.viscosity * UNIT * gas.mass**0.5
    assert float((mu / viscosity - 1).abs().max()) < bound
    heat = ours.conductivity * UNIT * gas.mass**0.5 * 8.31446261815324 / gas.mass
    assert float((heat / conductivity - 1).abs().max()) < bound
    b = second_virial(table, t, gas.mass)
    assert float((b - virial).abs().max()) < 0.03


def test_helium_has_the_published_well():
    table = PUBLISHED["He"].table()
    assert table.marks.minimum is not None
    at = float(table.marks.minimum.exp())
    assert at == pytest.approx(2.96760, abs=1e-5)
    assert float(-table(double(at))) == pytest.approx(10.9966, abs=1e-4)


@pytest.mark.parametrize("symbol", ["Ne", "Ar", "Kr", "Xe"])
def test_the_inside_of_a_published_potential_joins_its_wall(symbol):
    """In value and slope, but for a ten-thousandth: two published forms meet there."""
    pair = PUBLISHED[symbol].pair
    assert isinstance(pair, TangToennies)
    r = 10 * pair.inner * torch.tensor([1 - 1e-6, 1 + 1e-6], dtype=torch.float64)
    value = pair(r.requires_grad_())
    (slope,) = torch.autograd.grad(value.sum(), r)
    for inner, outer in (value.tolist(), slope.tolist()):
        assert inner == pytest.approx(outer, rel=1e-4)


def test_damping_keeps_its_digits():
    x = double(1e-3, 0.1, 1.0, 6.9, 7.1, 30.0)
    exact = [1 - math.fsum(math.exp(-v) * v**k / math.factorial(k) for k in range(7))
             for v in x.tolist()]  # fmt: skip
    exact[0] = (1e-3) ** 7 / math.factorial(7) * (1 - 7e-3 / 8)
    assert damped(6, x).tolist() == pytest.approx(exact, rel=1e-6)


def test_derivatives_are_those_of_the_values():
    """By epsilon and sigma, against central differences, cold (orbiting) and hot."""
    t = double(0.6, 2.0, 30.0, 300.0)

    def mu(epsilon: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        table = Table.of(lennard_jones(epsilon, sigma), 0.2, 60.0)
        return transport.transport(scatter(table, 0.6, 300.0), t, 1.0).viscosity

    p = [double(1.0)[0].requires_grad_(), double(1.0)[0].requires_grad_()]
    value = mu(*p)
    for i in range(4):
        slopes = torch.autograd.grad(value[i], p, retain_graph=True)
        for n, slope in enumerate(slopes):
            ends = []
            for step in (1e-4, -1e-4):
                q = [double(1.0)[0], double(1.0)[0]]
                q[n] = q[n] + step
                ends.append(float(mu(*q)[i].detach()))
            difference = (ends[0] - ends[1]) / 2e-4
            assert float(slope) == pytest.approx(difference, rel=3e-5)
        # mu = sqrt(T) g(T / epsilon) / sigma^2
        assert float(slopes[1]) == pytest.approx(-2 * float(value[i].detach()), rel=1e-6)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: scatter(reduced(smallest=0.5), 1.0, 1e6), "is known up to"),
        (lambda: scatter(reduced(), 2.0, 1.0), "positive and ordered"),
        (lambda: scatter(reduced(), math.nan, 1.0), "positive and ordered"),
        (
            lambda: transport.transport(scatter(reduced(), 1.0, 2.0), double(3.0), 1.0),
            "serve 1 to 2",
        ),
        (
            lambda: transport.transport(scatter(reduced(), 1.0, 2.0), double(1.5), 1.0, 4),
            "allowed are",
        ),
        (lambda: scatter(Table.of(lambda r: -1 / r, 0.2, 60.0), 1.0, 2.0), "wall"),
        (
            lambda: scatter(
                Table.of(lambda r: r**-12 + torch.cos(6 * r) / r**2, 0.2, 60.0), 1.0, 2.0
            ),
            "minima at",
        ),
    ],
)
def test_what_is_not_covered_is_refused(call, words):
    with pytest.raises(InputError, match=words):
        call()


def test_roots_without_their_newton_step_give_wrong_slopes(monkeypatch):
    """A planted defect: values stay right, and the law of sigma does not hold."""

    def slope() -> tuple[float, float]:
        sigma = double(1.0)[0].requires_grad_()
        table = Table.of(lennard_jones(double(1.0)[0], sigma), 0.25, 60.0)
        found = transport.transport(scatter(table, 0.9, 0.9), double(0.9), 1.0).viscosity
        (d,) = torch.autograd.grad(found.sum(), sigma)
        return float(found.detach()), float(d)

    right = pairs.root
    value, before = slope()
    monkeypatch.setattr(scattering, "root", lambda *a: right(*a).detach())
    again, after = slope()
    assert again == pytest.approx(value, rel=1e-10)
    assert before == pytest.approx(-2 * value, rel=1e-6)
    assert abs(after + 2 * value) > 0.05 * value


def argon_table(knots: int = 64) -> transport.Transport:
    found = scatter(PUBLISHED["Ar"].table(), 200.0, 3000.0)
    return transport.Transport.of(found, 200.0, 3000.0, 1.0, knots)


def test_a_transport_table_is_the_quadrature_and_refuses_what_is_outside():
    table = argon_table()
    found = scatter(PUBLISHED["Ar"].table(), 200.0, 3000.0)
    t = double(213.0, 300.0, 777.0, 2900.0)
    direct = transport.transport(found, t, 1.0)
    assert float((table.mu(t) / direct.viscosity - 1).abs().max()) < 2e-6
    assert float((table.number(t) / direct.prandtl - 1).abs().max()) < 2e-6
    up, down = table.mu(t * 1.001).log(), table.mu(t * 0.999).log()
    slope = (up - down) / math.log(1.001 / 0.999)
    assert float((table.exponent(t) / slope - 1).abs().max()) < 1e-5
    for outside in (199.0, 3001.0, math.nan):
        with pytest.raises(InputError, match="serves 200 to 3000"):
            table.mu(double(300.0, outside))
    with pytest.raises(InputError, match="covariance"):
        table.error(t)


def test_a_transport_table_keeps_derivatives_and_error_bars():
    """mu = sqrt(T) g(T / eps) / sigma^2: 1 % of sigma is 2 % of mu everywhere."""
    epsilon, sigma = double(1.0)[0], double(1.0)[0].requires_grad_()
    pair = Table.of(lennard_jones(epsilon, sigma), 0.2, 60.0)
    table = transport.Transport.of(scatter(pair, 1.0, 10.0), 1.0, 10.0, 1.0, 16)
    t = double(1.5, 7.0)
    slopes = [
        torch.autograd.grad(m.log(), sigma, retain_graph=True)[0] for m in table.mu(t)
    ]
    assert [float(x) for x in slopes] == pytest.approx([-2.0, -2.0], rel=1e-4)
    jacobian = torch.full((16, 1), -2.0, dtype=torch.float64)
    known = table.with_covariance(double(1e-4)[:, None], jacobian)
    assert known.error(t).tolist() == pytest.approx([0.02, 0.02], rel=1e-12)
