"""Neighbour lists as a pure function of the anchor positions and the anchor cell."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import runtime
from ..errors import InputError
from ..kernels import neighbours as kernels
from .state import ParticleState

CHUNK = 64
"""Rows of one partial sum; fixed, so that sums do not depend on the number of threads."""

LANES = 8
"""Rows of one block: what a force loop treats side by side in vector registers."""

GROUPS = 256
"""Parts of the blocks; lists of a part share their room, the long with the short."""

_SAFETY = 1.0 + 1e-5


@dataclass(frozen=True)
class Layout:
    """Which atoms belong to which system; constant during a run.

    Attributes:
        counts: ``[systems]`` int64, atoms of each system.
        chunks: ``[chunks, 4]`` int32, (system, begin, end, first atom of the system).
        lengths: ``[systems]`` int64, chunks of each system.
        blocks: ``[blocks, 2]`` int32, first and last row of at most ``LANES`` rows of one
            system.
    """

    counts: Tensor
    chunks: Tensor
    lengths: Tensor
    blocks: Tensor

    @staticmethod
    def of(system: Tensor, systems: int) -> "Layout":
        """Cut each system into chunks of at most ``CHUNK`` atoms."""
        counts = torch.bincount(system, minlength=systems).cpu()
        ends = counts.cumsum(0)

        def pieces(size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
            """Number of pieces of each system; system, begin and end of each piece."""
            lengths = (counts + size - 1) // size
            owner = torch.repeat_interleave(torch.arange(systems), lengths)
            number = torch.arange(len(owner)) - (lengths.cumsum(0) - lengths)[owner]
            begin = (ends - counts)[owner] + size * number
            return lengths, owner, begin, torch.minimum(begin + size, ends[owner])

        device = system.device
        lengths, owner, begin, end = pieces(CHUNK)
        chunks = torch.stack([owner, begin, end, (ends - counts)[owner]], 1)
        _, _, first, past = pieces(LANES)
        blocks = torch.stack([first, past - 1], 1)
        return Layout(
            counts.to(device),
            chunks.int().to(device),
            lengths.to(device),
            blocks.int().to(device),
        )

    def total(self, partial: Tensor) -> Tensor:
        """Add partial sums ``[chunks, k]`` up over each system -> ``[systems, k]``."""
        return torch.segment_reduce(partial, "sum", lengths=self.lengths, axis=0)

    def of_blocks(self, partial: Tensor) -> Tensor:
        """Add sums of blocks ``[blocks, k]`` up over each system -> ``[systems, k]``."""
        lengths = (self.counts + LANES - 1) // LANES
        return torch.segment_reduce(partial, "sum", lengths=lengths, axis=0)

    def most(self, partial: Tensor) -> Tensor:
        """Largest of the chunks' values ``[chunks]`` in each system -> ``[systems]``."""
        return torch.segment_reduce(partial, "max", lengths=self.lengths, axis=0)

    def partial(self, columns: int) -> Tensor:
        """Room for partial sums, float64 ``[chunks, columns]``."""
        shape = (len(self.chunks), columns)
        return torch.empty(shape, dtype=torch.float64, device=self.chunks.device)


@dataclass(frozen=True)
class Blocks:
    """Neighbours of blocks of rows, for loops that treat a block's atoms side by side.

    Attributes:
        slots: int32, all lists: places near any atom of a block, its own places among
            them; -1 ends a list.
        begin: ``[blocks]`` int32, where each list begins.
    """

    slots: Tensor
    begin: Tensor


@dataclass(frozen=True)
class Neighbours:
    """Full neighbour list: the pair (i, j) stands in the row of i and in the row of j.

    Atoms and all their periodic images within reach are *places*, sorted in space; a row
    belongs to one atom and holds places, so that no shift is needed in an inner loop.
    Rows are searched when first asked for, and so are the lists of whole ``blocks`` of
    rows; the view by atoms (``index``, ``shift``, ``count``) likewise.

    Attributes:
        atom: ``[atoms]`` int32, the atom that a row belongs to; rows of a system are
            contiguous and in the system's own range.
        home: ``[atoms]`` int32, the place of the row's atom.
        parent: ``[places]`` int32, the atom that a place is an image of.
        image: ``[places, 3]`` int32, whole lattice vectors added to its unwrapped position.
        layout: chunks of rows (and of atoms).
        cutoff: angstrom, without the skin.
        skin: angstrom.
    """

    atom: Tensor
    home: Tensor
    parent: Tensor
    image: Tensor
    layout: Layout
    cutoff: float
    skin: float
    _search: "_Search"

    @cached_property
    def _rows(self) -> tuple[Tensor, Tensor]:
        return self._search.rows(self.home, self.atom, self.cutoff + self.skin)

    @property
    def slots(self) -> Tensor:
        """``[atoms, capacity]`` int32, places near the row's atom."""
        return self._rows[0]

    @property
    def rows(self) -> Tensor:
        """``[atoms]`` int32, number of valid slots of each row, from the left."""
        return self._rows[1]

    @cached_property
    def blocks(self) -> Blocks:
        """Lists of whole blocks of rows."""
        rows, radius = self.layout.blocks, self.cutoff + self.skin
        return self._search.blocks(self.home, self.atom, rows, radius, self.room)

    @cached_property
    def row(self) -> Tensor:
        """``[atoms]`` int32, the row of each atom."""
        row = torch.empty_like(self.atom)
        row[self.atom.long()] = torch.arange(len(row), dtype=row.dtype, device=row.device)
        return row

    @cached_property
    def count(self) -> Tensor:
        """``[atoms]`` int32, neighbours within ``cutoff + skin`` at the anchor."""
        return self.rows[self.row.long()]

    @cached_property
    def _by_atom(self) -> tuple[Tensor, Tensor]:
        width = int(self.rows.max()) if len(self.rows) else 0
        home = self.home[self.row.long()].long()
        slots = self.slots[self.row.long(), :width].long()
        column = torch.arange(width, device=slots.device)
        slots = torch.where(column < self.count[:, None], slots, home[:, None])
        return self.parent[slots], self.image[slots] - self.image[home][:, None]

    @property
    def index(self) -> Tensor:
        """``[atoms, most]`` int32, neighbours; padded slots point to the atom itself."""
        return self._by_atom[0]

    @property
    def shift(self) -> Tensor:
        """``[atoms, most, 3]`` int32, lattice vectors to add to the neighbour."""
        return self._by_atom[1]

    @cached_property
    def reverse(self) -> Tensor:
        """Slot of each pair in the neighbour's own row, ``[atoms, capacity]`` int32."""
        reverse = torch.zeros_like(self.slots)
        kernels.k_reverse(
            self.home, self.atom, self.row, self.parent, self.image,
            self.slots, self.rows, reverse,
        )  # fmt: skip
        return reverse

    def places(
        self, positions: Tensor, system: Tensor, cell: Tensor, out: Tensor | None = None
    ) -> Tensor:
        """Positions of all places ``[places, 3]``, angstrom."""
        return _packed(positions, system, cell, self.parent, self.image, out)

    @cached_property
    def room(self) -> Tensor:
        """Memory for ``places`` of a loop that needs them for itself, step after step."""
        return runtime.room(self._search.positions, len(self.parent), 3)


def _packed(
    positions: Tensor,
    system: Tensor,
    cell: Tensor,
    parent: Tensor,
    image: Tensor,
    out: Tensor | None = None,
) -> Tensor:
    places = runtime.room(positions, len(parent), 3) if out is None else out
    kernels.k_pack(
        positions.detach().contiguous(), system, cell.detach().contiguous(), parent, image,
        places,
    )  # fmt: skip
    return places


def build_neighbours(
    state: ParticleState,
    cutoff: float,
    skin: float,
    layout: Layout | None = None,
    rooms: dict[str, int] | None = None,
) -> Neighbours:
    """Find all pairs closer than ``cutoff + skin`` at ``state.anchor``, all images too.

    Cost O(atoms). Cells may be triclinic, smaller than the cutoff, and open along any
    axis; atoms may lie outside the cell. ``rooms`` keeps from list to list how long lists
    are, which otherwise is guessed from the density.

    Raises:
        InputError: a periodic cell has no volume, or an atom has no finite position.
    """
    runtime.start(state.positions.device)
    layout = layout or Layout.of(state.system, state.systems)
    positions, cell = state.anchor.detach().contiguous(), state.anchor_cell.detach()
    if len(positions) and not bool(torch.stack(positions.aminmax()).isfinite().all()):
        lost = int((~torch.isfinite(positions).all(1)).int().argmax())
        # it would have no bin
        raise InputError(f"positions: atom {lost} has no finite position")
    _refuse_thin(cell, state.periodic, cutoff + skin)
    grid = _Grid.of(positions, cell, state.periodic, layout, cutoff + skin)
    places = _places(positions, state.system, grid)
    home, atom = _rows(places, len(positions))
    rooms = {} if rooms is None else rooms
    return Neighbours(
        atom, home, places.parent, places.image, layout, cutoff, skin,
        _Search(positions, cell, state.system, places, grid, rooms),
    )  # fmt: skip


_MOST_IMAGES = 100_000
"""Of one atom within reach; a primitive cell of a dense crystal has a few thousand."""


def _refuse_thin(cell: Tensor, periodic: Tensor, reach: float) -> None:
    """Refuse cells so thin that their images would fill the memory.

    Raises:
        InputError: names the system, the width of its cell and the number of images.
    """
    frames, closed = cell.double().cpu().numpy(), periodic.cpu().numpy()
    width = 1.0 / np.linalg.norm(np.linalg.inv(_complete(frames, closed)), axis=1)
    images = np.where(closed, 1.0 + 2.0 * reach / width, 1.0).prod(1)
    worst = int(images.argmax())
    if images[worst] > _MOST_IMAGES:
        thin = width[worst][closed[worst]].min()
        raise InputError(
            f"cell of system {worst}: only {thin:.3g} angstrom thin, so that "
            f"{images[worst]:.2g} images of each atom lie within {reach:.3g} angstrom; "
            "is its unit right?"
        )


@dataclass(frozen=True)
class _Search:
    """What a search needs: the atoms at the anchor, their places and bins, the grid."""

    positions: Tensor
    cell: Tensor
    system: Tensor
    places: "_Places"
    grid: "_Grid"
    rooms: dict[str, int]

    def _arguments(
        self, home: Tensor, atom: Tensor, radius: float, room: Tensor | None = None
    ) -> tuple[Any, ...]:
        some, grid = self.places, self.grid
        found = _packed(
            self.positions, self.system, self.cell, some.parent, some.image, room
        )
        return (
            found, home, atom, self.system, some.bin, some.start, grid.shape, grid.reach,
            radius,
        )  # fmt: skip

    def rows(self, home: Tensor, atom: Tensor, radius: float) -> tuple[Tensor, Tensor]:
        given = self._arguments(home, atom, radius)

        def fill(room: int) -> tuple[Tensor, Tensor]:
            slots = runtime.room(home, len(home), room)
            count = runtime.room(home, len(home))
            kernels.k_search(*given, slots, count)
            return slots, count

        ball = 4.189 * radius**3 * self.grid.density
        return self._fitting("rows", fill, _first_capacity(ball))

    def blocks(
        self, home: Tensor, atom: Tensor, blocks: Tensor, radius: float, room: Tensor
    ) -> Blocks:
        given = self._arguments(home, atom, radius, room)
        # a thread of a device takes one block, to have work for many of them
        group = 1 if home.is_cuda else max(1, len(blocks) // GROUPS)
        groups = -(-len(blocks) // group)

        def fill(room: int) -> tuple[Blocks, Tensor]:
            slots = runtime.room(home, groups * room)
            found = Blocks(slots, runtime.room(home, len(blocks)))
            count = runtime.room(home, groups)
            kernels.k_search_blocks(
                *given, blocks, group, room, found.slots, found.begin, count, LANES
            )
            return found, count

        # all that is within reach of a cube with the block's atoms
        a = (LANES / max(self.grid.density, 1e-9)) ** (1 / 3)
        a = min(a, 2 * radius)
        body = a**3 + 6 * a * a * radius + 9.425 * a * radius**2 + 4.189 * radius**3
        guess = _first_capacity(body * self.grid.density)
        return self._fitting("blocks", fill, group * guess)[0]

    def _fitting(
        self, name: str, fill: Callable[[int], tuple[Any, Tensor]], guess: int
    ) -> tuple[Any, Tensor]:
        """Fill a table whose width is guessed, again with the right one if need be."""
        room = self.rooms.get(name, guess)
        while True:
            found, count = fill(room)
            most = int(count.max()) if len(count) else 0
            if most < room:
                self.rooms[name] = _round_up(1.03 * most)
                return found, count
            room = _round_up(most)


def _first_capacity(expected: float) -> int:
    """Guess of the longest row: the mean density's, and room for fluctuations."""
    return min(_round_up(1.15 * expected + 12), 1024)


def _round_up(number: float) -> int:
    return 8 * (int(number) // 8 + 1)


@dataclass(frozen=True)
class _Grid:
    """Bins of each system: from ``origin`` (fractional), ``per_bin`` bins per unit."""

    inverse: Tensor
    periodic: Tensor
    margin: Tensor
    origin: Tensor
    per_bin: Tensor
    shape: Tensor
    reach: Tensor
    bins: int
    density: float

    @staticmethod
    def of(
        positions: Tensor, cell: Tensor, periodic: Tensor, layout: Layout, radius: float
    ) -> "_Grid":
        closed = periodic.cpu().numpy()
        frames = _complete(cell.double().cpu().numpy(), closed)
        inverse = np.linalg.inv(frames)
        width = 1.0 / np.linalg.norm(inverse, axis=1)
        margin = np.where(closed, radius * _SAFETY / width, 0.0)
        low, high = -margin, 1.0 + margin
        if not closed.all():
            least, most = _extent(positions, inverse, layout)
            low = np.where(closed, low, least - 1e-6)
            high = np.where(closed, high, most + 1e-6)
        counts = layout.counts.cpu().numpy()
        volume = np.maximum((high - low) * width, radius).prod(1)
        room = 64 + 16 * counts
        # along columns bins are thinner: they sort their atoms, and cost only memory
        size = np.tile(radius * _SAFETY / np.array([2, 2, 8]), (len(volume), 1))
        # a thin gas: larger bins, so that there are not many more bins than atoms
        thin = (volume / size.prod(1) > 8 * room)[:, None]
        larger = np.maximum(np.cbrt(volume / room), radius * _SAFETY)[:, None]
        size = np.where(thin, larger, size)
        # a periodic cell is cut evenly, so that no bin is a sliver of it
        per_bin = np.where(closed, np.maximum(np.floor(width / size), 1), width / size)
        reach = np.ceil(radius * _SAFETY * per_bin / width)
        beyond = np.ceil(margin * per_bin)
        low = np.where(closed, -beyond / per_bin, low)
        open_bins = np.maximum(np.ceil((high - low) * per_bin), 1)
        shape = np.where(closed, per_bin + 2 * beyond, open_bins).astype(np.int64)
        number = shape.prod(1)
        base = np.cumsum(number) - number
        full = np.abs(np.linalg.det(frames)) if closed.all() else volume
        device = positions.device

        def tensor(values: np.ndarray, dtype: torch.dtype) -> Tensor:
            return torch.as_tensor(np.ascontiguousarray(values), dtype=dtype).to(device)

        return _Grid(
            inverse=tensor(inverse, torch.float64),
            periodic=tensor(closed, torch.int32),
            margin=tensor(margin, torch.float64),
            origin=tensor(low, torch.float64),
            per_bin=tensor(per_bin, torch.float64),
            shape=tensor(np.concatenate([shape, base[:, None]], 1), torch.int32),
            reach=tensor(reach, torch.int32),
            bins=int(number.sum()),
            density=float((counts / full).max()),
        )


def _complete(cell: np.ndarray, closed: np.ndarray) -> np.ndarray:
    """Replace open axes by unit vectors normal to the periodic ones."""
    frames = cell.copy()
    for s, frame in enumerate(frames):
        kept = [k for k in range(3) if closed[s, k]]
        if len(kept) < 3:
            _, _, basis = np.linalg.svd(frame[kept].reshape(len(kept), 3))
            frame[~closed[s]] = basis[len(kept) :]
        lengths = np.linalg.norm(frame, axis=1)
        if not abs(np.linalg.det(frame)) > 1e-9 * lengths.prod():
            raise InputError(
                f"cell of system {s}: a periodic cell needs a volume, found "
                f"{cell[s].round(6).tolist()}"
            )
    return frames


def _extent(
    positions: Tensor, inverse: np.ndarray, layout: Layout
) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest fractional coordinate of each system."""
    least, most, begin = [], [], 0
    for s, count in enumerate(layout.counts.tolist()):
        f = positions[begin : begin + count].double().cpu().numpy() @ inverse[s]
        least.append(f.min(0) if count else np.zeros(3))
        most.append(f.max(0) if count else np.zeros(3))
        begin += count
    return np.stack(least), np.stack(most)


@dataclass(frozen=True)
class _Places:
    """All places, sorted by bin; ``start`` is the first place of each bin."""

    parent: Tensor
    image: Tensor
    bin: Tensor
    own: Tensor
    start: Tensor


def _places(positions: Tensor, system: Tensor, grid: _Grid) -> _Places:
    device = positions.device

    def room(*shape: int) -> Tensor:
        return runtime.room(system, *shape)

    atoms = len(positions)
    copies = room(atoms)
    given = positions, system, grid.inverse, grid.periodic, grid.margin
    kernels.k_count_images(*given, copies)
    begin = torch.cumsum(copies, 0, dtype=torch.int32)
    number = int(begin[-1]) if atoms else 0
    begin -= copies
    parent, image, bin_of = room(number), room(number, 3), room(number)
    kernels.k_place_images(
        *given, grid.origin, grid.per_bin, grid.shape, begin, parent, image, bin_of
    )
    start = torch.zeros(grid.bins + 1, dtype=torch.int32, device=device)
    if positions.is_cuda:
        order = torch.sort(bin_of, stable=True).indices.to(torch.int32)
        start[1:] = torch.cumsum(torch.bincount(bin_of, minlength=grid.bins), 0)
    else:
        cursor, order = torch.zeros(grid.bins, dtype=torch.int32), room(number)
        kernels.k_counting_sort(bin_of, start, cursor, order)
    found = _Places(room(number), room(number, 3), room(number), room(number), start)
    kernels.k_arrange(
        order, parent, image, bin_of, found.parent, found.image, found.bin, found.own
    )  # fmt: skip
    return found


def _rows(places: _Places, atoms: int) -> tuple[Tensor, Tensor]:
    """Home place and atom of every row."""
    if places.own.is_cuda:
        home = places.own.nonzero()[:, 0].to(torch.int32)
        return home, places.parent[home.long()].contiguous()
    home, atom = runtime.room(places.own, atoms), runtime.room(places.own, atoms)
    kernels.k_rows(places.own, places.parent, home, atom)
    return home, atom
