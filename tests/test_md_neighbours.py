"""Neighbour lists against ASE's on awkward cells."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.neighborlist import neighbor_list

from scalebridge.engine.errors import InputError
from scalebridge.engine.md import neighbours as module
from scalebridge.engine.md.neighbours import build_neighbours
from scalebridge.engine.md.state import concatenate
from scalebridge.engine.md.structure import from_atoms


def random_atoms(cell, number, pbc, seed, spread=1.0):
    rng = np.random.default_rng(seed)
    frame = np.array(cell, float)
    fractions = rng.uniform(0.5 - spread / 2, 0.5 + spread / 2, (number, 3))
    return Atoms(f"Ar{number}", positions=fractions @ frame, cell=frame, pbc=pbc)


CASES = {
    "cubic": (random_atoms(np.eye(3) * 12, 60, True, 0), 4.0),
    "triclinic": (random_atoms([[7, 0, 0], [3, 6, 0], [-2, 2.5, 8]], 40, True, 1), 3.5),
    "smaller than the cutoff": (random_atoms(np.diag([2.0, 1.6, 9.0]), 5, True, 2), 5.0),
    "one atom, thin triclinic": (
        random_atoms([[2.5, 0, 0], [1.2, 2.2, 0], [1.2, 0.7, 2.1]], 1, True, 3), 6.0,
    ),
    "slab": (random_atoms(np.diag([6.0, 5.0, 30.0]), 30, [True, True, False], 4), 4.0),
    "wire along b": (
        random_atoms([[20, 1, 0], [2, 3, 1], [0, 1, 20]], 12, [False, True, False], 5), 4.5,
    ),
    "left-handed": (random_atoms([[0, 6, 0], [6, 0, 0], [0, 0, 7]], 25, True, 6), 3.0),
    "molecule without a cell": (
        Atoms("Ar4", positions=[[0, 0, 0], [1, 0, 0], [0, 9, 0], [0, 9, 2]]), 3.0,
    ),
    "molecules far apart": (
        Atoms("Ar4", positions=[[0, 0, 0], [1, 0, 0], [0, 9e4, 0], [0, 9e4, 2]]), 3.0,
    ),
    "unwrapped": (random_atoms(np.eye(3) * 9, 40, True, 7, spread=6.0), 3.7),
    "plane of atoms": (
        random_atoms(np.diag([9.0, 9.0, 0.0]), 20, [True, True, False], 8), 3.0,
    ),
}  # fmt: skip


def pairs_of(state, list_):
    rows = torch.arange(state.atoms)[:, None].expand_as(list_.index)
    valid = torch.arange(list_.index.shape[1]) < list_.count[:, None]
    table = torch.cat([rows[..., None], list_.index[..., None], list_.shift], -1)
    return sorted(map(tuple, table[valid].tolist()))


def pairs_of_ase(atoms, cutoff):
    i, j, shift = neighbor_list("ijS", atoms, cutoff)
    return sorted(map(tuple, np.column_stack([i, j, shift]).tolist()))


@pytest.mark.parametrize("name", CASES)
def test_equals_ase(name):
    atoms, cutoff = CASES[name]
    state = from_atoms(atoms, ("Ar",))
    assert pairs_of(state, build_neighbours(state, cutoff, 0.0)) == pairs_of_ase(
        atoms, cutoff
    )


def test_batch_of_all_cases_equals_each_alone():
    chosen = [atoms for atoms, _ in CASES.values()]
    state = concatenate([from_atoms(atoms, ("Ar",)) for atoms in chosen])
    found, expected, offset = pairs_of(state, build_neighbours(state, 3.0, 0.3)), [], 0
    for atoms in chosen:
        expected += [(i + offset, j + offset, *s) for i, j, *s in pairs_of_ase(atoms, 3.3)]
        offset += len(atoms)
    assert found == sorted(expected)


def test_a_list_for_a_shorter_cutoff_is_a_planted_defect_that_is_seen():
    atoms, cutoff = CASES["triclinic"]
    state = from_atoms(atoms, ("Ar",))
    assert pairs_of(state, build_neighbours(state, 0.97 * cutoff, 0.0)) != pairs_of_ase(
        atoms, cutoff
    )


def blocks_of(list_):
    """The places near each block, as the lists of its rows have them."""
    found = []
    for first, last in list_.layout.blocks.tolist():
        rows = range(first, last + 1)
        near = {e for r in rows for e in list_.slots[r, : list_.rows[r]].tolist()}
        found.append(near | set(list_.home[first : last + 1].tolist()))
    return found


def lists_of(blocks):
    """Each block's own list."""
    slots = blocks.slots.tolist()
    return [slots[k : slots.index(-1, k)] for k in blocks.begin.tolist()]


@pytest.mark.parametrize("name", CASES)
def test_blocks_have_the_neighbours_of_their_rows(name):
    atoms, cutoff = CASES[name]
    table = build_neighbours(from_atoms(atoms, ("Ar",)), cutoff, 0.0)
    for near, listed in zip(blocks_of(table), lists_of(table.blocks), strict=True):
        assert sorted(listed) == sorted(near)


def test_the_next_list_has_the_room_that_the_last_one_needed(monkeypatch):
    """Where the density misleads, a search is not made twice but for the first list."""
    corner = random_atoms(np.eye(3) * 12, 400, True, 0)
    corner.set_cell(np.eye(3) * 60)
    state, rooms, searches = from_atoms(corner, ("Ar",)), {}, []
    for kernel in ("k_search", "k_search_blocks"):
        launch = getattr(module.kernels, kernel)

        def counted(*given, launch=launch):
            searches.append(launch)
            launch(*given)

        monkeypatch.setattr(module.kernels, kernel, counted)
    found = []
    for _ in range(2):
        table = build_neighbours(state, 4.0, 0.0, None, rooms)
        found.append([lists_of(table.blocks), table.rows.tolist(), len(searches)])
    assert found[0][:2] == found[1][:2]
    assert [n for *_, n in found] == [4, 6]


def test_an_atom_without_a_position_is_named():
    """It crashed the process: an atom that is nowhere has no bin."""
    start = from_atoms(random_atoms(np.eye(3) * 12, 60, True, 0), ("Ar",))
    for value in (float("nan"), float("inf")):
        anchor = start.anchor.clone()
        anchor[7, 1] = value
        with pytest.raises(InputError, match="atom 7 has no finite position"):
            build_neighbours(replace(start, anchor=anchor), 4.0, 0.0)


def test_grows_on_overflow(monkeypatch):
    atoms, cutoff = CASES["cubic"]
    state = from_atoms(atoms, ("Ar",))
    monkeypatch.setattr(module, "_first_capacity", lambda _: 3)
    table = build_neighbours(state, cutoff, 0.0)
    assert pairs_of(state, table) == pairs_of_ase(atoms, cutoff)
    assert [set(listed) for listed in lists_of(table.blocks)] == blocks_of(table)


@pytest.mark.parametrize("name", ["triclinic", "one atom, thin triclinic", "unwrapped"])
def test_reverse_slots_point_back(name):
    atoms, cutoff = CASES[name]
    state = from_atoms(atoms, ("Ar",))
    table = build_neighbours(state, cutoff, 0.0)
    for r in range(state.atoms):
        for n in range(int(table.rows[r])):
            q = int(table.row[table.parent[table.slots[r, n]].long()])
            m = int(table.reverse[r, n])
            assert int(table.parent[table.slots[q, m].long()]) == int(table.atom[r])
            assert int(table.reverse[q, m]) == n


def test_a_cell_without_volume_is_refused():
    atoms = Atoms("Ar", cell=[[1, 0, 0], [2, 0, 0], [0, 0, 1]], pbc=True)
    with pytest.raises(InputError, match="needs a volume"):
        build_neighbours(from_atoms(atoms, ("Ar",)), 3.0, 0.0)


def test_of_several_systems_the_thin_one_is_named():
    thick, thin = (
        from_atoms(Atoms("Ar", cell=[5.0, 5.0, size], pbc=True), ("Ar",))
        for size in (5.0, 1e-4)
    )
    # (1 + 6/5)^2 (1 + 6/1e-4) images
    words = r"cell of system 1: only 0\.0001 angstrom thin, so that 2\.9e\+05 images"
    with pytest.raises(InputError, match=words):
        build_neighbours(concatenate([thick, thin]), 3.0, 0.0)
