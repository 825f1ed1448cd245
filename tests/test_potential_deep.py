"""Deep Potential: symmetry, derivatives, committees, cards."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from scalebridge.engine.errors import DamagedFileError, InputError
from scalebridge.engine.md.data import LabelledFrame, as_state
from scalebridge.engine.md.learned import (
    LearnedPotential,
    load_potential,
)
from scalebridge.engine.md.neighbours import build_neighbours
from scalebridge.models import card
from scalebridge.models.potentials.deep_potential import (
    MOST_TERMS,
    HigherMoments,
    SmoothEdition,
    join,
    switch,
    switch_gradient,
)
from scalebridge.models.potentials.harmonics import harmonics, harmonics_gradient

SPECIES = ("O", "Si")
FORMS = {
    "smooth": SmoothEdition(
        SPECIES, cutoff=4.5, neurons=(6, 12, 24), axis=4, fitting=(20, 20), members=2
    ),
    "higher": HigherMoments(SPECIES, cutoff=4.5, members=3),
    "no_products": HigherMoments(
        SPECIES, cutoff=4.5, lmax=2, products=0, fitting=(16,), members=1
    ),
}
BLOCKS = (5, 7)


def environments(seed: int = 0, atoms: int = 6) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    shape = (atoms, sum(BLOCKS), 3)
    d = torch.randn(shape, generator=generator, dtype=torch.float64) * 1.8
    mask = torch.rand(shape[:2], generator=generator) < 0.8
    kinds = torch.tensor([0] * BLOCKS[0] + [1] * BLOCKS[1]).expand(shape[:2])
    species = torch.randint(0, 2, (atoms,), generator=generator)
    return d, kinds, mask, species


@pytest.fixture(params=list(FORMS))
def model(request):
    made = FORMS[request.param].build(seed=3).double()
    d, _, mask, species = environments(1, 40)
    made.set_statistics(d, mask, BLOCKS, species)
    made.fitting.energy_bias.copy_(torch.tensor([-3.0, -5.0]))
    return made


def rotation(seed: int) -> torch.Tensor:
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return torch.from_numpy(q * np.sign(np.diag(r)))


def test_harmonics_obey_the_addition_theorem():
    u = torch.nn.functional.normalize(environments()[0].reshape(-1, 3), dim=1)
    x = (u * u.roll(1, 0)).sum(1)
    y, z = harmonics(u, 3), harmonics(u.roll(1, 0), 3)
    legendre = [torch.ones_like(x), x, 1.5 * x**2 - 0.5, 2.5 * x**3 - 1.5 * x]
    for degree, expected in enumerate(legendre):
        block = slice(degree**2, (degree + 1) ** 2)
        assert torch.allclose((y[:, block] * z[:, block]).sum(1), expected, atol=1e-13)


def test_closed_form_derivatives_equal_automatic_ones():
    d = environments()[0].reshape(-1, 3).requires_grad_()
    r = d.norm(dim=1)
    y = harmonics(d / r[:, None], 3)
    slopes = harmonics_gradient(d.detach() / r.detach()[:, None], r.detach(), 3)
    for k in range(1, 16):
        (g,) = torch.autograd.grad(y[:, k].sum(), d, retain_graph=True)
        assert torch.allclose(g, slopes[..., k].T, atol=1e-12)
    (g,) = torch.autograd.grad(switch(r, 1.0, 4.5).sum(), r)
    assert torch.allclose(g, switch_gradient(r.detach(), 1.0, 4.5), atol=1e-13)
    radial = FORMS["higher"].radial().double()
    x = torch.linspace(0.3, 5.0, 50, dtype=torch.float64, requires_grad=True)
    slopes = radial.functions_gradient(x.detach())
    for k in range(radial.basis):
        (g,) = torch.autograd.grad(radial.functions(x)[:, k].sum(), x)
        assert torch.allclose(g, slopes[:, k], atol=1e-11)


def test_energy_is_invariant_under_rotation_reflection_and_order(model):
    d, kinds, mask, species = environments(2)
    energy = model(d, kinds, mask, species)
    turn = rotation(5)
    assert torch.allclose(
        model(d @ turn.T, kinds, mask, species), energy, rtol=0, atol=1e-10
    )
    assert torch.allclose(model(-d, kinds, mask, species), energy, rtol=0, atol=1e-10)
    order = torch.randperm(d.shape[1])
    swapped = model(d[:, order], kinds[:, order], mask[:, order], species)
    assert torch.allclose(swapped, energy, rtol=0, atol=1e-10)
    changed = d.clone()
    changed[:, 0] *= 1.01
    assert (model(changed, kinds, mask, species) - energy).abs().max() > 1e-6


def test_padding_and_capacity_do_not_change_the_physics(model):
    d, kinds, mask, species = environments(3)
    energy = model(d, kinds, mask, species)
    junk = torch.full((len(d), 9, 3), 0.7, dtype=d.dtype)
    wide = model(
        torch.cat([d, junk], 1),
        torch.cat([kinds, torch.ones(len(d), 9, dtype=torch.long)], 1),
        torch.cat([mask, torch.zeros(len(d), 9, dtype=torch.bool)], 1),
        species,
    )
    assert torch.allclose(wide, energy, rtol=0, atol=1e-12)
    far = torch.cat([d, torch.full((len(d), 1, 3), 4.0, dtype=d.dtype)], 1)
    ones = torch.ones(len(d), 1, dtype=torch.bool)
    beyond = model(
        far, torch.cat([kinds, ones.long()], 1), torch.cat([mask, ones], 1), species
    )
    assert torch.allclose(beyond, energy, rtol=0, atol=1e-12)


def test_energy_is_smooth_where_a_neighbour_leaves(model):
    """Value, slope and curvature vanish with the neighbour at the cutoff."""
    d, kinds, mask, species = environments(4)
    mask = mask.clone()
    mask[:, 0] = True
    without = mask.clone()
    without[:, 0] = False
    for gap, allowed in ((1e-2, 1e-5), (1e-3, 1e-8)):
        d[:, 0] = torch.tensor([model.cutoff - gap, 0.0, 0.0])
        jump = model(d, kinds, mask, species) - model(d, kinds, without, species)
        assert jump.abs().max() < allowed


def test_training_path_equals_automatic_differentiation(model):
    d, kinds, mask, species = environments(6)
    x = d.clone().requires_grad_()
    energy = model(x, kinds, mask, species)
    expected = torch.stack(
        [
            torch.autograd.grad(energy[k].sum(), x, create_graph=True)[0]
            for k in range(model.members)
        ]
    )
    tables = model.tables(d, mask, BLOCKS)
    found, gradient = model.energies_and_gradients(tables, species, BLOCKS)
    assert torch.allclose(found, energy, rtol=0, atol=1e-12)
    assert torch.allclose(gradient, expected, rtol=0, atol=1e-12)
    weights = torch.randn(gradient.shape, dtype=d.dtype, generator=None)
    parameters = list(model.parameters())
    ours = torch.autograd.grad((gradient * weights).sum() + found.sum(), parameters)
    theirs = torch.autograd.grad((expected * weights).sum() + energy.sum(), parameters)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("terms", ["enough", "too few"])
def test_training_by_series_equals_training_by_pairs(terms):
    model = FORMS["smooth"].build(3).double()
    d, _kinds, mask, species = environments(6)
    by_pairs = model.tables(d, mask, BLOCKS)
    model.expand(float(d[mask].norm(dim=1).min()), 1e-12)
    count, largest = model.expansion
    assert model.expansion_error() < 1e-11
    if terms == "too few":
        model.expansion = (6, largest)
        assert model.expansion_error() > 1e-6
    else:
        assert count <= MOST_TERMS
    by_series = model.tables(d, mask, BLOCKS)
    parameters, found = list(model.parameters()), []
    for tables in (by_pairs, by_series):
        energy, gradient = model.energies_and_gradients(tables, species, BLOCKS)
        weights = torch.sin(torch.arange(gradient.numel()).double()).view_as(gradient)
        slopes = torch.autograd.grad((gradient * weights).sum() + energy.sum(), parameters)
        found.append([energy, gradient, *slopes])
    same = all(
        torch.allclose(a, b, rtol=1e-7, atol=1e-8) for a, b in zip(*found, strict=True)
    )
    assert same == (terms == "enough")


def test_pair_gradient_passes_gradcheck(model):
    d, kinds, mask, species = environments(7, atoms=2)

    def total(x):
        return model(x, kinds, mask, species).sum(1)

    assert torch.autograd.gradcheck(total, d.clone().requires_grad_())


def test_committee_equals_its_members(model):
    d, kinds, mask, species = environments(8)
    whole = model(d, kinds, mask, species)
    members = [model.member(k) for k in range(model.members)]
    # Products of a stack and of one matrix may sum in another order: 1e2 terms, 1e-14.
    for k, member in enumerate(members):
        alone = member(d, kinds, mask, species)[0]
        torch.testing.assert_close(alone, whole[k], rtol=1e-12, atol=1e-13)
        assert k == 0 or float((alone - whole[k - 1]).abs().max()) > 1e-6
    assert torch.equal(join(members)(d, kinds, mask, species), whole)


def test_a_committee_needs_members_of_one_form():
    with pytest.raises(ValueError, match="one form"):
        join([FORMS["higher"].build(0), FORMS["no_products"].build(0)])


def test_energy_bias_is_the_minimum_norm_solution_and_stays_exact():
    fitting = FORMS["higher"].build(0).fitting
    rest = fitting.set_energy(torch.tensor([[64, 128]] * 3), torch.tensor([-29943.0] * 3))
    counts = np.array([[64.0, 128.0]] * 3)
    expected = np.linalg.lstsq(counts, np.full(3, -29943.0), rcond=None)[0]
    assert np.allclose(fitting.energy_bias.numpy(), expected, atol=1e-9)
    assert rest.abs().max() < 1e-8
    kept = fitting.energy_bias.clone()
    assert torch.equal(fitting.to(torch.float32).energy_bias, kept)


# -- as a potential of molecular dynamics ------------------------------------------------


def crystal(seed: int = 1) -> Atoms:
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.15, seed=seed)
    atoms.numbers[[0, 3, 6]] = 8
    atoms.set_cell(atoms.cell[:] @ (np.eye(3) + 0.03 * np.tri(3, k=-1)), scale_atoms=True)
    return atoms


def evaluate(potential, atoms, skin: float = 0.4):
    frame = LabelledFrame(
        tuple(atoms.get_chemical_symbols()), atoms.positions, np.array(atoms.cell),
        np.array(atoms.pbc), 0.0, np.zeros((len(atoms), 3)),
    )  # fmt: skip
    state = as_state([frame], potential.species)
    return potential(state, build_neighbours(state, potential.cutoff, skin))


def test_forces_and_virial_are_derivatives_of_the_energy(model):
    potential = LearnedPotential(model)
    atoms = crystal()
    found, h = evaluate(potential, atoms), 1e-5
    assert found.forces.sum(0).abs().max() < 1e-12
    for atom, axis in ((0, 0), (5, 2)):
        ends = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[atom, axis] += sign * h
            ends.append(float(evaluate(potential, moved).energy[0]))
        slope = -(ends[0] - ends[1]) / (2 * h)
        assert slope == pytest.approx(float(found.forces[atom, axis]), abs=1e-7)
    for a, b in ((0, 0), (1, 2)):
        ends = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[a, b] += sign * h
            strained = atoms.copy()
            strained.set_cell(atoms.cell[:] @ strain, scale_atoms=True)
            ends.append(float(evaluate(potential, strained).energy[0]))
        slope = -(ends[0] - ends[1]) / (2 * h)
        assert slope == pytest.approx(float(found.virial[0, a, b]), abs=1e-6)


def test_skin_and_pieces_do_not_change_the_result(model, monkeypatch):
    potential, atoms = LearnedPotential(model), crystal()
    whole = evaluate(potential, atoms, skin=0.0)
    monkeypatch.setattr("scalebridge.engine.md.learned.PAIRS_AT_ONCE", 100)
    pieces = evaluate(potential, atoms, skin=1.0)
    assert torch.allclose(whole.forces, pieces.forces, rtol=0, atol=1e-11)
    assert torch.allclose(whole.virial, pieces.virial, rtol=0, atol=1e-11)
    assert torch.allclose(whole.energy, pieces.energy, rtol=0, atol=1e-11)


def test_deviation_is_the_spread_of_the_members(model):
    found = evaluate(LearnedPotential(model), crystal())
    alone = [
        evaluate(LearnedPotential(model.member(k)), crystal()).forces
        for k in range(model.members)
    ]
    stack = torch.stack(alone)
    assert torch.allclose(found.forces, stack.mean(0), rtol=0, atol=1e-12)
    if model.members > 1:
        spread = (stack - stack.mean(0)).square().sum(-1).mean(0).sqrt()
        assert torch.allclose(found.deviation, spread, rtol=0, atol=1e-12)


def test_single_precision_agrees_to_its_rounding(model):
    exact = evaluate(LearnedPotential(model), crystal())
    single = evaluate(LearnedPotential(model.float()), crystal())
    scale = exact.forces.abs().max()
    assert (single.forces - exact.forces).abs().max() < 2e-4 * scale


def test_forces_are_differentiable_in_the_positions():
    potential = LearnedPotential(FORMS["no_products"].build(1).double())
    frame = LabelledFrame(
        ("Si", "O", "Si"), np.array([[0.0, 0, 0], [1.7, 0.1, 0], [0.2, 2.0, 0.5]]),
        np.eye(3) * 9, np.ones(3, bool), 0.0, np.zeros((3, 3)),
    )  # fmt: skip
    state = as_state([frame], potential.species)
    neighbours = build_neighbours(state, potential.cutoff, 0.5)

    def forces(x):
        return potential(replace(state, positions=x), neighbours).forces

    assert torch.autograd.gradcheck(forces, state.positions.clone().requires_grad_())


# -- files -------------------------------------------------------------------------------


def test_a_saved_model_is_the_same_bit_for_bit(model, tmp_path):
    path = card.save_module(tmp_path / "silica", model, {"units": {"energy": "eV"}})
    loaded, found = card.load_module(path)
    d, kinds, mask, species = environments(9)
    assert torch.equal(loaded(d, kinds, mask, species), model(d, kinds, mask, species))
    assert found["units"] == {"energy": "eV"}
    assert load_potential(tmp_path / "silica.json", "f32").species == SPECIES


@pytest.mark.parametrize("suffix", [".safetensors", ".json"])
def test_one_flipped_byte_is_found(tmp_path, suffix):
    path = card.save_module(tmp_path / "m", FORMS["higher"].build(1), {})
    file = path.with_suffix(suffix)
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 4
    file.write_bytes(bytes(raw))
    with pytest.raises(DamagedFileError, match="damaged"):
        load_potential(path)


def test_missing_and_foreign_models_are_told_apart(tmp_path):
    with pytest.raises(InputError, match="no card"):
        load_potential(tmp_path / "nothing.safetensors")
    path = card.save_tensors(tmp_path / "x", {"a": torch.ones(2)}, "alien", {}, {})
    with pytest.raises(InputError, match=r"'alien' is unknown; known are"):
        load_potential(path)
    (tmp_path / "y.json").write_text(json.dumps({"a": 1}))
    with pytest.raises(InputError, match="not the card"):
        load_potential(tmp_path / "y")
