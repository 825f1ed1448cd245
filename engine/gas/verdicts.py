"""What is checked of a run of gas dynamics: positivity, speeds, and exact limits."""

from collections.abc import Iterator, Mapping

from torch import Tensor

from ..protocols import Check

NEGATIVE = 1e-3
"""Part of a cell's density that may lie in negative values of f. They are in the tails,
where a limited scheme and Shakhov's target undershoot; the moments feel their sum."""


def model_checks(seen: Mapping[str, Tensor], name: str = "") -> Iterator[Check]:
    """Yield whether a model stayed where it has a meaning.

    Args:
        seen: what was observed of it at the end.
        name: of a model that is compared; empty for the run's own.
    """
    end = f"_{name}" if name else ""
    if "negative_density" in seen:
        value = float(seen["negative_density"].amax())
        share = float(seen["negative_fraction"].amax())
        note = f"density in negative values of f ({100 * share:.2g} % of all), worst cell"
        yield Check(f"positive_f{end}", "health", value, NEGATIVE, note=note)
    if "complex_fraction" in seen:
        value = float(seen["complex_fraction"].double().amax())
        note = "cells whose characteristic speeds are complex: no hyperbolic system there"
        yield Check(f"real_speeds{end}", "health", value, 0.0, note=note)


__all__ = ["model_checks"]
