"""The other potentials: local frame, Behler-Parrinello, unconstrained, sums."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from scalebridge.engine import runtime
from scalebridge.engine.learn.trainers.potential import (
    Settings,
    Training,
    evaluate,
    predict,
    set_statistics,
    turned,
)
from scalebridge.engine.learn.trainers.tables import TrainingSet
from scalebridge.engine.md.data import LabelledFrame
from scalebridge.engine.md.learned import pair_gradients
from scalebridge.models import card
from scalebridge.models.potentials.behler_parrinello import BehlerParrinello
from scalebridge.models.potentials.deep_potential import HigherMoments
from scalebridge.models.potentials.local_frame import LocalFrame, local_frames
from scalebridge.models.potentials.sums import COULOMB, ZblRepulsion, ZblSum
from scalebridge.models.potentials.unconstrained import (
    Unconstrained,
    random_rotations,
)

SPECIES = ("O", "Si")
SMALL = HigherMoments(
    SPECIES, cutoff=4.5, channels=4, axis=2, products=2, fitting=(8,), members=1
)
FORMS = {
    "local_frame": LocalFrame(
        SPECIES, cutoff=4.5, angular=(3, 4), radial=(2, 3), fitting=(12,), members=2
    ),
    "behler_parrinello": BehlerParrinello(
        SPECIES, cutoff=4.5, shifts=5, zetas=(1.0, 4.0), fitting=(12,)
    ),
    "unconstrained": Unconstrained(
        SPECIES, cutoff=4.5, channels=3, fitting=(12,), members=2
    ),
    "zbl_sum": ZblSum(SMALL, numbers=(8, 14), inner=1.0, outer=2.0),
}
INVARIANT = ["local_frame", "behler_parrinello", "zbl_sum"]
BLOCKS = (5, 7)


@pytest.fixture(autouse=True)
def one_thread():
    runtime.start("cpu")
    torch.set_num_threads(1)


def environments(seed: int = 0, atoms: int = 6) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    shape = (atoms, sum(BLOCKS), 3)
    d = torch.randn(shape, generator=generator, dtype=torch.float64) * 1.8
    mask = torch.rand(shape[:2], generator=generator) < 0.8
    kinds = torch.tensor([0] * BLOCKS[0] + [1] * BLOCKS[1]).expand(shape[:2])
    return d, kinds, mask, torch.randint(0, 2, (atoms,), generator=generator)


def built(name: str):
    model = FORMS[name].build(seed=3).double()
    d, _, mask, species = environments(1, 40)
    model.set_statistics(d, mask, BLOCKS, species)
    return model


@pytest.mark.parametrize("name", FORMS)
def test_gradient_is_exact_and_padding_is_nothing(name):
    model = built(name)
    d, kinds, mask, species = environments(2, 3)

    def total(x):
        return model(x, kinds, mask, species).sum(1)

    assert torch.autograd.gradcheck(total, d.clone().requires_grad_(), atol=1e-6)
    junk = torch.full((len(d), 4, 3), 0.7, dtype=d.dtype)
    nothing = torch.zeros(len(d), 4, dtype=torch.bool)
    wide = model(
        torch.cat([junk, d], 1),
        torch.cat([nothing.long(), kinds], 1),
        torch.cat([nothing, mask], 1),
        species,
    )
    assert torch.allclose(wide, model(d, kinds, mask, species), rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", FORMS)
def test_rotation_and_order(name):
    model = built(name)
    d, kinds, mask, species = environments(4)
    energy = model(d, kinds, mask, species)
    turn = random_rotations(1, torch.Generator().manual_seed(0))[0]
    moved = (model(d @ turn.T, kinds, mask, species) - energy).abs().max()
    assert (moved < 1e-10) == (name in INVARIANT)
    order = torch.randperm(d.shape[1], generator=torch.Generator().manual_seed(1))
    swapped = model(d[:, order], kinds[:, order], mask[:, order], species)
    assert torch.allclose(swapped, energy, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", FORMS)
def test_saved_and_loaded(name, tmp_path):
    model = built(name)
    arguments = environments(5)
    path = card.save_module(tmp_path / name, model, {})
    loaded, found = card.load_module(path)
    assert found["form"] == name
    assert torch.equal(loaded(*arguments), model(*arguments))


def test_local_frame_jumps_where_the_nearest_neighbours_swap():
    """The negative control: the energy has a step, the Deep Potential's has none."""
    control, smooth = built("local_frame"), built("zbl_sum")
    d, kinds, mask, species = environments(6, 1)
    mask = torch.ones_like(mask)
    d = torch.nn.functional.normalize(d, dim=-1) * 3.5
    jumps = []
    for model in (control, smooth):
        energies = []
        for gap in (-1e-7, 1e-7):
            moved = d.clone()
            moved[:, 0] *= (2.0 + gap) / 3.5
            moved[:, 6] *= 2.0 / 3.5
            energies.append(model(moved, kinds, mask, species))
        jumps.append(float((energies[0] - energies[1]).detach().abs().max()))
    assert jumps[0] > 1e-3
    assert jumps[1] < 1e-5


def test_local_frames_are_proper_even_for_a_row_of_atoms():
    d, _, mask, _ = environments(7)
    d[0] = torch.linspace(1, 3, d.shape[1], dtype=d.dtype)[:, None] * torch.ones(3)
    mask = mask.clone()
    mask[1] = False
    frames = local_frames(d, d.norm(dim=-1), mask)
    eye = torch.eye(3, dtype=d.dtype).expand(len(d), 3, 3)
    assert torch.allclose(frames @ frames.mT, eye, atol=1e-12)
    assert torch.allclose(torch.linalg.det(frames), torch.ones(len(d), dtype=d.dtype))


def test_symmetry_functions_equal_their_definition():
    model = built("behler_parrinello")
    c = model.config
    d, kinds, mask, _ = environments(8, 1)
    features = model.features(d, kinds, mask)[0]

    def f(r, rc):
        return 0.5 * (np.cos(np.pi * r / rc) + 1) if r < rc else 0.0

    rows = [(d[0, k].numpy(), int(kinds[0, k])) for k in range(d.shape[1]) if mask[0, k]]
    width = (c.cutoff - c.first) / (c.shifts - 1)
    shift = c.first + 2 * width
    g2 = sum(
        np.exp(-0.5 * ((np.linalg.norm(v) - shift) / width) ** 2)
        * f(np.linalg.norm(v), c.cutoff)
        for v, kind in rows
        if kind == 1
    )
    assert float(features[c.shifts + 2]) == pytest.approx(g2, abs=1e-12)
    total, eta, zeta, sign = 0.0, c.etas[1], c.zetas[1], -1
    for a, (v, one) in enumerate(rows):
        for w, two in rows[a + 1 :]:
            if {one, two} != {0, 1}:
                continue
            r, s, t = np.linalg.norm(v), np.linalg.norm(w), np.linalg.norm(v - w)
            cosine = v @ w / (r * s)
            total += (
                2 ** (1 - zeta) * (1 + sign * cosine) ** zeta
                * np.exp(-eta * (r * r + s * s + t * t))
                * f(r, c.angular_cutoff) * f(s, c.angular_cutoff) * f(t, c.angular_cutoff)
            )  # fmt: skip
    per_pair = len(c.etas) * len(c.zetas) * 2
    index = 2 * c.shifts + per_pair * 1 + (1 * len(c.zetas) + 1) * 2 + 1
    assert float(features[index]) == pytest.approx(total, rel=1e-10, abs=1e-12)


def test_zbl_equals_its_formula_and_is_gone_beyond_outer():
    repulsion = ZblRepulsion((8, 14), inner=1.0, outer=2.0)
    d = torch.tensor([[[0.6, 0.0, 0.0], [0.0, 2.1, 0.0]]], dtype=torch.float64)
    kinds = torch.tensor([[1, 0]])
    mask = torch.ones(1, 2, dtype=torch.bool)
    a = 0.46850 / (8**0.23 + 14**0.23)
    screening = (
        0.18175 * np.exp(-3.1998 * 0.6 / a) + 0.50986 * np.exp(-0.94229 * 0.6 / a)
        + 0.28022 * np.exp(-0.4029 * 0.6 / a) + 0.02817 * np.exp(-0.20162 * 0.6 / a)
    )  # fmt: skip
    expected = 0.5 * COULOMB * 8 * 14 / 0.6 * screening
    found = repulsion(d, kinds, mask, torch.tensor([0]))
    assert float(found[0]) == pytest.approx(expected, rel=1e-9)


def frames(count: int = 6) -> list[LabelledFrame]:
    made = []
    for seed in range(count):
        atoms: Atoms = bulk("Si", cubic=True)
        atoms.numbers[::2] = 8
        atoms.rattle(0.2, seed=seed)
        rng = np.random.default_rng(seed)
        made.append(
            LabelledFrame(
                tuple(atoms.get_chemical_symbols()),
                atoms.positions,
                np.array(atoms.cell),
                np.array(atoms.pbc),
                float(rng.normal()),
                0.3 * rng.normal(size=(8, 3)),
                np.eye(3) + rng.normal(size=(3, 3)),
            )
        )
    return made


@pytest.mark.parametrize("name", FORMS)
def test_every_form_trains(name):
    data = TrainingSet.of(frames(), SPECIES, 4.5)
    settings = Settings(
        steps=25,
        batch=3,
        validation=0.0,
        learning_rate=1e-2,
        augment=name == "unconstrained",
    )
    model = FORMS[name].build(0)
    training = Training.start(model, data, list(range(6)), [], settings)
    before = evaluate(training.model, data, range(6)).force_rmse
    training.run(25)
    assert evaluate(training.model, data, range(6)).force_rmse < before


def test_turning_a_batch_turns_labels_with_it():
    data = TrainingSet.of(frames(2), SPECIES, 4.5, dtype=torch.float64)
    model = FORMS["zbl_sum"].build(0).double()
    set_statistics(model, data, [0, 1])
    batch = data.batch([0, 1])
    turns = random_rotations(2, torch.Generator().manual_seed(3))
    moved = turned(batch, turns)
    energy, forces, virial = predict(model, batch, data.blocks, virial=True)
    energy2, forces2, virial2 = predict(model, moved, data.blocks, virial=True)
    assert torch.allclose(energy, energy2, atol=1e-10)
    labelled = replace(batch, forces=forces[0], virial=virial[0])
    again = turned(labelled, turns)
    assert torch.allclose(again.forces, forces2[0], atol=1e-10)
    assert torch.allclose(again.virial, virial2[0], atol=1e-10)


def rotational_spread(module, displacements, *rest):
    """Standard deviation of atomic energies over rotations, ``[members, atoms]`` eV."""
    turns = random_rotations(16, torch.Generator().manual_seed(0))
    energies = [module(displacements @ turn.to(displacements).T, *rest) for turn in turns]
    return torch.stack(energies).std(0)


def test_rotational_spread_is_zero_only_for_invariant_models():
    arguments = environments(9)
    assert rotational_spread(built("zbl_sum"), *arguments).max() < 1e-10
    assert rotational_spread(built("unconstrained"), *arguments).min() > 1e-5


@pytest.mark.parametrize("name", FORMS)
def test_a_lonely_atom_has_an_energy_and_no_force(name):
    model = built(name)
    d = torch.zeros(2, 0, 3, dtype=torch.float64)
    none = torch.zeros(2, 0, dtype=torch.bool)
    energies, gradient = pair_gradients(model, d, none.long(), none, torch.tensor([0, 1]))
    assert torch.isfinite(energies).all()
    assert gradient.shape == (model.members, 2, 0, 3)
    wide = torch.zeros(2, 3, 3, dtype=torch.float64)
    empty = torch.zeros(2, 3, dtype=torch.bool)
    same, forces = pair_gradients(model, wide, empty.long(), empty, torch.tensor([0, 1]))
    assert torch.allclose(same, energies)
    assert not forces.any()


def test_the_repulsion_is_in_the_training_tables():
    """The path by tables equals the forward pass and its gradient, two species."""
    model: Any = ZblSum(SMALL, numbers=(8, 14), inner=1.0, outer=2.0).build(1).double()
    rng = torch.Generator().manual_seed(2)
    blocks, atoms = (3, 4), 5
    d = torch.randn(atoms, 7, 3, generator=rng, dtype=torch.float64)
    d = d / d.norm(dim=-1, keepdim=True)
    d = d * (0.9 + torch.rand(atoms, 7, 1, generator=rng, dtype=torch.float64))
    mask = torch.rand(atoms, 7, generator=rng) > 0.2
    species = torch.tensor([0, 1, 1, 0, 1])
    kinds = torch.tensor([0] * 3 + [1] * 4).expand(atoms, 7)
    x = d.clone().requires_grad_()
    expected = model(x, kinds, mask, species)
    (slope,) = torch.autograd.grad(expected.sum(), x)
    energies, gradients = model.energies_and_gradients(
        model.tables(d, mask, blocks), species, blocks
    )
    assert torch.allclose(energies, expected, atol=1e-10)
    assert torch.allclose(gradients.sum(0), slope, atol=1e-9)
    bare = model.network(d, kinds, mask, species)
    assert float((expected - bare).detach().abs().max()) > 1.0
