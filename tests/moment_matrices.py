"""The matrices of Hermite moment equations, written out for the tests."""

from scalebridge.engine.gas.equations import hermite


def apply(b, w, d, axis):
    """``A_axis(w) d`` of the system ``w_t + sum_k A_k w_k = 0``."""
    f = hermite.coefficients(b, w)
    frozen = hermite.multiplied(b, w, hermite.to_frozen(b, w, f, d), axis)
    return hermite.from_frozen(b, w, f, frozen)


def absolute(b, w, d, axis, sonic=hermite.SONIC):
    """``|A_axis(w)| d``."""
    f = hermite.coefficients(b, w)
    frozen = hermite.upwinded(b, w, hermite.to_frozen(b, w, f, d), axis, sonic)
    return hermite.from_frozen(b, w, f, frozen)
