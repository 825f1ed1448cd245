"""Training of closures that are hyperbolic by construction: regression on D_{M+1}.

The label is exact, as for :mod:`.closure`: the change of the first moment that is not
carried, in a frozen frame, at every face of the kinetic solution.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ....models.closures.spectrum import SpectralClosure, scaled_changes
from .closure import Labelled, calibrate, descend, examples, faces_of, joined


@dataclass(frozen=True)
class Slopes:
    """Rows of faces with their labels.

    Attributes:
        z: ``[rows, faces, inputs]``.
        gate: ``[rows, faces]`` of the Knudsen number.
        theta: ``[rows, faces]``.
        scaled: ``[rows, faces, M + 1]`` scaled changes.
        true: ``[rows, faces]`` D_{M+1}.
    """

    z: Tensor
    gate: Tensor
    theta: Tensor
    scaled: Tensor
    true: Tensor


def slopes(w: Tensor, z: Tensor, gate: Tensor, spacing: float) -> Slopes:
    """Return the labels of rows ``w [rows, cells, M + 2]`` in periodic boxes."""
    low, high = faces_of(w)
    mean, slope = 0.5 * (low + high), (high - low) / spacing
    order = w.shape[-1] - 2
    turn = mean[..., order] * slope[..., 1] + 0.5 * mean[..., order - 1] * slope[..., 2]
    true = slope[..., order + 1] + turn
    scaled = scaled_changes(mean[..., :-1], slope[..., :-1])
    found = (z, gate, mean[..., 2], scaled, true)
    return Slopes(*(each.to(z.dtype) for each in found))


def slope_loss(module: SpectralClosure, some: Slopes, at: Tensor) -> Tensor:
    """Return the unexplained share of D_{M+1} of the rows ``at``, gates of range open."""
    speeds = module.speeds(some.z[at], some.gate[at])
    said = module.change(speeds, some.theta[at], some.scaled[at])
    true = some.true[at]
    floor = 0.1 * some.true.square().mean()
    return ((said - true).square().mean(1) / (true.square().mean(1) + floor)).mean()


def fit(
    module: SpectralClosure,
    data: Sequence[Labelled],
    steps: int,
    batch: int,
    rate: float,
    rng: torch.Generator,
    log: Callable[[int, float], None] = lambda step, loss: None,
) -> Slopes:
    """Calibrate and regress ``module``, in place; return what it learned from.

    Args:
        module: new.
        data: flows in periodic boxes on one grid.
        steps: of Adam.
        batch: rows in a step.
        rate: learning rate at the start; it falls linearly.
        rng: of the batches.
        log: told step and loss.
    """
    rows = torch.cat([each.w.flatten(0, 1) for each in data])
    kn = [each.knudsen for each in data]
    count = [each.w.shape[0] for each in data]
    cells = rows.shape[1]
    wide = [
        (k if k.dim() == 2 else k[:, None].expand(-1, cells)).repeat(n, 1)
        for k, n in zip(kn, count, strict=True)
    ]
    with torch.no_grad():
        some = joined([examples(module.eyes, rows, torch.cat(wide), 1.0 / cells)])
        some = calibrate(module.eyes, [some])[0]
        labels = slopes(rows, some.z, some.gate, 1.0 / cells)

    def loss(step: int) -> Tensor:
        del step
        return slope_loss(
            module, labels, torch.randint(0, len(rows), (batch,), generator=rng)
        )

    for step, value in descend(module.net, loss, steps, rate):
        log(step, value)
    return labels
