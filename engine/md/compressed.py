"""Deep Potentials at full speed: the network's radial functions as a small shared basis."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...models.potentials.deep_potential import (
    ChebyshevRadial,
    DeepPotential,
    EmbeddingRadial,
    GramContraction,
    MomentContraction,
)
from ...models.potentials.sums import ZblSumPotential
from ..kernels.contraction import Contraction, contract, contract_back
from ..kernels.descriptor import Shape, basis_moments, forces_from_slopes
from .classical import Sum, Zbl, symmetric
from .expanded import expanded
from .learned import FastForm, LearnedPotential, finite, pair_gradients
from .neighbours import Neighbours, build_neighbours
from .potential import Potential
from .state import Interaction, ParticleState
from .vectorised import Vectorised, vectorise

NEAREST = 0.5
"""Distance, angstrom, below which the series of an embedding network is held constant."""

MOST_FUNCTIONS = 64

TOLERANCE = {torch.float64: 1e-7, torch.float32: 1e-3}
"""Largest difference of pair gradients from the network's, relative to the largest: in
f32 both are rounded, and the gradients of a perfect crystal cancel almost entirely."""


@dataclass(frozen=True)
class CompressedPotential(FastForm):
    """The same energy, forces, virial and deviation as the network, many times faster.

    Attributes:
        network: what is computed.
        mix: ``[members, species, basis, channels]``; radial functions are
            ``phi_m = sum_b mix_bm e(r) T_b(x(r))``.
        form: ``(switch start, cutoff, largest s)`` for the kernels.
        shape: sizes that the kernels are compiled for.
        vectorised: evaluates it on a CPU; None where the general kernels must.
    """

    network: LearnedPotential
    mix: Tensor
    form: Tensor
    shape: Shape
    vectorised: Vectorised | None = None

    def __call__(self, state: ParticleState, neighbours: Neighbours) -> Interaction:
        """Energy, forces, virial of every system, and the deviation of a committee."""
        places = neighbours.places(state.positions, state.system, state.cell)
        if self.vectorised is not None:
            energies = self._biased(places, state, neighbours, self.vectorised)
            forces, deviation, virial = self.vectorised.forces(state, neighbours)
        else:
            energies, slopes = self._energies(places, state, neighbours)
            forces, deviation, virial, _ = forces_from_slopes(
                places, neighbours, state.species, self.form, slopes, self.shape
            )
        rows = torch.cat([energies.double().mean(0)[:, None], virial.double()], 1)
        sums = torch.segment_reduce(rows, "sum", lengths=neighbours.layout.counts, axis=0)
        return Interaction(
            sums[:, 0].contiguous(), forces, symmetric(sums[:, 1:]), deviation
        )

    def _biased(
        self,
        places: Tensor,
        state: ParticleState,
        neighbours: Neighbours,
        vectorised: Vectorised,
    ) -> Tensor:
        raw = vectorised.energies(places, state, neighbours).double()
        central = state.species[neighbours.atom.long()].long()
        return raw + self.network.module.fitting.energy_bias[central]

    def _energies(
        self, places: Tensor, state: ParticleState, neighbours: Neighbours
    ) -> tuple[Tensor, Tensor]:
        """Energies ``[members, rows]`` and ``dE/d(sums)``."""
        module: DeepPotential = self.network.module
        members, count, basis, channels = self.mix.shape
        sums = basis_moments(
            places, neighbours, state.species, self.form, count, self.shape
        )
        rows, components = sums.shape[2:]
        flat = self.mix.reshape(members, count * basis, channels)
        scale = module.component_scale
        moments = flat.mT.reshape(-1, count * basis) @ sums.view(count * basis, -1)
        moments = moments.view(members, channels, rows, components).mul_(scale)
        form = _contraction(module.contraction)
        with torch.enable_grad():
            features = contract(moments, sum(module.contraction.blocks), form)
            features.requires_grad_()
            central = state.species[neighbours.atom.long()].long()
            energies = module.fitting(features, central)
            (slope,) = torch.autograd.grad(energies.sum(), features)
        slope = contract_back(moments, slope, form).mul_(scale)
        slopes = flat @ slope.view(members, channels, -1)
        return energies.detach(), slopes.view(members, count, basis, rows, components)

    def gradients(
        self, state: ParticleState, neighbours: Neighbours
    ) -> tuple[Tensor, Tensor]:
        """Energies ``[members, rows]`` and pair gradients ``[members, rows, slots, 3]``."""
        places = neighbours.places(state.positions, state.system, state.cell)
        if self.vectorised is not None:
            energies = self._biased(places, state, neighbours, self.vectorised)
            return energies, self.vectorised.gradients(state, neighbours)
        energies, slopes = self._energies(places, state, neighbours)
        found = forces_from_slopes(
            places, neighbours, state.species, self.form, slopes, self.shape
        )
        return energies, found[3]


def _contraction(module: nn.Module) -> Contraction:
    """The kernels' description of a contraction: axis, lmax, products, gram."""
    if isinstance(module, GramContraction):
        return module.axis, 1, 0, True
    assert isinstance(module, MomentContraction)
    return module.axis, module.lmax, module.products, False


def compress(network: LearnedPotential, tolerance: float) -> CompressedPotential | None:
    """Return the compressed form of a Deep Potential, None for other forms.

    A network with weights that are not finite has none: its maxima would leave them out.
    The Chebyshev mix is exact. An embedding network is expanded with as many functions as
    ``tolerance`` (relative to its largest value) needs; None if it needs too many.
    """
    module: Any = network.module
    if type(module) is not DeepPotential or not finite(module):
        return None
    radial: Any = module.radial
    like = next(module.parameters())
    if isinstance(radial, ChebyshevRadial):
        mix = radial.mix.detach().contiguous()
        form = like.new_tensor([radial.start, radial.cutoff, 1.0]).detach()
        shape = (radial.basis, module.lmax, 0)
        fast = vectorise(module, mix, form, shape, tolerance)
        return CompressedPotential(network, mix, form, shape, fast)
    if not isinstance(radial, EmbeddingRadial):
        return None
    nearest = torch.tensor([NEAREST], dtype=torch.float64)
    largest = float(radial.argument(nearest))
    mix = _series(radial, largest, tolerance)
    if mix is None:
        return None
    form = like.new_tensor([radial.start, radial.cutoff, largest]).detach()
    shape = (mix.shape[2], module.lmax, 1)
    fast = vectorise(module, mix.to(like), form, shape, tolerance)
    return CompressedPotential(network, mix.to(like).contiguous(), form, shape, fast)


@torch.no_grad()
def _series(radial: EmbeddingRadial, largest: float, tolerance: float) -> Tensor | None:
    """Chebyshev coefficients ``[members, species, basis, channels]`` of phi(s) / s."""
    like = next(radial.parameters())
    exact = _double(radial)
    # the tail bounds the error of the function; its slope loses up to two digits
    tolerance = 0.02 * max(tolerance, 1e-9)
    for count in (16, 24, 32, 40, 48, MOST_FUNCTIONS):
        series = exact.series(2 * count, largest)
        left_out = series[:, :, count:].abs().sum(2).max()
        if float(left_out) <= tolerance * float(series.abs().max()):
            return series[:, :, :count].to(like)
    return None


def _double(radial: EmbeddingRadial) -> EmbeddingRadial:
    weight = radial.weights[0]
    neurons = [w.shape[-1] for w in radial.weights]
    copy = EmbeddingRadial(
        weight.shape[0], weight.shape[1], neurons, radial.start, radial.cutoff
    )
    copy.load_state_dict(radial.state_dict())
    return copy.double()


@dataclass(frozen=True)
class Agreement:
    """How far the compressed form is from its network, on some atoms of a structure.

    Attributes:
        energy: largest difference of an atom's energy, eV.
        gradient: largest difference of a pair's gradient, eV/angstrom.
        scale: largest gradient, eV/angstrom.
    """

    energy: float
    gradient: float
    scale: float

    def within(self, tolerance: float) -> bool:
        """Whether the pair gradients agree to ``tolerance`` of the largest."""
        return self.gradient <= tolerance * self.scale


def compare(
    compressed: CompressedPotential, state: ParticleState, atoms: int = 24
) -> Agreement:
    """Evaluate network and compressed form on the first ``atoms`` rows of a structure."""
    table = build_neighbours(state, compressed.cutoff, 0.0)
    places = table.places(state.positions, state.system, state.cell)
    rows = torch.arange(min(atoms, state.atoms), device=places.device)
    width = int(table.rows.max())
    slots = table.slots[rows, :width].long()
    inside = torch.arange(width, device=places.device) < table.rows[rows, None]
    slots = torch.where(inside, slots, table.home[rows].long()[:, None])
    d = places[slots] - places[table.home[rows].long()][:, None]
    inside = inside & (d.square().sum(-1) < compressed.cutoff**2)
    energies, expected = pair_gradients(
        compressed.network.module,
        d,
        state.species[table.parent[slots].long()].long(),
        inside,
        state.species[table.atom[rows].long()].long(),
    )
    found_energies, found = compressed.gradients(state, table)
    found = torch.where(inside[None, ..., None], found[:, rows, :width], 0.0)
    expected = torch.where(inside[None, ..., None], expected, 0.0)
    return Agreement(
        float((found_energies[:, rows] - energies).abs().max()),
        float((found - expected).abs().max()),
        float(expected.abs().max()),
    )


def fast(potential: Potential, state: ParticleState) -> Potential:
    """Return the compressed form of a network where it agrees with it on a structure."""
    if not isinstance(potential, LearnedPotential):
        return potential
    if isinstance(whole := potential.module, ZblSumPotential):
        network = LearnedPotential(whole.network, potential.deviation_factor)
        species, repulsion = potential.species, whole.repulsion
        charges = tuple(repulsion.charges.tolist())
        core = Zbl(charges, repulsion.inner, repulsion.outer, species)
        return Sum((fast(network, state), core), potential.cutoff, species)
    return expanded(potential) or agreeing(potential, state) or potential


def agreeing(network: LearnedPotential, state: ParticleState) -> CompressedPotential | None:
    """Return a compressed form that agrees with the network on a structure.

    Within :data:`TOLERANCE`; a shorter series is tried first, then a finer one. None if
    neither agrees.
    """
    tolerance = TOLERANCE[state.positions.dtype]
    for share in (1.0, 0.2):
        compact = compress(network, share * tolerance)
        if compact is not None and compare(compact, state).within(tolerance):
            return compact
    return None
