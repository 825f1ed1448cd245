r"""Mutual diffusion of two dilute gases (Chapman and Enskog, to second order).

With the reduced mass m, ``Omega_ls = 1/2 sqrt(kT / (2 pi m)) O_ls`` of unlike molecules and
``O_ls`` of :mod:`.transport`, the first approximation is

    n [D_12]_1 = 3 kT / (16 m Omega_11),

whatever the composition, and the second is larger by ``1 / (1 - Delta_12)`` (S. Chapman and
T. G. Cowling, The Mathematical Theory of Non-Uniform Gases, 3rd ed., section 9.81).
"""

import math
from collections.abc import Sequence

from torch import Tensor

from ...errors import InputError
from .scattering import CrossSections
from .transport import integral, transport


def diffusion(
    like: Sequence[CrossSections],
    unlike: CrossSections,
    temperatures: Tensor,
    masses: Sequence[float],
    fractions: Sequence[float],
    order: int = 2,
) -> Tensor:
    """Return ``n D_12``, number density times coefficient, ``[temperatures]``.

    Args:
        like: cross sections of each gas alone.
        unlike: of one molecule of each.
        temperatures: ``[temperatures]`` kT, inside the range of all cross sections.
        masses: of both, in units in which ``sqrt(mass kT)`` is a momentum.
        fractions: of the molecules.
        order: of the Sonine expansion, 1 or 2.

    Raises:
        InputError: a temperature outside the range, or another order.
    """
    if order not in (1, 2):
        raise InputError(f"order: {order}; allowed are 1, 2")
    o11, o12, o13 = (integral(unlike, temperatures, 1, s) for s in (1, 2, 3))
    o22 = integral(unlike, temperatures, 2, 2)
    whole = sum(masses)
    reduced = masses[0] * masses[1] / whole
    first = 3 / 8 * (2 * math.pi * temperatures / reduced).sqrt() / o11
    if order == 1:
        return first
    a, b, c = o22 / (5 * o11), (5 * o12 - o13) / (5 * o11), 2 * o12 / (5 * o11) - 1
    (m1, m2), (x1, x2) = (m / whole for m in masses), fractions
    unit = 2 / 3 * whole * first
    p1, p2 = (
        m / whole * unit / transport(found, temperatures, m, 1).viscosity
        for m, found in zip(masses, like, strict=True)
    )
    apart, product = 3 * (m1 - m2) ** 2, 4 * m1 * m2 * a
    q1 = p1 * (6 * m2**2 + (5 - 4 * b) * m1**2 + 2 * product)
    q2 = p2 * (6 * m1**2 + (5 - 4 * b) * m2**2 + 2 * product)
    q12 = apart * (5 - 4 * b) + product * (11 - 4 * b) + 2 * p1 * p2
    above = m1**2 * p1 * x1**2 + m2**2 * p2 * x2**2 + (apart + product) * x1 * x2
    below = q1 * x1**2 + q2 * x2**2 + q12 * x1 * x2
    return first / (1 - 5 * c**2 * above / below)


__all__ = ["diffusion"]
