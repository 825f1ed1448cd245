"""Gas flows as samples, their kinetic solutions, and what the loop asks of closures.

A sample is a flow, not a state: its initial condition and its Knudsen number. The
committee follows it with the moment equations, which is cheap, and the kinetic equation
labels it as a whole, so every label is a time series of closing moments along a flow.
Errors and deviations are root mean squares over faces and times of the scaled closing
moment ``sqrt((M + 1)!) g_{M+1}``, which is of order one far from equilibrium.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...models.closures.face import FaceClosure, FaceStencil
from ..gas.closures.ensemble import ClosureEnsemble
from ..gas.equations.line import from_raw, primitive
from ..gas.flows.lines import DECADES, Flow, box, flow, knudsen_numbers, solve
from ..protocols import Committee
from .comparison import Reference, run_moments
from .label_store import Codec
from .trainers.closure import faces_of, row_of_cells


@dataclass(frozen=True)
class FlowSample:
    """One random flow of a family, named by what it is drawn from.

    Attributes:
        family: see :mod:`..gas.flows.lines`.
        seed: of the family.
        index: which flow; also chooses the decade of its Knudsen number.
        deviation: of the committee along the flow; NaN if unknown.
    """

    family: str
    seed: int
    index: int
    deviation: float = math.nan

    @property
    def flow(self) -> Flow:
        """The initial condition and the Knudsen number."""
        return flow(self.family, self.seed, self.index)

    @property
    def stratum(self) -> str:
        """The family, and the decade of the Knudsen number where it has one."""
        if self.family == "transition":
            return self.family
        decade = self.index % DECADES - 3
        return f"{self.family} Kn 1e{decade} to 1e{decade + 1}"


@dataclass(frozen=True)
class FlowLabel:
    """The kinetic solution of a flow, as moments on the grid of the closure.

    Attributes:
        raw: ``[times, cells, M + 2]`` raw moments, cell averages.
        knudsen: ``[cells]``.
    """

    raw: Tensor
    knudsen: Tensor


def pack_flow(sample: FlowSample) -> dict[str, Tensor]:
    """Return what decides a label: the family and the numbers that it is drawn with."""
    return {
        "family": torch.tensor(list(sample.family.encode()), dtype=torch.uint8),
        "draw": torch.tensor([sample.seed, sample.index]),
    }


def unpack_flow(tensors: Mapping[str, Tensor]) -> FlowSample:
    """Undo :func:`pack_flow`."""
    family = bytes(tensors["family"].tolist()).decode()
    seed, index = tensors["draw"].tolist()
    return FlowSample(family, seed, index)


def pack_label(label: FlowLabel) -> dict[str, Tensor]:
    """Return a label as tensors."""
    return {"raw": label.raw, "knudsen": label.knudsen}


def unpack_label(tensors: Mapping[str, Tensor]) -> FlowLabel:
    """Undo :func:`pack_label`."""
    return FlowLabel(tensors["raw"], tensors["knudsen"])


FLOWS = Codec(pack_flow, unpack_flow)
LABELS = Codec(pack_label, unpack_label)


def scaled_fluxes(modules: Sequence[FaceClosure], row: FaceStencil) -> Tensor:
    """Return every member's scaled closing moment at the faces, ``[members, rows, faces]``.

    Without the gates of range: the network itself is evaluated.
    """
    return torch.stack([module.smooth(_flux(module, row), row) for module in modules]) / (
        modules[0].unit(row)
    )


def _flux(module: FaceClosure, row: FaceStencil) -> Tensor:
    z = module.normalised(*module.inputs(row))
    return module.scaled_moment(z) * module.onset_gate(row) * module.unit(row)


def deviation(modules: Sequence[FaceClosure], row: FaceStencil) -> Tensor:
    """Return the members' standard deviation at the faces, ``[rows, faces]``."""
    return scaled_fluxes(modules, row).std(0, correction=0)


def flux_errors(
    committee: Committee, data: Sequence[tuple[FlowSample, FlowLabel]]
) -> Tensor:
    """Return the error of the mean closing moment along labelled flows, ``[samples]``."""
    errors = [_flux_error(committee, label) for _, label in data]
    return torch.tensor(errors, dtype=torch.float64)


@torch.no_grad()
def _flux_error(committee: Committee, label: FlowLabel) -> float:
    """Return the error of the mean closing moment along a labelled flow (RMS)."""
    modules = _closures(committee)
    w = from_raw(label.raw, label.raw.shape[-1] - 1)
    row = row_of_cells(w[..., :-1], label.knudsen.expand(w.shape[:2]), 1.0 / w.shape[1])
    low, high = faces_of(w[..., -1:])
    true = 0.5 * (low + high)[..., 0] / modules[0].unit(row)
    return float((scaled_fluxes(modules, row).mean(0) - true).square().mean().sqrt())


@torch.no_grad()
def features(committee: Committee, samples: Sequence[FlowSample]) -> Tensor:
    """Return where flows lie in the closure's inputs, ``[samples, 2 inputs]``.

    Mean and standard deviation over the faces of the network's inputs at the start; with
    the Knudsen number among them they are all that decides a flow.
    """
    first = _closures(committee)[0]
    if not samples:
        return torch.empty(0, 2 * (first.known + len(first.scale)), dtype=torch.float64)
    raw, knudsen = beginning(samples, 100, first.config.order)
    row = row_of_cells(from_raw(raw, first.config.order), knudsen, 0.01)
    z = first.normalised(*first.inputs(row))
    return torch.cat([z.mean(1), z.std(1)], 1).double()


def beginning(
    samples: Sequence[FlowSample], cells: int, order: int
) -> tuple[Tensor, Tensor]:
    """Return raw moments ``[samples, cells, M + 1]`` and Kn ``[samples, cells]`` at 0."""
    some = [sample.flow for sample in samples]
    return solve(some, (0.0,), cells, 72, cells, order, 7.2)[0], on_cells(some, cells)


def on_cells(some: Sequence[Flow], cells: int) -> Tensor:
    """Return the Knudsen number of flows in every cell, ``[flows, cells]``."""
    kn = knudsen_numbers(some, box(cells))
    return kn if kn.dim() == 2 else kn[:, None].expand(-1, cells).clone()


def _closures(committee: Committee) -> list[FaceClosure]:
    return [module for module in committee if isinstance(module, FaceClosure)]


@torch.no_grad()
def followed(
    committee: Committee, samples: Sequence[FlowSample], times: Sequence[float], cells: int
) -> Tensor:
    """Follow flows with the committee's mean; return the deviation along each.

    A run that breaks down counts as a deviation of one, the size of a scaled moment.

    Args:
        committee: closures.
        samples: flows, side by side in one batch.
        times: from 0, rising; when the deviation is looked at.
        cells: of the moment equations.
    """
    modules = _closures(committee)
    order = modules[0].config.order
    raw, knudsen = beginning(samples, cells, order)
    start = Reference(raw[None].expand(len(times), *raw.shape), knudsen, tuple(times))
    moments = run_moments(start, order, ClosureEnsemble(modules)).moments
    w = primitive(moments)
    seen = torch.stack(
        [deviation(modules, row_of_cells(each, knudsen, 1.0 / cells)) for each in w]
    )
    size = seen.square().mean((0, 2)).sqrt()
    return torch.where(size.isfinite(), size, 1.0).clamp(max=1.0)


def carried_deviation(committee: Committee, samples: Sequence[FlowSample]) -> Tensor:
    """Return the deviation that the explorer measured, ``[samples]``."""
    return torch.tensor([sample.deviation for sample in samples], dtype=torch.float64)
