"""Energies against forces: other units, signs, frames and orders are noticed."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from label_sets import SETS, frames_of, labelled, strained

from scalebridge.engine.data import consistency
from scalebridge.engine.data.bonds import stiffness
from scalebridge.engine.data.consistency import compare, judge
from scalebridge.engine.data.frames import LabelledFrame
from scalebridge.engine.data.keys import ENERGY_UNITS, FORCES_UNITS, LabelKeys
from scalebridge.engine.data.reading import compared, read
from scalebridge.engine.errors import InputError

Frames = list[LabelledFrame]


def energies(factor: float) -> Callable[[Frames], Frames]:
    return lambda frames: [replace(f, energy=factor * f.energy) for f in frames]


def forces(matrix) -> Callable[[Frames], Frames]:
    return lambda frames: [
        replace(f, forces=f.forces @ (matrix * np.eye(3))) for f in frames
    ]


def of_frame(step: int, name: str) -> Callable[[Frames], Frames]:
    return lambda frames: [
        replace(f, **{name: getattr(frames[(k + step) % len(frames)], name)})
        for k, f in enumerate(frames)
    ]


def shuffled(frames: Frames) -> Frames:
    order = np.random.default_rng(1).permutation(len(frames))
    return [replace(f, energy=frames[k].energy) for f, k in zip(frames, order, strict=True)]


def forces_of_any(frames: Frames) -> Frames:
    order = np.random.default_rng(1).permutation(len(frames))
    return [replace(f, forces=frames[k].forces) for f, k in zip(frames, order, strict=True)]


def by_chance(frames: Frames) -> Frames:
    random = np.random.default_rng(0)
    return [
        replace(f, forces=np.std(f.forces) * random.normal(size=f.forces.shape))
        for f in frames
    ]


def axes(frames: Frames) -> Frames:
    return [replace(f, forces=f.forces[:, [1, 2, 0]]) for f in frames]


def turned(frames: Frames) -> Frames:
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    return [replace(f, forces=f.forces @ turn) for f in frames]


def other_atoms(frames: Frames) -> Frames:
    order = np.random.default_rng(0).permutation(len(frames[0].symbols))
    return [replace(f, forces=f.forces[order]) for f in frames]


def of_one_atom(frames: Frames) -> Frames:
    return [replace(f, energy=f.energy / len(f.symbols)) for f in frames]


def atomic_units(frames: Frames) -> Frames:
    force = units.Bohr / units.Hartree
    return [
        replace(f, energy=f.energy / units.Hartree, forces=force * f.forces) for f in frames
    ]


PLANTED = {
    "hartree": ("copper", energies(1 / units.Hartree), 'energy_unit = "hartree"'),
    "rydberg": ("argon", energies(1 / units.Rydberg), 'energy_unit = "rydberg"'),
    "kcal/mol": ("silicon", energies(23.06), 'energy_unit = "kcal/mol"'),
    "kJ/mol": ("alloy", energies(96.49), 'energy_unit = "kJ/mol"'),
    "meV": ("aluminium", energies(1000.0), 'energy_unit = "meV"'),
    "energies of the other sign": ("alloy", energies(-1.0), "the other sign"),
    "energies of one atom": ("silicon", of_one_atom, "those of one atom"),
    "both in atomic units": ("copper", atomic_units, 'forces_unit = "hartree/bohr"'),
    "forces in hartree/bohr": ("ethanol", forces(0.01945), 'unit = "hartree/bohr"'),
    "forces in rydberg/bohr": ("aluminium", forces(0.0389), 'unit = "rydberg/bohr"'),
    "forces in eV/bohr": ("silicon", forces(units.Bohr), 'forces_unit = "eV/bohr"'),
    "forces in kcal/mol": ("argon", forces(23.06), 'forces_unit = "kcal/mol/angstrom"'),
    "gradients": ("ethanol", forces(-1.0), 'forces_sign = "gradient"'),
    "energies of the next frame": ("silicon", of_frame(1, "energy"), "one frame before"),
    "energies of the last frame": ("alloy", of_frame(-1, "energy"), "one frame after"),
    "energies in any order": ("copper", shuffled, "nothing to do with the work"),
    "forces of the next frame": ("ethanol", of_frame(1, "forces"), "one frame before"),
    "forces of other axes": ("alloy", axes, "axes were turned"),
    "forces turned": ("silicon", turned, "axes were turned"),
    "forces of any frame": ("silicon", forces_of_any, "not those of these structures"),
    "forces by chance": ("alloy", by_chance, "not those of these structures"),
    "forces of other atoms": ("aluminium", other_atoms, "in another order"),
}


@cache
def hot(name: str) -> tuple[LabelledFrame, ...]:
    """Frames at one temperature."""
    cell, calculator = SETS.get(name, (lambda: molecule("CH3CH2OH"), EMT))
    shifts = np.random.default_rng(0).uniform(0.07, 0.13, 24)
    return tuple(
        labelled(strained(cell(), 0.0, size, k), calculator(), "hot")
        for k, size in enumerate(shifts)
    )


@pytest.mark.parametrize("name", PLANTED)
def test_planted_energies_are_noticed(name):
    kind, plant, said = PLANTED[name]
    with pytest.raises(ValueError, match="energies and forces do not fit") as caught:
        compare(plant(list(hot(kind))), stated=False)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def offset(frames: Frames) -> Frames:
    """Of all electrons, and of another setting in every second group."""
    sizes = {"Cu": -45_000.0, "Au": -518_000.0, "Ar": -14_000.0}
    return [
        replace(f, energy=f.energy + sum(sizes.get(s, -800.0) for s in f.symbols))
        for f in frames
    ]


def noisy(frames: Frames) -> Frames:
    """As a grid and a coarse convergence leave them."""
    random = np.random.default_rng(0)
    return [
        replace(
            f, energy=f.energy + 1e-3 * random.normal() * len(f.symbols),
            forces=f.forces + 0.05 * np.std(f.forces) * random.normal(size=f.forces.shape),
        )
        for f in frames
    ]  # fmt: skip


GOOD = {
    **{f"{name}, hot": lambda n=name: list(hot(n)) for name in [*SETS, "ethanol"]},
    **{f"{name}, two groups": lambda n=name: list(frames_of(n)) for name in SETS},
    **{f"{name}, of electrons": lambda n=name: offset(list(hot(n)))
       for name in ("copper", "alloy", "argon")},
    **{f"{name}, noisy": lambda n=name: noisy(list(hot(n)))
       for name in ("silicon", "ethanol")},
    "eight frames": lambda: list(hot("copper"))[:8],
    "three frames": lambda: list(hot("silicon"))[:3],
    "atoms alone": lambda: [
        *(labelled_alone(symbol) for symbol in "HCO"), *hot("ethanol")
    ],
    "two sets": lambda: [*hot("ethanol"), *(replace(f, group="b") for f in hot("alloy"))],
}  # fmt: skip


def labelled_alone(symbol: str) -> LabelledFrame:
    none = np.zeros((1, 3))
    return LabelledFrame((symbol,), none, 0 * np.eye(3), np.zeros(3, bool), -500.0, none)


@pytest.mark.parametrize("name", GOOD)
def test_good_energies_pass(name):
    verdicts = judge(GOOD[name]())
    assert all(each.outcome != "contradicted" for each in verdicts)
    if name not in ("three frames", "atoms alone"):
        assert all(each.outcome == "confirmed" for each in verdicts), verdicts


def test_there_are_twenty_of_each():
    assert len(PLANTED) == 22 and len(GOOD) == 20


def test_single_energies_are_named_whatever_frame_they_are_of(monkeypatch):
    monkeypatch.setattr(consistency, "_FRAMES", 24)
    frames = [replace(f, origin=f"frame {k}") for k, f in enumerate(2 * hot("copper"))]
    last = max(set(range(48)) - set(consistency._chosen(frames)))
    frames[last] = replace(frames[last], energy=frames[last].energy + 1.5)
    said = compare(frames, stated=False)
    assert said[1:] == [f"the energy of frame {last} is 1.5 eV off the work of the forces"]


@pytest.mark.parametrize(
    ("unit", "force"),
    [("kcal/mol", "kcal/mol/angstrom"), ("hartree", "hartree/angstrom"),
     ("kJ/mol", "kJ/mol/angstrom"), ("meV", "meV/angstrom")],
)  # fmt: skip
def test_bonds_of_hydrogen_tell_a_unit_of_both(unit, force):
    frames = [
        replace(f, energy=f.energy / ENERGY_UNITS[unit],
                forces=f.forces / FORCES_UNITS[force])
        for f in hot("ethanol")
    ]  # fmt: skip
    with pytest.raises(ValueError, match=f"both in {unit}") as caught:
        compare(frames, stated=False)
    assert 'say energy_unit = "eV"' not in str(caught.value)
    assert any("bonds of hydrogen" in text for text in compare(frames, stated=True))


@pytest.mark.parametrize("sure", [0.85, 0.75])
def test_forces_that_follow_the_bond_loosely_tell_no_stiffness(sure):
    """Forces whose correlation with the length of the bond is -sure."""
    phase = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    lengths = 1.0 + 0.05 * np.cos(phase)
    pulls = -2.0 * (sure * np.cos(phase) + math.sqrt(1 - sure**2) * np.sin(phase))
    hydroxyl = labelled_alone("O")
    frames = [
        replace(
            hydroxyl, symbols=("O", "H"),
            positions=np.array([[0, 0, 0], [0, 0, length]]),
            forces=np.array([[0, 0, -pull], [0, 0, pull]]),
        )
        for length, pull in zip(lengths, pulls, strict=True)
    ]  # fmt: skip
    expected = pytest.approx(40.0 * sure) if sure > 0.8 else None
    assert stiffness(frames) == expected


def test_bonds_that_do_not_move_tell_nothing():
    assert stiffness(hot("copper")) is None
    assert stiffness(1 * [hot("ethanol")[0]]) is None
    assert 10 < (stiffness(hot("ethanol")) or 0) < 100


def test_forces_of_relaxed_structures_are_noise_and_no_accusation():
    frames = [replace(f, forces=0.03 / np.std(f.forces) * f.forces)
              for f in by_chance(list(hot("copper")))]  # fmt: skip
    assert "a model explains" in compare(frames, stated=False)[0]


def test_one_group_of_several_is_named():
    frames = [replace(f, group="cold") for f in hot("copper")]
    frames += energies(1 / units.Hartree)(list(hot("copper")))
    with pytest.raises(ValueError, match="do not fit in group 'hot'"):
        compare(frames, stated=False)
    assert "confirmed" in {verdict.outcome for verdict in judge(frames)}


def test_of_several_groups_the_least_and_the_largest_factor_are_said():
    frames = [*hot("copper"), *(replace(f, group="cold") for f in hot("silicon"))]
    factors = [verdict.factor for verdict in judge(frames)]
    (said,) = compare(frames, stated=False)
    assert f"fit the forces: {min(factors):.2g} to {max(factors):.2g} times" in said
    assert f"{min(factors):.2g}" != f"{max(factors):.2g}"


def test_groups_too_small_to_be_told_alone_are_told_together():
    frames = [replace(f, group=str(k // 2)) for k, f in enumerate(hot("copper")[:16])]
    assert [verdict.outcome for verdict in judge(frames)] == ["confirmed"]
    with pytest.raises(ValueError, match="and 5 more"):
        compare(energies(-1.0)(frames), stated=False)


def test_what_cannot_be_told_is_said():
    said = compare(hot("copper")[:2], stated=False)
    assert said == [
        "whether energies fit the forces was not told in group 'hot': too few frames of "
        "one composition"
    ]


@pytest.mark.parametrize("key", ["energy_unit", "forces_unit", "forces_sign"])
def test_keys_set_it_right(key, tmp_path):
    plant, value = {
        "energy_unit": (energies(1 / units.Hartree), "hartree"),
        "forces_unit": (forces(units.Bohr), "eV/bohr"),
        "forces_sign": (forces(-1.0), "gradient"),
    }[key]
    images = []
    for frame in plant(list(hot("silicon"))):
        atoms = Atoms(frame.symbols, frame.positions, cell=frame.cell, pbc=True)
        atoms.calc = SinglePointCalculator(atoms, energy=frame.energy, forces=frame.forces)
        images.append(atoms)
    ase.io.write(tmp_path / "a.extxyz", images)
    with pytest.raises(InputError, match=f'{key} = "{value}"'):
        compared(read(tmp_path / "a.extxyz"))
    reading = read(tmp_path / "a.extxyz", LabelKeys.model_validate({key: value}))
    assert value in reading.sentences[0]
    assert "energies fit the forces" in compared(reading)[0]
    for mended, true in zip(reading.frames, hot("silicon"), strict=True):
        assert np.isclose(mended.energy, true.energy)
        assert np.allclose(mended.forces, true.forces, atol=1e-6)
    insisted = read(tmp_path / "a.extxyz", LabelKeys(energy_unit="eV"))
    assert "do not fit" in compared(insisted)[0]
