"""The shared names of what is measured, the conservation account, and the guards.

Every gas world observes, with shapes ``[batch, *grid.shape]`` and a trailing component
axis where there is one (all non-dimensional):

==================  =====================================================================
``density``         rho
``velocity``        u, one component per resolved direction
``temperature``     T = p / rho
``stress``          sigma = P - p I: full deviatoric pressure tensor ``[..., V, V]``
``heat_flux``       q, ``[..., V]``
``entropy``         ``- integral f ln f dv`` per volume; fluids: ``rho (D/2 ln T - ln rho)``
                    up to the same additive multiple of rho
``mass``, ``momentum``, ``energy``  totals over the box, ``[batch]``, ``[batch, V]``
==================  =====================================================================
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import GuardError, InputError

Observed = Mapping[str, Tensor]


def refuse_unphysical(
    step: int, density: Tensor, temperature: Tensor, remedy: str, state: object = None
) -> None:
    """Stop where density or temperature is not positive or not finite.

    Args:
        step: number of the step that made them.
        density: ``[batch, *cells]``.
        temperature: same shape.
        remedy: what the user can change, part of the message.
        state: the state to save with the error.

    Raises:
        GuardError: names the first cell, the step and the remedy.
    """
    ends = [*torch.aminmax(density), *torch.aminmax(temperature)]
    a, b, c, d = torch.stack(ends).tolist()  # one wait for the device, not four
    if a > 0 and c > 0 and b < math.inf and d < math.inf:
        return
    for name, field in (("density", density), ("temperature", temperature)):
        bad = ~((field > 0) & torch.isfinite(field))
        if not bool(bad.any()):
            continue
        where = torch.nonzero(bad)[0].tolist()
        value = float(field[tuple(where)])
        raise GuardError(
            f"{name} {value:.4g} in system {where[0]}, cell {tuple(where[1:])} "
            f"at step {step}; {remedy}",
            step,
            state,
        )


def unphysical(density: Tensor, temperature: Tensor) -> Tensor:
    """Return where density or temperature is not positive or not finite.

    On a device a step marks such cells with NaN, which stays until the next report, where
    the guard looks: the host need not wait for the device in every step.
    """
    least, most = torch.minimum(density, temperature), torch.maximum(density, temperature)
    return ~((least > 0) & torch.isfinite(most))


def watch(
    made: Tensor, density: Tensor, temperature: Tensor, remedy: str, after: Any
) -> None:
    """Refuse what a step made, or mark it for the next report on a device.

    Args:
        made: what a step made; broadcasts with density as ``[batch, n, *cells]``.
        density: ``[batch, *cells]``.
        temperature: same shape.
        remedy: see :func:`refuse_unphysical`.
        after: the state, with its ``step``.
    """
    if made.is_cuda:
        made.masked_fill_(unphysical(density, temperature)[:, None], math.nan)
    else:
        refuse_unphysical(int(after.step), density, temperature, remedy, after)


def check_initial(**fields: Tensor) -> None:
    """Refuse initial fields that must be positive and are not.

    Raises:
        InputError: names the field and its least value.
    """
    for name, value in fields.items():
        if not bool((value > 0).all()):
            raise InputError(f"initial.{name}: {float(value.amin()):.4g}; must be positive")


def extrema(x: Tensor, axis: int) -> Tensor:
    """Return the fraction of inner cells at an extremum along an axis, ``[batch]``."""
    d = torch.diff(x, dim=axis)
    n = d.shape[axis]
    turned = d.narrow(axis, 0, n - 1) * d.narrow(axis, 1, n - 1) < 0
    return turned.flatten(1).to(x.dtype).mean(1)


def entropy(density: Tensor, temperature: Tensor, dimension: int) -> Tensor:
    """Return that of a gas in equilibrium, ``rho (D/2 (ln T + 1 + ln 2 pi) - ln rho)``."""
    constant = 0.5 * dimension * (1.0 + math.log(2 * math.pi))
    warm = 0.5 * dimension * temperature.clamp(min=1e-30).log()
    return density * (warm - density.clamp(min=1e-30).log() + constant)


def totals(
    density: Tensor, velocity: Tensor, temperature: Tensor, dimension: int, volume: float
) -> dict[str, Tensor]:
    """Return mass, momentum and energy of a box, ``[batch, ...]``.

    Args:
        density: ``[batch, *cells]``.
        velocity: ``[batch, *cells, components]``.
        temperature: ``[batch, *cells]``.
        dimension: D, of which each holds ``T / 2``.
        volume: of a cell.
    """
    cells = tuple(range(1, density.dim()))
    energy = 0.5 * density * (velocity.square().sum(-1) + dimension * temperature)
    return {
        "mass": volume * density.sum(cells),
        "momentum": volume * (density[..., None] * velocity).sum(cells),
        "energy": volume * energy.sum(cells),
    }


def on_host(observed: Observed) -> dict[str, Tensor]:
    """Return what was observed as tensors of the CPU, where references are computed."""
    return {name: value.cpu() for name, value in observed.items()}


def positivity_guard(remedy: str) -> Callable[[int, object, Observed], None]:
    """Return a guard of the advance loop that watches density and temperature."""

    def guard(step: int, state: object, observed: Observed) -> None:
        refuse_unphysical(step, observed["density"], observed["temperature"], remedy, state)

    return guard


def relative_drift(now: Observed, then: Observed) -> dict[str, Tensor]:
    """Return the relative change of the conserved totals, ``[batch]`` each.

    Momentum is measured against ``sqrt(2 mass energy)``, since its own total may vanish.
    """
    scale = (2 * then["mass"] * then["energy"]).sqrt()
    return {
        "mass_drift": (now["mass"] - then["mass"]).abs() / then["mass"],
        "momentum_drift": (now["momentum"] - then["momentum"]).abs().amax(-1) / scale,
        "energy_drift": (now["energy"] - then["energy"]).abs() / then["energy"],
    }
