"""Compressed potentials on CPUs: everything between positions and forces in vectors."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...models.potentials.contraction import GramContraction, MomentContraction
from ...models.potentials.deep_potential import DeepPotential
from ...models.potentials.fitting import Fitting
from .. import runtime
from ..kernels import contraction_simd as contraction
from ..kernels import descriptor_simd as descriptor
from ..kernels.descriptor import Shape
from ..kernels.fitting import Network, Places, fitting_room, run_fitting
from ..kernels.types import simd
from .neighbours import Neighbours
from .state import ParticleState


def lanes_of(dtype: torch.dtype) -> int:
    """Numbers of a vector register of this machine."""
    wide = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return (64 if wide else 32) // dtype.itemsize


def _up(number: int, unit: int) -> int:
    return -(-number // unit) * unit


@dataclass(frozen=True)
class _Room:
    """What follows from a list of neighbours, and memory for what kernels hand on."""

    pairs: descriptor.Pairs
    places: Places
    sums: Tensor
    moments: Tensor
    more: Tensor
    features: Tensor
    slopes: Tensor
    energies: Tensor
    scratch: Tensor
    series: Tensor
    gradient: Tensor
    own: Tensor
    virial: Tensor


class _Memo:
    """The room of the last list; forgetting it changes nothing but time."""

    def __init__(self) -> None:
        self.known: tuple[Neighbours, Tensor, _Room] | None = None


@dataclass(frozen=True)
class Vectorised:
    """A Deep Potential whose radial functions are series, for one kind of processor.

    Attributes:
        shape: basis functions, lmax, kind of radial functions.
        form: as the kernels' ``form``.
        species: number of species.
        contraction: the products of its moments.
        mix: ``[members, terms, width]``, sums to moments (of a short basis, if gram).
        unmix: ``[members, width, 2 terms]``, back to series of the second kind.
        scale: ``[components]`` factors of the moments.
        axis: ``[members, width, axis]`` moments to those of the short axis; gram only.
        fitting: the network, packed.
        pitch: terms of one species.
    """

    shape: Shape
    form: Tensor
    species: int
    contraction: GramContraction | MomentContraction
    mix: Tensor
    unmix: Tensor
    scale: Tensor
    axis: Tensor
    fitting: Network
    pitch: int
    _memo: _Memo = field(default_factory=_Memo, repr=False, compare=False)

    @property
    def lanes(self) -> int:
        """Numbers of a vector."""
        return self.fitting.weights.shape[1]

    def energies(
        self, places: Tensor, state: ParticleState, neighbours: Neighbours
    ) -> Tensor:
        """Raw energies ``[members, rows]``; what :meth:`forces` needs is kept."""
        room = self.room(state, neighbours)
        descriptor.fill_sums(
            places, neighbours.home, room.pairs, self.form, self.shape, room.sums
        )
        self._contract(room)
        run_fitting(
            self.fitting, room.places, room.features, room.slopes, room.energies,
            room.scratch,
        )  # fmt: skip
        self._contract_back(room)
        descriptor.fill_gradients(
            places, neighbours.home, room.pairs, self.form, self.shape, room.series,
            self.pitch, room.gradient, room.own, room.virial,
        )  # fmt: skip
        return room.energies[:, room.places.place.long()]

    def forces(
        self, state: ParticleState, neighbours: Neighbours
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Mean forces, deviation and each row's virial, after :meth:`energies`."""
        room = self.room(state, neighbours)
        forces, deviation = descriptor.gather_forces(
            neighbours.atom, room.pairs, room.gradient, room.own
        )
        return forces, deviation, room.virial

    def gradients(self, state: ParticleState, neighbours: Neighbours) -> Tensor:
        """Pair gradients ``[members, rows, slots, 3]``, after :meth:`energies`."""
        room = self.room(state, neighbours)
        where = room.pairs.where.long()[None, ..., None]
        found = room.gradient[..., :3]
        return found.gather(2, where.expand(len(found), -1, -1, 3))

    def room(self, state: ParticleState, neighbours: Neighbours) -> _Room:
        """Return the room of a list; the last one is kept."""
        known = self._memo.known
        if known is None or known[0] is not neighbours or known[1] is not state.species:
            made = self._room(state, neighbours)
            known = self._memo.known = (neighbours, state.species, made)
        return known[2]

    def _room(self, state: ParticleState, neighbours: Neighbours) -> _Room:
        pairs = descriptor.Pairs.of(neighbours, state.species, self.species, self.lanes)
        central = state.species[neighbours.atom.long()]
        members, like = len(self.mix), self.mix
        places = Places.of(
            central, self.species, members, runtime.threads(), self.fitting.tile
        )
        rows, components = len(central), (self.shape[1] + 1) ** 2
        width, features = self.mix.shape[2], self.fitting.features
        gram = isinstance(self.contraction, GramContraction)
        more = (8, self.axis.shape[2]) if gram else (components, width)
        summed = components * self.mix.shape[1] if gram else self.mix.shape[1] * 16
        return _Room(
            pairs,
            places,
            like.new_empty(rows, summed),
            like.new_empty(members, rows, components, width),
            like.new_empty(members, rows, *more),
            # gaps between species and behind the features stay zero
            like.new_zeros(members, places.rows, features),
            like.new_empty(members, places.rows, features),
            like.new_empty(members, places.rows),
            fitting_room(self.fitting, places),
            like.new_empty(members, rows, components, 2, self.unmix.shape[2] // 2),
            like.new_empty(members, *pairs.pairs.shape, 4),
            like.new_empty(members, rows, 3),
            like.new_empty(rows, 6),
        )

    def _contract(self, room: _Room) -> None:
        _, rows, _, width = room.moments.shape
        lanes, pitch = self.lanes, self.fitting.features
        v = _vectors(lanes)
        with simd():
            if isinstance(self.contraction, GramContraction):
                contraction.k_gram(
                    room.sums.view(-1), v(self.mix), v(self.axis), self.scale,
                    room.places.place, v(room.moments), room.moments.view(-1),
                    v(room.more), room.more.view(-1), v(room.features), lanes,
                    width // lanes, self.axis.shape[2], self.mix.shape[1], rows,
                    room.places.rows, pitch // lanes,
                )  # fmt: skip
                return
            contraction.k_products(
                room.sums.view(-1), v(self.mix), self.scale, room.places.place,
                v(room.moments), room.moments.view(-1), v(room.features),
                room.features.view(-1), lanes, width // lanes, self.shape[1],
                self.contraction.products, self._channels, self.contraction.axis,
                self.mix.shape[1], rows, room.places.rows, pitch // lanes,
            )  # fmt: skip

    def _contract_back(self, room: _Room) -> None:
        _, rows, _, width = room.moments.shape
        lanes, pitch = self.lanes, self.fitting.features
        v, terms = _vectors(lanes), self.unmix.shape[2] // lanes
        with simd():
            if isinstance(self.contraction, GramContraction):
                contraction.k_gram_back(
                    v(room.slopes), v(self.unmix), v(self.axis.mT.contiguous()), self.scale,
                    room.places.place, v(room.moments), room.moments.view(-1),
                    room.more.view(-1), v(room.series), lanes, width // lanes,
                    self.axis.shape[2], terms, rows, room.places.rows, pitch // lanes,
                )  # fmt: skip
                return
            contraction.k_products_back(
                v(room.slopes), room.slopes.view(-1), v(self.unmix), self.scale,
                room.places.place, v(room.moments), room.moments.view(-1), v(room.more),
                room.more.view(-1), v(room.series), lanes, width // lanes, self.shape[1],
                self.contraction.products, self._channels, self.contraction.axis, terms,
                rows, room.places.rows, pitch // lanes,
            )  # fmt: skip

    @property
    def _channels(self) -> int:
        return self.contraction.blocks[0]


def _vectors(lanes: int):  # noqa: ANN202 - a local shorthand
    return lambda x: x.view(-1, lanes)


def vectorise(
    module: DeepPotential, mix: Tensor, form: Tensor, shape: Shape, tolerance: float
) -> Vectorised | None:
    """Return the evaluator of a potential whose radial functions are ``mix``.

    Args:
        module: the network.
        mix: ``[members, species, basis, channels]``.
        form: of the kernels.
        shape: of the kernels.
        tolerance: what may be lost of the moments, relative to the largest.

    Returns:
        None where the kernels do not serve: on a GPU, or for a network whose first layer
        passes its input on.
    """
    fitting = module.fitting
    first = fitting.weights[0].shape
    if mix.device.type != "cpu" or first[-1] == first[-2]:
        return None
    lanes, double = lanes_of(mix.dtype), mix.double()
    gram = isinstance(module.contraction, GramContraction)
    members, species, basis = mix.shape[:3]
    pitch = _up(basis, lanes) if gram else basis
    short, full = _short(double, tolerance, lanes) if gram else (double, None)
    width = _up(short.shape[-1], lanes)
    forward = short.new_zeros(members, species, pitch, width)
    forward[:, :, :basis, : short.shape[-1]] = short
    terms = _up(species * pitch, lanes)
    back = short.new_zeros(members, width, 2, terms)
    for half, matrix in enumerate(descriptor.second_kind(basis)):
        series = (matrix.mT @ short).permute(0, 3, 1, 2)
        spaced = back[:, : short.shape[-1], half, : species * pitch]
        spaced.unflatten(-1, (species, pitch))[..., :basis] = series
    weights, axis = _first_layer(module, full, width, lanes)

    def like(x: Tensor) -> Tensor:
        return x.detach().to(mix.dtype).contiguous()

    return Vectorised(
        shape, form, species, module.contraction, like(forward.flatten(1, 2)),
        like(back.flatten(2)), like(module.component_scale), like(axis),
        _packed(fitting, *weights, lanes), pitch,
    )  # fmt: skip


@torch.no_grad()
def _short(mix: Tensor, tolerance: float, lanes: int) -> tuple[Tensor, Tensor]:
    """Moments in a short basis: ``mix_tbc = sum_q short_tbq U_cq`` to the tolerance.

    Returns:
        ``short [members, species, basis, rank]`` and ``U [members, channels, rank]``.
    """
    species, basis = mix.shape[1:3]
    left, size, right = torch.linalg.svd(mix.flatten(1, 2), full_matrices=False)
    kept = int((size > 0.01 * tolerance * size[:, :1]).sum(1).max())
    kept = min(_up(kept, lanes), size.shape[1])
    short = (left * size[:, None])[..., :kept].unflatten(1, (species, basis))
    return short, right[:, :kept].mT


@torch.no_grad()
def _first_layer(
    module: DeepPotential, full: Tensor | None, width: int, lanes: int
) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Weights and bias of the first layer for the kernels' features, and the short axis."""
    fitting, form = module.fitting, module.contraction
    weight = fitting.weights[0].double() / fitting.width.double().mT
    bias = fitting.biases[0].double() - fitting.mean.double() @ weight
    head, hidden = weight.shape[:2], weight.shape[-1]
    if full is not None:
        axis, rank = form.axis, full.shape[-1]
        each = weight.unflatten(2, (-1, axis))
        each = torch.einsum("mcq,mscah->msaqh", full, each)
        spread = weight.new_zeros(*head, axis, width, hidden)
        spread[:, :, :, :rank] = each
        rows = full.new_zeros(len(full), width, _up(axis, lanes))
        rows[:, :rank, :axis] = full[:, :axis].mT
        # the padded axis has features too, of no weight
        padded = weight.new_zeros(*head, rows.shape[-1], width, hidden)
        padded[:, :, :axis] = spread
        return (padded.flatten(2, 3), bias), rows
    assert isinstance(form, MomentContraction)
    channels, count = form.blocks[0], form.lmax * form.axis
    lone, twos, threes = weight.split(
        [channels, channels * count, 3 * form.products], dim=2
    )
    twos = twos.unflatten(2, (form.lmax, channels, form.axis)).movedim(3, 4).flatten(2, 3)
    blocks = weight.new_zeros(*head, 1 + count, width, hidden)
    blocks[:, :, 0, :channels] = lone
    blocks[:, :, 1:, :channels] = twos
    return (torch.cat([blocks.flatten(2, 3), threes], 2), bias), weight.new_zeros(0)


def _packed(fitting: Fitting, first: Tensor, bias: Tensor, lanes: int) -> Network:
    scale = fitting.energy_scale.double()
    weights = [first, *(w.double() for w in fitting.weights[1:])]
    biases = [bias, *(b.double() for b in fitting.biases[1:])]
    weights[-1], biases[-1] = weights[-1] * scale, biases[-1] * scale
    known = iter(fitting.timesteps)
    pairs = [w.shape[-1] == w.shape[-2] for w in fitting.weights[:-1]]
    steps = [next(known).double() if skips else None for skips in pairs]

    return Network.pack(
        weights, biases, steps, fitting.skip, lanes, fitting.energy_scale.dtype
    )
