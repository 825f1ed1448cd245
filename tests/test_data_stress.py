"""Stress labels against energies and forces: what is swapped or rescaled is noticed."""

import itertools
import re
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from ase import units
from ase.build import bulk
from ase.calculators.emt import EMT
from label_sets import SETS, alloy, frames_of, labelled, strained

from scalebridge.engine.data.frames import LabelledFrame
from scalebridge.engine.data.keys import VOIGT
from scalebridge.engine.data.stress import _order, _without_placeholders, judge, settle


def swapped(virial: np.ndarray, order: tuple[int, ...]) -> np.ndarray:
    places = ((1, 2), (0, 2), (0, 1))
    found = virial.copy()
    for (i, j), k in zip(places, order, strict=True):
        found[i, j] = found[j, i] = virial[places[k]]
    return found


ORDERS = [order for order in itertools.permutations(range(3)) if order != (0, 1, 2)]
SIZES = [-1.0, 10.0, 0.1, 160.2, 1 / 160.2, -10.0]
PLANTS = [(name, ORDERS[k % 5]) for k, name in enumerate(SETS)] + [
    (name, ORDERS[(k + 2) % 5]) for k, name in enumerate(SETS)
]
PLANTS += [(name, SIZES[k]) for k, name in enumerate(SETS)]
PLANTS += [(name, SIZES[-1 - k]) for k, name in enumerate(SETS)]


def planted(name: str, plant) -> list[LabelledFrame]:
    change = (lambda w: plant * w) if isinstance(plant, float) else (
        lambda w: swapped(w, plant)
    )  # fmt: skip
    return [replace(f, virial=change(f.virial)) for f in frames_of(name)]


@pytest.mark.parametrize(("name", "plant"), PLANTS)
def test_planted_stress_is_noticed(name, plant):
    with pytest.raises(ValueError, match="the stress does not fit energies and forces"):
        settle(planted(name, plant), ambiguous=False, stated=False)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("size", [0.5, 2.0])
def test_a_factor_of_two_is_seen_where_a_model_is_good(name, size):
    with pytest.raises(ValueError, match=r"hartree|rydberg|times it"):
        settle(planted(name, size), ambiguous=False, stated=False)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("half", range(4))
def test_good_sets_pass(name, half):
    frames = frames_of(name)[half::4] if half else frames_of(name)
    _, said = settle(frames, ambiguous=False, stated=False)
    assert len(said) == 2


@pytest.mark.parametrize("order", ORDERS)
def test_an_open_order_is_chosen_group_by_group(order):
    frames = [
        replace(f, virial=swapped(f.virial, order)) if f.group == "hot" else f
        for f in frames_of("copper")
    ]
    mended, said = settle(frames, ambiguous=True, stated=False)
    for ours, true in zip(mended, frames_of("copper"), strict=True):
        assert np.allclose(ours.virial, true.virial)
    assert all("chosen by energies and forces" in text for text in said)


def test_what_the_keys_say_is_taken_and_named():
    frames, said = settle(planted("copper", -1.0), ambiguous=False, stated=True)
    assert np.allclose(frames[0].virial, -frames_of("copper")[0].virial)
    assert any("contradicted" in text and "sign" in text for text in said)


def test_the_unit_is_named():
    verdict = judge(planted("copper", 160.2176))[0]
    assert "GPa had been taken for eV/angstrom^3" in verdict.reason


def test_too_few_labels_are_no_verdict():
    frames = frames_of("copper")[:2]
    assert judge(frames)[0].outcome == "unsure"
    with pytest.raises(ValueError, match="say it with stress_order"):
        settle(frames, ambiguous=True, stated=False)
    assert len(settle(frames, ambiguous=True, stated=True)[0]) == 2


def test_an_order_of_components_that_hardly_count_is_no_accusation():
    model = np.array([[-0.004, 0.074, -0.006], [0.0, -0.073, 0.0], [-0.004, 0.072, -0.006]])
    labels = np.array([[-0.008, 0.123, 0.001], [0.0, -0.122, 0.0], [-0.007, 0.121, 0.001]])
    # yz and xy exchanged correlate better by 0.001, no more than the model's own error
    assert _order(model, labels) == ((0, 1, 2), False)
    order, told = _order(model, labels[:, [1, 0, 2]])
    assert order[1] == 0 and told


def test_groups_without_a_verdict_are_named_and_slabs_are_judged():
    frames = list(frames_of("aluminium"))
    slabs = [replace(f, periodic=np.array([True, True, False])) for f in frames]
    assert [v.outcome for v in judge(slabs)] == ["confirmed", "confirmed"]
    lone = [replace(f, periodic=np.zeros(3, bool), group="box") for f in frames[:2]]
    _, said = settle([*frames, *lone], ambiguous=False, stated=False)
    assert any("'box': unsure, taken as" in text for text in said)
    alone, said = settle(lone, ambiguous=False, stated=False)
    assert all(f.virial is None for f in alone)
    assert "left out" in said[0] and "stress_unit and stress_sign, all three" in said[0]
    alone, said = settle(lone, ambiguous=False, stated=True, defined=True)
    assert all(f.virial is not None for f in alone) and "unsure" in said[0]
    with pytest.raises(ValueError, match="'box': the order of the stress is not told"):
        settle(lone, ambiguous=True, stated=False)


def test_an_open_order_that_is_not_told_leaves_the_stress_out():
    known = frames_of("copper")
    few = [replace(f, group="few") for f in known[:3]]
    flat = np.eye(3)
    few = [replace(f, virial=flat + 1e-2 * (k == 1)) for k, f in enumerate(few)]
    frames, said = settle([*known, *few], ambiguous=True, stated=False)
    assert all(f.virial is not None for f in frames[:-3])
    assert all(f.virial is None for f in frames[-3:])
    assert any("'few': left out" in text and "stress_order" in text for text in said)
    frames, _ = settle([*known, *few], ambiguous=True, stated=True)
    assert all(f.virial is not None for f in frames)


def times(name: str, factor: float) -> np.ndarray:
    """Factors of the components of a stress, one of which, or all shears, are others."""
    if name == "the shear":
        return np.where(np.eye(3) == 1, 1.0, factor)
    size, (i, j) = np.ones((3, 3)), ("xyz".index(axis) for axis in name)
    size[i, j] = size[j, i] = factor
    return size


@pytest.mark.parametrize("factor", [-1.0, 0.0])
@pytest.mark.parametrize("component", [*VOIGT.split(), "the shear"])
def test_one_component_that_is_wrong_is_named(component, factor):
    size = times(component, factor)
    frames = [replace(f, virial=size * f.virial) for f in frames_of("copper")]
    with pytest.raises(ValueError, match=rf"{component} alone does not fit") as caught:
        settle(frames, ambiguous=False, stated=False)
    assert "stress_order" not in str(caught.value)


@pytest.mark.parametrize(("name", "gpa"), [("copper", 20.0), ("copper", -20.0),
                                           ("argon", 1.0), ("silicon", 30.0)])  # fmt: skip
def test_a_pressure_that_was_added_is_refused(name, gpa):
    added = gpa * units.GPa * np.eye(3)
    frames = [replace(f, virial=f.virial + f.volume * added) for f in frames_of(name)]
    with pytest.raises(ValueError, match="a pressure that was added"):
        settle(frames, ambiguous=False, stated=False)


@pytest.mark.parametrize(("part", "said"), [
    (lambda w: w - np.trace(w) / 3 * np.eye(3), "the pressure is missing"),
    (lambda w: np.trace(w) / 3 * np.eye(3), "they are a pressure alone"),
])  # fmt: skip
def test_a_part_of_the_stress_that_is_missing_is_named(part, said):
    frames = [replace(f, virial=part(f.virial)) for f in frames_of("copper")]
    with pytest.raises(ValueError, match=said):
        settle(frames, ambiguous=False, stated=False)


def test_a_little_pressure_is_named():
    added = 5 * units.GPa * np.eye(3)
    frames = [replace(f, virial=f.virial + f.volume * added) for f in frames_of("copper")]
    _, said = settle(frames, ambiguous=False, stated=False)
    assert all("GPa are in every frame" in t and "Pulay" in t for t in said)


def test_a_pressure_is_refused_where_energies_tell_it():
    """What a model of other groups makes of frames of one volume refuses none of them."""
    added = 40 * units.GPa * np.eye(3)
    frames = [replace(f, virial=f.virial + f.volume * added) for f in frames_of("copper")]
    with pytest.raises(ValueError, match="a pressure that was added"):
        settle(frames, ambiguous=False, stated=False)
    sizes = {round(f.volume / len(f.symbols), 6) for f in frames if f.group == "hot"}
    assert len(sizes) == 1
    some = [f if f.group == "hot" else g for f, g in zip(frames, frames_of("copper"),
                                                         strict=True)]  # fmt: skip
    _, said = settle(some, ambiguous=False, stated=False)
    assert any("GPa are in every frame" in text for text in said)


def test_stresses_of_exactly_0_are_left_out():
    frames = list(frames_of("copper"))
    some = [replace(f, virial=0 * f.virial) if k % 4 == 3 else f
            for k, f in enumerate(frames)]  # fmt: skip
    found, said = settle(some, ambiguous=False, stated=False)
    assert [f.virial is None for f in found] == [k % 4 == 3 for k in range(32)]
    assert "stress of 8 frames (first: hot): left out: exactly 0" in said[0]
    still = [replace(f, forces=0 * f.forces) for f in some]
    found = _without_placeholders(still)[0]  # strained: of several volumes
    assert sum(f.virial is None for f in found) >= 4
    alone = [replace(f, forces=0 * f.forces) for f in some[3:4]]  # at rest
    assert _without_placeholders([*frames, *alone])[1] == []


def test_groups_that_no_model_of_all_tells_are_told_alone():
    few = {name: frames_of(name)[:12] for name in ("alloy", "silicon", "aluminium")}
    frames = [replace(f, group=name) for name in few for f in few[name][::2]]
    assert {v.group: v.outcome for v in judge(frames)} == {
        "alloy": "confirmed", "silicon": "confirmed", "aluminium": "confirmed",
    }  # fmt: skip
    one = [replace(f, group="alloy") for f in frames_of("alloy")]
    assert [v.outcome for v in judge(one)] == ["confirmed"]


@cache
def sixteen(name: str) -> tuple[LabelledFrame, ...]:
    cell, calculator = SETS[name]
    return tuple(
        replace(
            labelled(strained(cell(), 0.03, 0.08, k), calculator(), ""), origin=f"frame {k}"
        )
        for k in range(16)
    )


def frames_with(change, at=(), name="copper"):
    """Strained frames, the stresses of some changed."""
    return [
        replace(f, virial=change(f.virial)) if k in at else f
        for k, f in enumerate(sixteen(name))
    ]


def exchanged(virial: np.ndarray) -> np.ndarray:
    """Exchange x and z."""
    return virial[np.ix_([2, 1, 0], [2, 1, 0])]


@pytest.mark.parametrize(
    ("name", "component"), [("copper", "xz"), ("argon", "xy"), ("silicon", "yz")]
)
def test_half_of_a_shear_is_refused(name, component):
    frames = frames_with(lambda w: times(component, 0.5) * w, range(16), name)
    with pytest.raises(ValueError, match=f"{component} alone does not fit: it is 0.(5|49)"):
        settle(frames, ambiguous=False, stated=False)


@pytest.mark.parametrize(
    ("factor", "said"), [(-1.0, "-1|-0.9"), (0.5, "0.5"), (10, "9.9|10")]
)
def test_the_stress_of_one_frame_that_stands_out_is_named(factor, said):
    frames = frames_with(lambda w: factor * w, [7])
    _, texts = settle(frames, ambiguous=False, stated=False)
    assert "confirmed" in texts[0]
    (text,) = texts[1:]
    assert re.search(rf"the stress of frame 7 is ({said})\d* times what those of", text)


def test_components_exchanged_in_some_frames_are_named_or_refused():
    frames = frames_with(exchanged, [3])
    _, texts = settle(frames, ambiguous=False, stated=False)
    assert any("the stress of frame 3" in text for text in texts[1:])
    frames = frames_with(exchanged, range(0, 16, 2))
    with pytest.raises(ValueError, match="frames stand out: the stress of"):
        settle(frames, ambiguous=False, stated=False)


def test_what_could_not_be_seen_is_no_confirmation():
    cell = bulk("Cu", cubic=True)
    still = [labelled(strained(cell, 0.0, 0.1, k), EMT(), "") for k in range(10)]
    _, texts = settle(still, ambiguous=False, stated=False)
    assert re.search(
        r"not contradicted \(could not see a factor .*or a pressure\)", texts[0]
    )


def few_alloys():
    return [labelled(strained(alloy(), 0.02, 0.05, k), EMT(), "") for k in range(10)]


def equation_of_state():
    sizes = np.linspace(3.8, 4.3, 12)
    return [labelled(bulk("Al", cubic=True, a=a), EMT(), "") for a in sizes]


def elastic():
    return [labelled(strained(bulk("Cu"), 0.02, 0.0, k), EMT(), "") for k in range(14)]


@pytest.mark.parametrize("frames", [few_alloys, equation_of_state, elastic])
@pytest.mark.parametrize("size", [1.0, -1.0])
def test_small_sets_are_told_too(frames, size):
    changed = [replace(f, virial=size * f.virial) for f in frames()]
    if size == 1.0:
        found, _ = settle(changed, ambiguous=False, stated=False)
        assert all(f.virial is not None for f in found)
    else:
        with pytest.raises(ValueError, match="does not fit energies and forces"):
            settle(changed, ambiguous=False, stated=False)


def test_the_work_of_strain_tells_no_open_order():
    with pytest.raises(ValueError, match="the order of the stress is not told"):
        settle(elastic(), ambiguous=True, stated=False)
