"""Pairs by tables: against formulas, sums over a crystal, and what is refused."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from ase.build import bulk

from scalebridge.engine.coupling.tabulated import PairTableInteraction, TabulatedPotential
from scalebridge.engine.errors import InputError
from scalebridge.engine.gas.collisions.published import PUBLISHED
from scalebridge.engine.md.classical import LennardJones, plain
from scalebridge.engine.md.interactions import Place
from scalebridge.engine.md.neighbours import build_neighbours
from scalebridge.engine.md.structure import from_atoms
from scalebridge.engine.units import BOLTZMANN_EV
from scalebridge.models.potentials.pair import LearnedPair, PairLabel, Prior

NEON = PUBLISHED["Ne"]


def evaluate(potential, atoms):
    state = from_atoms(atoms, potential.species)
    state = replace(state, anchor=state.positions, anchor_cell=state.cell)
    return potential(state, build_neighbours(state, potential.cutoff, 0.3))


def crystal(symbol="Ne", a=4.43, copies=4):
    return bulk(symbol, "fcc", a=a, cubic=True).repeat(copies)


def test_energy_and_forces_are_those_of_the_pair():
    """Of two atoms at every distance, inside the switch: the formula to 1e-9."""
    potential = TabulatedPotential.of(NEON.pair, NEON.smallest, 12.0, "Ne")
    for r in (0.6, 1.7, 2.9, 5.1, 9.9):
        pair = bulk("Ne", "fcc", a=40.0)
        pair = pair + pair
        pair.positions[1] = pair.positions[0] + [r * 0.6, 0, r * 0.8]
        pair.pbc = False
        at = torch.tensor(r, dtype=torch.float64, requires_grad=True)
        exact = NEON.pair(at)
        (slope,) = torch.autograd.grad(exact, at)
        found = evaluate(potential, pair)
        assert float(found.energy) == pytest.approx(
            BOLTZMANN_EV * float(exact.detach()), rel=1e-8
        )
        assert float(found.forces[1, 2]) == pytest.approx(
            -0.8 * BOLTZMANN_EV * float(slope), rel=1e-6
        )


def test_what_the_table_does_not_hold_is_no_number():
    pair = crystal(copies=1)
    pair.positions[1] = pair.positions[0] + [0.4, 0, 0]
    potential = TabulatedPotential.of(NEON.pair, NEON.smallest, 4.0, "Ne")
    found = evaluate(potential, pair)
    assert torch.isnan(found.energy).all()
    assert torch.isnan(found.forces[:2]).all()


def test_far_pairs_count_as_those_of_a_uniform_fluid():
    """Of a crystal at a cutoff of 8 angstrom against one at 16. Its shells are no fluid: by
    them the energy is left 3 % of what is missing without far pairs, the virial 18 %."""
    sums = {}
    for cutoff, far in ((8.0, 60.0), (8.0, 0.0), (16.0, 60.0)):
        potential = TabulatedPotential.of(NEON.pair, 0.5, cutoff, "Ne", farthest=far)
        found = evaluate(potential, crystal())
        sums[cutoff, far] = torch.stack([found.energy[0], found.virial[0].trace()])
    truth = sums[16.0, 60.0]
    with_far, without = ((sums[8.0, far] / truth - 1).abs() for far in (60.0, 0.0))
    assert (with_far < 0.25 * without).all()
    assert float(with_far[0]) < 2e-3
    assert float(without[0]) > 0.02


def test_a_text_table_is_the_formula_that_made_it(tmp_path):
    r = np.linspace(2.0, 12.0, 2001)
    v = 4 * 120.0 * ((3.4 / r) ** 12 - (3.4 / r) ** 6)
    file = tmp_path / "argon.txt"
    np.savetxt(file, np.stack([r, v], 1), header="from a formula")
    part = PairTableInteraction(file=file, symbol="Ar", cutoff=9.0, long_range=False)
    formula = LennardJones((120.0 * BOLTZMANN_EV,), (3.4,), 7.65, ("Ar",), plain)
    cluster = crystal("Ar", 5.3, 1)
    cluster.pbc = False  # all pairs nearer than the switch
    a = evaluate(part.potential(Place()), cluster)
    b = evaluate(formula, cluster)
    torch.testing.assert_close(a.energy, b.energy, rtol=1e-7, atol=0)
    torch.testing.assert_close(a.forces, b.forces, rtol=1e-5, atol=1e-8)


def test_a_learned_pair_is_read_from_its_labels(tmp_path):
    prior = Prior(NEON.dispersion)
    r = torch.tensor([1.6, 2.1, 3.0], dtype=torch.float64)
    labels = [
        PairLabel(float(x), float(v), 1e-4 * abs(float(v)))
        for x, v in zip(r, NEON.pair(r), strict=True)
    ]
    file = tmp_path / "potential.json"
    told = {"symbol": "Ne", "prior": asdict(prior), "labels": [asdict(x) for x in labels]}
    file.write_text(json.dumps(told))
    found = evaluate(PairTableInteraction(file=file).potential(Place()), crystal(copies=2))
    learned = LearnedPair.of(labels, prior)
    own = TabulatedPotential.of(learned, learned.smallest, 12.0, "Ne", farthest=200.0)
    assert torch.equal(found.energy, evaluate(own, crystal(copies=2)).energy)


@pytest.mark.parametrize(
    ("settings", "text", "told"),
    [
        ({}, None, "one of"),
        ({"of": "Ne", "file": "a.txt"}, None, "one of"),
        ({"of": "Ne", "symbol": "Ne"}, None, "only of a text file"),
        ({"file": "a.txt"}, None, "only of a text file"),
        ({"file": "a.txt", "symbol": "Ar", "cutoff": 20.0}, "good", "3 to 12 angstrom"),
        ({"file": "a.txt", "symbol": "Ar"}, "1 2\n" * 30, "must grow"),
        ({"file": "a.txt", "symbol": "Ar"}, "1 nan\n", "must be finite"),
        ({"file": "a.txt", "symbol": "Ar"}, "1 2 3\n", "3 columns"),
        ({"file": "a.json"}, "{}", "no learned pair potential"),
        ({"file": "a.json"}, '{"symbol": "Ne", "prior": {}, "labels": 3}', "no learned"),
        ({"of": "Xe", "cutoff": 0.65}, None, "0.6 to 200 angstrom"),
    ],
)
def test_what_is_no_potential_is_refused(tmp_path, settings, text, told):
    if text == "good":
        text = "".join(f"{x} {100 / x**6}\n" for x in np.linspace(3, 12, 40))
    if text is not None:
        (tmp_path / settings["file"]).write_text(text)
    if "file" in settings:
        settings = settings | {"file": tmp_path / settings["file"]}
    with pytest.raises((ValueError, InputError), match=told):
        PairTableInteraction(**settings).potential(Place(base=tmp_path))
