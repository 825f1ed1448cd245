"""Linear potential: the energy of an atom is a sum of invariant products of moments.

    E_i = e_s + sum_k w_sk B_k(A),    A_tnlm = sum over neighbours j of species t of
                                               phi_tn(r_ij) Y_lm(u_ij),
    phi_tn(r) = sum_b C_tnb T_b(x(r)) w(r),

with Chebyshev polynomials T_b, ``x = 1 - 2 u^2 (3 - 2 u)`` of ``u = r / cutoff``, which is
nearly cos(pi u), so that T_b is a wave of b / 2 periods; the quintic switch w; and the
products B of :mod:`.products`, complete up to a degree. For given radial functions the
weights follow from labels by one solution of linear equations, so nothing is drawn at
random; a committee is a sample of what the labels leave open.
"""

import math
from dataclasses import replace
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Interval, Len
from torch import Tensor, nn

from ..parts import part
from .fields import Members, Positive
from .harmonics import MAX_DEGREE, harmonics
from .products import Program, build_program
from .radial import polar, wave_functions

NEIGHBOURS = (26.0, 34.0, 44.0)
"""Numbers of neighbours within the cutoffs that training tries."""

Limits = Annotated[tuple[Annotated[float, Ge(0)], ...], Len(1, 8)]


@part
class ClusterExpansion:
    """Sum of all products of moments up to a degree; solved for, not iterated."""

    species: tuple[str, ...] = ()
    """Chemical symbols; those of the data by default."""
    cutoff: Positive | None = None
    """Interaction range in angstrom; by default chosen on frames left out, among those
    whose spheres hold :data:`NEIGHBOURS` atoms at the density of the data."""
    switch_start: Positive = 0.5
    """Distance at which the switch begins to fall, angstrom."""
    degrees: Limits = (18.0, 18.0, 13.0, 10.0)
    """Highest degree of the products of one, two, three, ... moments; of five and more
    those with at most four moments of l > 0."""
    features: Annotated[int, Interval(ge=1, le=10000)] = 2400
    """Most products; with several species all degrees are lowered together to fit."""
    angular: Annotated[float, Gt(0)] = 1.0
    """What one unit of l counts in the degree; one wave more counts `spacing`."""
    radial: Annotated[int, Interval(ge=1, le=24)] = 18
    """Most radial functions: the waves themselves, or with `loss.rounds` fitted."""
    spacing: Annotated[float, Gt(0)] = 1.0
    """What one radial function more counts in the degree."""
    waves: Annotated[int, Interval(ge=1, le=24)] = 18
    """Waves T_b that a radial function is made of."""
    lmax: Annotated[int, Interval(ge=1, le=MAX_DEGREE)] = 6
    """Highest angular degree of a moment."""
    members: Members = 4
    """Size of the committee: pairs on both sides of the solution, which is their mean."""
    kind: Literal["cluster_expansion"] = "cluster_expansion"

    def __post_init__(self) -> None:
        """Refuse a switch that does not fall.

        Raises:
            ValueError: it begins beyond the cutoff.
        """
        if self.cutoff is not None and self.switch_start >= self.cutoff:
            raise ValueError("switch_start must lie below cutoff")

    def program(self) -> Program:
        """Return the products."""
        count = max(len(self.species), 1)
        found, given = None, (self.angular, self.radial, self.lmax, count, self.spacing)
        # upwards, for what does not fit can be too large to be counted
        for less in range(math.ceil(max(self.degrees)), -1, -1):
            limits = tuple(max(limit - less, 0.0) for limit in self.degrees)
            program = build_program(limits, *given)
            if found is not None and len(program.features) > self.features:
                break
            found = program
        assert found is not None
        return found

    def build(self, seed: int = 0) -> "LinearPotential":
        """Return the potential with weights of zero; there is nothing to draw.

        Raises:
            ValueError: no cutoff is known yet.
        """
        if self.cutoff is None:
            raise ValueError("cutoff: not given, and there are no data to take it from")
        return LinearPotential(self, self.cutoff)


class LinearPotential(nn.Module):
    """A potential that is linear in its weights.

    Attributes:
        config: how it was built.
        species: chemical symbols, in the order of all species indices.
        cutoff: angstrom.
        members: size of the committee.
        weights: ``[members, species, features]`` eV.
        mix: ``[species, radial, waves]`` coefficients C of the radial functions.
        energy_bias: ``[species]`` eV, always f64.
    """

    energy_bias: Tensor
    begin: Tensor
    left: Tensor
    right: Tensor
    factor: Tensor
    features: Tensor
    places: Tensor

    def __init__(self, config: ClusterExpansion, cutoff: float) -> None:
        super().__init__()
        self.config, self.cutoff = config, cutoff
        self.species, self.members = tuple(config.species), config.members
        self.program = config.program()
        self.lmax = self.program.lmax
        count = len(self.program.features)
        self.weights = nn.Parameter(torch.zeros(self.members, len(self.species), count))
        shape = len(self.species), self.program.radial, config.waves
        self.mix = nn.Parameter(torch.eye(*shape[1:]).repeat(shape[0], 1, 1))
        self.register_buffer("energy_bias", torch.zeros(len(self.species)).double())
        for name in ("begin", "left", "right", "factor", "features", "places"):
            value = (
                self.program.places() if name == "places" else getattr(self.program, name)
            )
            self.register_buffer(name, torch.from_numpy(value), persistent=False)

    def _apply(self, fn, recurse: bool = True):  # noqa: ANN001, ANN202 - torch's signature
        exact = self.energy_bias
        super()._apply(fn, recurse)
        # Total energies of 1e4 eV do not fit into f32, so the bias keeps its precision.
        self.energy_bias = exact.to(self.energy_bias.device)
        return self

    def forward(
        self,
        displacements: Tensor,
        neighbour_species: Tensor,
        mask: Tensor,
        species: Tensor,
    ) -> Tensor:
        """Return ``[members, atoms]`` eV; arguments as in ``DeepPotential.forward``."""
        values = self.values(self.moments(displacements, neighbour_species, mask))
        weights = self.weights[:, species.long()]
        return (weights * values).sum(-1).double() + self.energy_bias[species.long()]

    def moments(
        self, displacements: Tensor, neighbour_species: Tensor, mask: Tensor
    ) -> Tensor:
        """Return the moments that products need, ``[atoms, inputs]``."""
        distance, unit = polar(displacements, mask, self.cutoff)
        angular = harmonics(unit, self.lmax) * mask[..., None]
        waves = wave_functions(
            distance, self.config.waves, self.config.switch_start, self.cutoff
        )
        sums = []
        for index, mix in enumerate(self.mix):
            chosen = (neighbour_species == index)[..., None]
            sums.append((waves @ mix.T * chosen).mT @ angular)
        kind, function, column = self.places.T
        return torch.stack(sums, 1)[:, kind, function, column]

    def values(self, moments: Tensor) -> Tensor:
        """Return all products ``B [atoms, features]``."""
        inputs, nodes = moments.shape[1], moments
        begin, sizes = self.begin.long(), torch.diff(self.begin).long()
        owner = torch.repeat_interleave(
            torch.arange(len(sizes), device=sizes.device), sizes
        )
        for first, last in self._layers():
            span = slice(int(begin[first]), int(begin[last]))
            left, right = self.left[span].long(), self.right[span].long()
            terms = nodes[:, left] * nodes[:, right] * self.factor[span].to(nodes)
            made = nodes.new_zeros(nodes.shape[0], last - first)  # traced, unlike len
            nodes = torch.cat([nodes, made.index_add(1, owner[span] - first, terms)], 1)
        assert nodes.shape[1] == inputs + len(sizes)
        return nodes[:, self.features.long()]

    def _layers(self) -> list[tuple[int, int]]:
        """Return ranges of computed nodes that need nothing of their own range."""
        inputs, last = self.program.inputs, len(self.program.begin) - 1
        layers, first = [], 0
        begin = self.program.begin
        for node in range(last):
            span = slice(begin[node], begin[node + 1])
            used = max(self.program.left[span].max(), self.program.right[span].max())
            if used >= inputs + first:
                layers.append((first, node))
                first = node
        return [*layers, (first, last)]

    def member(self, index: int) -> "LinearPotential":
        """Return one member of the committee as a potential of its own."""
        return self._with(self.weights[index : index + 1])

    def mean(self) -> "LinearPotential":
        """Return the mean of the committee as a potential of its own."""
        return self._with(self.weights.mean(0, keepdim=True))

    def _with(self, weights: Tensor) -> "LinearPotential":
        result = LinearPotential(replace(self.config, members=len(weights)), self.cutoff)
        result.to(weights.dtype).weights.data.copy_(weights.detach())
        result.mix.data.copy_(self.mix.detach())
        result.energy_bias.copy_(self.energy_bias)
        return result


def antithetic(solution: Tensor, draws: Tensor) -> Tensor:
    """Return a committee ``[2 draws, ...]`` on both sides of its mean, the solution."""
    return torch.cat([solution + draws, solution - draws])


__all__ = ["ClusterExpansion", "LinearPotential", "antithetic"]
