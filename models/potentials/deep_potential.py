"""Deep Potential: the smooth edition (se_e2_a) and its extension to higher moments.

Both are one computation. Around atom i every neighbour j at displacement ``d_ij = r u``
enters the moments

    T_ml = a_l sum_j phi_m(r_ij; species j) Y_lm'(u_ij),

rotation-invariant contractions D of the moments enter a fitting network of the centre's
species, and ``E_i = scale * N(D) + bias``. What differs is a radial part and a contraction:

================  ==============================  =========================================
edition           radial functions phi_m          contraction
================  ==============================  =========================================
smooth edition    s(r) G_m(s(r)), G a network,    T T_<^T over l = 0 and 1 together
                  s(r) = w(r) / r
higher moments    sum_b C_bm cos(b acos x) w(r)   T^0; T^l . T^l for l = 1..3; v.Qv, tr Q^3,
                                                  |Qv|^2 with v = T^1, Q = T^2
================  ==============================  =========================================

with the quintic switch w. A masked neighbour contributes exactly nothing and nothing
depends on the number of slots, so the capacity of a neighbour list is no physics
(DeePMD-kit's ``set_davg_zero``). The higher moments follow the linear Chebyshev mix of
NEP (Fan et al., Phys. Rev. B 104, 104309 (2021), eq. 6) and the moment products of MTP
and ACE; the smooth edition is L. Zhang et al., NeurIPS 2018, arXiv:1805.09003.

Every parameter carries a leading axis ``members``: a committee is one module and one call.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Literal

import torch
from annotated_types import Interval
from torch import Tensor, nn

from ..parts import part
from .contraction import GramContraction, MomentContraction
from .fields import Channels, Degree, Members, Positive, Widths
from .fitting import Fitting
from .harmonics import MAX_DEGREE, harmonics, harmonics_gradient
from .radial import (
    ChebyshevRadial,
    EmbeddingRadial,
    polar,
    series_functions,
    switch,
    switch_gradient,
)

MOST_TERMS = 64
"""Longest series of radial functions that training is worth."""


class DeepPotential(nn.Module):
    """A learned potential: radial functions, moments, contraction, fitting network.

    Attributes:
        config: how it was built; :class:`SmoothEdition` or :class:`HigherMoments`.
        species: chemical symbols, in the order of all species indices.
        cutoff: angstrom.
        members: size of the committee.
        expansion: terms and largest argument of the radial series in training; None: pairs.
    """

    moment_scale: Tensor

    def __init__(self, config: "SmoothEdition | HigherMoments", lmax: int) -> None:
        super().__init__()
        self.config, self.lmax = config, lmax
        self.species, self.cutoff = tuple(config.species), config.cutoff
        self.members = config.members
        self.radial = config.radial()
        self.contraction = config.contraction()
        self.fitting = Fitting(
            config.members,
            len(self.species),
            self.contraction.blocks,
            config.fitting,
            skip=config.skip,
            timestep=config.timestep,
        )
        self.register_buffer("moment_scale", torch.ones(lmax + 1))
        self.expansion: tuple[int, float] | None = None

    def reset(self, seed: int) -> "DeepPotential":
        """Draw all parameters from one generator; members differ by their draws."""
        generator = torch.Generator().manual_seed(seed)
        self.radial.reset(generator)
        self.fitting.reset(generator)
        return self

    def forward(
        self,
        displacements: Tensor,
        neighbour_species: Tensor,
        mask: Tensor,
        species: Tensor,
    ) -> Tensor:
        """Return the energy of every atom.

        Args:
            displacements: ``[atoms, slots, 3]`` angstrom, neighbour minus centre.
            neighbour_species: ``[atoms, slots]`` integer.
            mask: ``[atoms, slots]`` bool, False for empty slots.
            species: ``[atoms]`` integer, species of the centres.

        Returns:
            ``[members, atoms]`` eV, bias included, always f64.
        """
        moments = self.moments(displacements, neighbour_species, mask)
        return self.energies_from_moments(moments, species)

    def moments(
        self, displacements: Tensor, neighbour_species: Tensor, mask: Tensor
    ) -> Tensor:
        """Return ``T [members, atoms, channels, (lmax + 1)^2]``, arguments as above."""
        distance, unit = polar(displacements, mask, self.cutoff)
        angular = harmonics(unit, self.lmax) * mask[..., None]
        total = None
        for index in range(len(self.species)):
            chosen = mask & (neighbour_species == index)
            if isinstance(self.radial, ChebyshevRadial):
                sums = (self.radial.functions(distance) * chosen[..., None]).mT @ angular
                part = self.radial.mix[:, None, index].mT @ sums
            else:
                part = self._embedded(distance, chosen, index).mT @ angular
            total = part if total is None else total + part
        assert total is not None
        return total * self.component_scale

    def _embedded(self, distance: Tensor, chosen: Tensor, index: int) -> Tensor:
        """Radial functions ``[members, atoms, slots, channels]``, 0 where not chosen."""
        if chosen.is_cuda:  # the host would wait for the number of chosen slots
            phi = self.radial(distance.reshape(-1), index).unflatten(1, chosen.shape)
            return torch.where(chosen[..., None], phi, 0.0)
        rows = chosen.reshape(-1).nonzero()[:, 0]
        phi = self.radial(distance.reshape(-1)[rows], index)
        full = phi.new_zeros(self.members, chosen.numel(), phi.shape[-1])
        return full.index_copy(1, rows, phi).unflatten(1, chosen.shape)

    @property
    def component_scale(self) -> Tensor:
        """``a_l`` repeated for every component, ``[(lmax + 1)^2]``."""
        sizes = torch.arange(self.lmax + 1, device=self.moment_scale.device) * 2 + 1
        return self.moment_scale.repeat_interleave(sizes)

    def energies_from_moments(self, moments: Tensor, species: Tensor) -> Tensor:
        """Return ``E [members, atoms]`` in eV (f64); compressed kernels enter here."""
        return self.fitting(self.contraction(moments), species)

    # -- the training path: constants of the data once, no automatic derivative per pair --

    def tables(
        self, displacements: Tensor, mask: Tensor, blocks: Sequence[int]
    ) -> dict[str, Tensor]:
        """Return what depends on the geometry alone, for :meth:`energies_and_gradients`.

        Args:
            displacements: ``[atoms, slots, 3]`` angstrom.
            mask: ``[atoms, slots]``.
            blocks: number of slots of each neighbour species; slots are grouped so.

        Returns:
            Tensors with leading axis ``atoms`` in the dtype of the displacements.
        """
        distance, unit = polar(displacements, mask, self.cutoff)
        inside = mask[..., None].to(unit)
        angular = harmonics(unit, self.lmax) * inside
        slopes = harmonics_gradient(unit, distance, self.lmax) * inside
        tables = {"unit": unit, "angular": angular, "angular_slopes": slopes.movedim(0, 1)}
        if isinstance(self.radial, ChebyshevRadial):
            radial = self.radial.functions(distance) * inside
            tables["radial"] = radial
            tables["radial_slopes"] = self.radial.functions_gradient(distance) * inside
            tables["sums"] = torch.stack(
                [
                    r.mT @ a
                    for r, a in zip(
                        radial.split(blocks, 1), angular.split(blocks, 1), strict=True
                    )
                ],
                1,
            )
        else:
            tables["argument"] = self.radial.argument(distance) * mask
            tables["argument_slopes"] = self.radial.argument_gradient(distance) * mask
            if self.expansion is not None:
                count, largest = self.expansion
                limit = distance.new_full(distance.shape[:1], largest)
                functions, _ = series_functions(
                    tables["argument"], tables["argument_slopes"], limit, count
                )
                tables["largest"] = limit
                parts = zip(
                    functions.split(blocks, 2), angular.split(blocks, 1), strict=True
                )
                tables["sums"] = torch.stack([f @ a for f, a in parts], 1)
        return tables

    @torch.no_grad()
    def expand(self, nearest: float, tolerance: float) -> None:
        """Let :meth:`tables` prepare for radial functions that are series.

        A network of one number costs no more than its values at a few dozen points, which
        say it all; pairs then meet constants only. Linear radial functions need none of it.

        Args:
            nearest: smallest distance of the data, angstrom.
            tolerance: largest term that may be left out, relative to the largest value. The
                number of terms leaves room for the network to change; where too many would
                be needed, networks are evaluated pair by pair.
        """
        if isinstance(self.radial, ChebyshevRadial):
            return
        distance = self.moment_scale.new_tensor(0.99 * nearest)
        largest = float(self.radial.argument(distance))
        terms = self.radial.series(2 * MOST_TERMS, largest).abs().amax((0, 1, 3))
        needed = int((terms > tolerance * terms.max()).nonzero().max()) + 1
        count = 8 * math.ceil((needed + 4) / 8)
        self.expansion = (count, largest) if count <= MOST_TERMS else None

    @torch.no_grad()
    def expansion_error(self) -> float:
        """Last terms of the radial series relative to the largest; 0 without a series."""
        if self.expansion is None or isinstance(self.radial, ChebyshevRadial):
            return 0.0
        terms = self.radial.series(*self.expansion).abs().amax((0, 1, 3))
        return float(terms[-2:].max() / terms.max())

    def energies_and_gradients(
        self, tables: Mapping[str, Tensor], species: Tensor, blocks: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Return energies and pair gradients, differentiable in the parameters.

        Equal to ``forward`` and its gradient; the derivative of a pair is closed form:
        ``dE_i/dd_ij = sum_ml dE_i/dT_ml (phi_m' Y_l u + phi_m dY_l/dd)``.

        Returns:
            ``E [members, atoms]`` eV (f64) and ``dE_i/dd_ij [members, atoms, slots, 3]``.
        """
        radial = self.radial
        if isinstance(radial, EmbeddingRadial) and "sums" not in tables:
            return self._embedded_gradients(radial, tables, species, blocks)
        sums, scale = tables["sums"], self.component_scale
        if isinstance(radial, ChebyshevRadial):
            mix, gradient = radial.mix, _PairGradient
        else:
            mix = radial.series(sums.shape[2], float(tables["largest"][0]))
            gradient = _SeriesGradient
        mix = mix.flatten(1, 2)[:, None]
        moments = (mix.mT @ sums.flatten(1, 2)) * scale
        energies, slope = self._slope(moments, species)
        coefficients = (mix @ (slope * scale)).unflatten(2, sums.shape[1:3])
        return energies, gradient.apply(coefficients, tables, tuple(blocks))

    def _embedded_gradients(
        self,
        radial: EmbeddingRadial,
        tables: Mapping[str, Tensor],
        species: Tensor,
        blocks: Sequence[int],
    ) -> tuple[Tensor, Tensor]:
        scale = self.component_scale
        values, slopes = [], []
        for index, argument in enumerate(tables["argument"].split(list(blocks), 1)):
            phi, slope = radial.value_and_slope(argument.reshape(-1), index)
            values.append(phi.unflatten(1, argument.shape))
            slopes.append(slope.unflatten(1, argument.shape))
        phi, dphi = torch.cat(values, 2), torch.cat(slopes, 2)
        angular = tables["angular"]
        energies, slope = self._slope((phi.mT @ angular) * scale, species)
        slope = slope * scale
        along = ((angular @ slope.mT) * dphi).sum(-1) * tables["argument_slopes"]
        across = phi @ slope
        turned = torch.stack(
            [(across * d).sum(-1) for d in tables["angular_slopes"].unbind(1)], -1
        )
        return energies, along[..., None] * tables["unit"] + turned

    def _slope(self, moments: Tensor, species: Tensor) -> tuple[Tensor, Tensor]:
        if not moments.requires_grad:
            moments = moments.detach().requires_grad_()
        training = torch.is_grad_enabled()
        with torch.enable_grad():
            energies = self.energies_from_moments(moments, species)
            (slope,) = torch.autograd.grad(energies.sum(), moments, create_graph=training)
        return energies, slope

    # -- statistics of the data ------------------------------------------------------------

    @torch.no_grad()
    def set_statistics(
        self, displacements: Tensor, mask: Tensor, blocks: Sequence[int], species: Tensor
    ) -> None:
        """Set the scales of moments and features from a sample of environments.

        One scale per degree l and per block of features: high-order features of low
        variance stay small, which acts as a smoothness prior.
        """
        tables = self.tables(displacements, mask, blocks)
        if isinstance(self.radial, ChebyshevRadial):
            sums = tables["sums"].flatten(1, 2)
        else:
            argument = tables["argument"]
            self.radial.scale.fill_(1 / float(argument[mask].std()))
            parts = argument.split(list(blocks), 1)
            phi = torch.cat(
                [
                    self.radial.value(s.reshape(-1), k).unflatten(1, s.shape)
                    for k, s in enumerate(parts)
                ],
                2,
            )
            sums = (phi.mT @ tables["angular"]).flatten(0, 1)
        for degree in range(self.lmax + 1):
            block = sums[..., degree**2 : (degree + 1) ** 2]
            size = (
                block.std(0).square().mean()
                if degree == 0
                else block.square().sum(-1).mean()
            )
            self.moment_scale[degree] = 1 / float(size.sqrt().clamp(min=1e-6))
        index = torch.repeat_interleave(
            torch.arange(len(blocks), device=mask.device),
            torch.tensor(list(blocks), device=mask.device),
        )
        moments = self.moments(displacements, index.expand(mask.shape), mask)
        self.fitting.set_statistics(self.contraction(moments), species)

    def member(self, index: int) -> "DeepPotential":
        """Return one member of the committee as a potential of its own."""
        return _with_members(self, [self], [index])


class _PairGradient(torch.autograd.Function):
    """The linear map from ``dE/d(sums)`` to pair gradients, with its adjoint.

    ``g_k = u_k sum_bl c_bl B_b'(r_k) Y_l + sum_bl c_bl B_b(r_k) dY_l/dd_k``; both ways are
    batched products with constants, five times cheaper than taping them.
    """

    @staticmethod
    def forward(ctx, coefficients, tables, blocks):  # noqa: ANN001, ANN205
        ctx.tables, ctx.blocks = tables, blocks
        along, across = [], []
        names = ("radial", "radial_slopes", "angular")
        parts = zip(*(tables[name].split(blocks, 1) for name in names), strict=True)
        for index, (radial, slopes, angular) in enumerate(parts):
            c = coefficients[:, :, index]
            along.append(((angular @ c.mT) * slopes).sum(-1))
            across.append(radial @ c)
        across = torch.cat(across, 2)
        gradient = torch.cat(along, 2)[..., None] * tables["unit"]
        for axis, slope in enumerate(tables["angular_slopes"].unbind(1)):
            gradient[..., axis] += (across * slope).sum(-1)
        return gradient

    @staticmethod
    def backward(ctx, cotangent):  # noqa: ANN001, ANN205
        tables = ctx.tables
        along = (cotangent * tables["unit"]).sum(-1, keepdim=True)
        slopes = tables["angular_slopes"]
        across = cotangent[..., 0, None] * slopes[:, 0]
        for axis in (1, 2):
            across.addcmul_(cotangent[..., axis, None], slopes[:, axis])
        parts = []
        names = ("radial", "radial_slopes", "angular")
        split = [tables[name].split(ctx.blocks, 1) for name in names]
        for radial, slope, angular, a, x in zip(
            *split, along.split(ctx.blocks, 2), across.split(ctx.blocks, 2), strict=True
        ):
            left = torch.cat([radial.expand(a.shape[0], *radial.shape), a * slope], 2)
            right = torch.cat([x, angular.expand(a.shape[0], *angular.shape)], 2)
            parts.append(left.mT @ right)
        return torch.stack(parts, 2), None, None


class _SeriesGradient(torch.autograd.Function):
    """The same map where the radial functions are ``s T_b``, made anew from s."""

    @staticmethod
    def forward(ctx, coefficients, tables, blocks):  # noqa: ANN001, ANN205
        radial, slopes = series_functions(
            tables["argument"], tables["argument_slopes"], tables["largest"],
            coefficients.shape[3],
        )  # fmt: skip
        ctx.tables, ctx.blocks, ctx.radial, ctx.slopes = tables, blocks, radial, slopes
        along, across = [], []
        parts = zip(radial.split(blocks, 2), slopes.split(blocks, 2), strict=True)
        for index, (value, slope) in enumerate(parts):
            c = coefficients[:, :, index]
            across.append(value.mT @ c)
            along.append(slope.mT @ c)
        across, along = torch.cat(across, 2), torch.cat(along, 2)
        along = (along * tables["angular"]).sum(-1)
        gradient = along[..., None] * tables["unit"]
        for axis, slope in enumerate(tables["angular_slopes"].unbind(1)):
            gradient[..., axis] += (across * slope).sum(-1)
        return gradient

    @staticmethod
    def backward(ctx, cotangent):  # noqa: ANN001, ANN205
        tables = ctx.tables
        along = (cotangent * tables["unit"]).sum(-1, keepdim=True) * tables["angular"]
        slopes = tables["angular_slopes"]
        across = cotangent[..., 0, None] * slopes[:, 0]
        for axis in (1, 2):
            across.addcmul_(cotangent[..., axis, None], slopes[:, axis])
        parts = [
            value @ x + slope @ a
            for value, slope, x, a in zip(
                ctx.radial.split(ctx.blocks, 2), ctx.slopes.split(ctx.blocks, 2),
                across.split(ctx.blocks, 2), along.split(ctx.blocks, 2), strict=True,
            )
        ]  # fmt: skip
        return torch.stack(parts, 2), None, None


@part
class SmoothEdition:
    """The smooth edition of Deep Potential (DeePMD-kit's se_e2_a)."""

    species: tuple[str, ...] = ()
    """Chemical symbols; those of the data by default."""
    cutoff: Positive = 6.0
    """Interaction range in angstrom."""
    switch_start: Positive = 0.5
    """Distance at which the switch begins to fall, angstrom."""
    neurons: Widths = (25, 50, 100)
    """Widths of the embedding network."""
    axis: Channels = 16
    """Columns on the short side of the product of moments."""
    fitting: Widths = (240, 240, 240)
    """Widths of the hidden layers."""
    members: Members = 1
    """Size of the committee."""
    skip: float = 1.0
    """Factor of the input of a hidden layer that is added to its output."""
    timestep: float = 0.1
    """Initial factor of the output of such a layer."""
    kind: Literal["smooth_edition"] = "smooth_edition"

    def __post_init__(self) -> None:
        """Refuse sizes that do not fit together.

        Raises:
            ValueError: the switch begins beyond the cutoff, or ``axis`` is too large.
        """
        _check_switch(self.switch_start, self.cutoff)
        if self.axis > self.neurons[-1]:
            raise ValueError("axis cannot exceed the last width of neurons")

    def radial(self) -> EmbeddingRadial:
        """Return the embedding networks."""
        return EmbeddingRadial(
            self.members, len(self.species), self.neurons, self.switch_start, self.cutoff
        )

    def contraction(self) -> GramContraction:
        """Return the product of the moments."""
        return GramContraction(self.neurons[-1], self.axis)

    def build(self, seed: int = 0) -> DeepPotential:
        """Return an untrained potential."""
        return DeepPotential(self, lmax=1).reset(seed)


@part
class HigherMoments:
    """The default: Chebyshev mixes, moments up to ``lmax``, a small fitting network."""

    species: tuple[str, ...] = ()
    """Chemical symbols; those of the data by default."""
    cutoff: Positive = 5.0
    """Interaction range in angstrom."""
    switch_start: Positive = 0.5
    """Distance at which the switch begins to fall, angstrom."""
    basis: Annotated[int, Interval(ge=2, le=64)] = 10
    """Chebyshev polynomials."""
    channels: Channels = 16
    """Radial functions."""
    axis: Channels = 8
    """Channels on the short side of the products of moments."""
    lmax: Degree = 3
    """Highest angular degree."""
    products: Annotated[int, Interval(ge=0, le=256)] = 6
    """Channels that enter the three-moment products."""
    fitting: Widths = (64, 64)
    """Widths of the hidden layers."""
    members: Members = 4
    """Size of the committee; members differ by their initial weights."""
    skip: float = 0.7
    """Factor of the input of a hidden layer that is added to its output."""
    timestep: float = 0.7
    """Initial factor of the output of such a layer."""
    kind: Literal["higher_moments"] = "higher_moments"

    def __post_init__(self) -> None:
        """Refuse sizes that do not fit together, and what the harmonics do not reach.

        Raises:
            ValueError: ``lmax`` is not in 1..3, the switch begins beyond the cutoff, or
                ``axis`` or ``products`` is too large.
        """
        if not 1 <= self.lmax <= MAX_DEGREE:
            raise ValueError(f"lmax = {self.lmax}: allowed are 1 to {MAX_DEGREE}")
        _check_switch(self.switch_start, self.cutoff)
        if max(self.axis, self.products) > self.channels:
            raise ValueError("axis and products cannot exceed channels")

    def radial(self) -> ChebyshevRadial:
        """Return the linear radial mix."""
        return ChebyshevRadial(
            self.members,
            len(self.species),
            self.basis,
            self.channels,
            self.switch_start,
            self.cutoff,
        )

    def contraction(self) -> MomentContraction:
        """Return the products of the moments."""
        return MomentContraction(self.channels, self.axis, self.lmax, self.products)

    def build(self, seed: int = 0) -> DeepPotential:
        """Return an untrained potential."""
        return DeepPotential(self, self.lmax).reset(seed)


def _check_switch(start: float, cutoff: float) -> None:
    if start >= cutoff:
        raise ValueError("switch_start must lie below cutoff")


def join(models: Sequence[DeepPotential]) -> DeepPotential:
    """Return one committee of all members of ``models``.

    Raises:
        ValueError: the models differ in form.
    """
    forms = {replace(model.config, members=1) for model in models}
    if len(forms) != 1:
        raise ValueError("a committee needs members of one form (same sizes and species)")
    pairs = [(model, k) for model in models for k in range(model.members)]
    return _with_members(models[0], [m for m, _ in pairs], [k for _, k in pairs])


def _with_members(
    form: DeepPotential, models: Sequence[DeepPotential], indices: Sequence[int]
) -> DeepPotential:
    config = replace(form.config, members=len(indices))
    result = DeepPotential(config, form.lmax).to(form.moment_scale)
    states = [model.state_dict() for model in models]
    for name, target in result.state_dict().items():
        if target.ndim > 1:
            rows = [state[name][k] for state, k in zip(states, indices, strict=True)]
            target.copy_(torch.stack(rows))
        elif any(not torch.equal(state[name], states[0][name]) for state in states):
            raise ValueError(f"the members of a committee must share their {name}")
        else:
            target.copy_(states[0][name])
    return result


__all__ = [
    "ChebyshevRadial",
    "DeepPotential",
    "EmbeddingRadial",
    "GramContraction",
    "HigherMoments",
    "MomentContraction",
    "SmoothEdition",
    "join",
    "polar",
    "switch",
    "switch_gradient",
]
