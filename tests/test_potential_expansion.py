"""Linear expansions: basis, equations, fit, and the kernels that evaluate them."""

import hashlib
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ase.build import bulk

from scalebridge.engine.errors import InputError
from scalebridge.engine.jobs.train import assemble, cutoffs_of
from scalebridge.engine.kernels.quadratic import QuadraticForm
from scalebridge.engine.learn.trainers.linear import (
    Equations,
    LeastSquares,
    errors_of,
    install,
)
from scalebridge.engine.learn.trainers.linear_job import Candidate, LinearJob, doubted
from scalebridge.engine.learn.trainers.radial import curves, solve
from scalebridge.engine.learn.trainers.tables import TrainingSet
from scalebridge.engine.md.classical import StillingerWeber
from scalebridge.engine.md.data import LabelledFrame
from scalebridge.engine.md.elasticity import (
    cubic_constants,
    elastic_error,
    strained_crystals,
)
from scalebridge.engine.md.expanded import expanded, mean_and_draws
from scalebridge.engine.md.integrators import Verlet
from scalebridge.engine.md.learned import LearnedPotential
from scalebridge.engine.md.neighbours import build_neighbours
from scalebridge.engine.md.structure import from_atoms
from scalebridge.engine.md.world import MolecularDynamics
from scalebridge.engine.scenario import parse
from scalebridge.models.card import UnknownModelError, load_module, save_module
from scalebridge.models.potentials.cluster_expansion import ClusterExpansion
from scalebridge.models.potentials.harmonics import coupling
from scalebridge.models.potentials.products import build_program
from scalebridge.models.potentials.sums import ZblSum

SMALL = ClusterExpansion(
    ("Si",), cutoff=4.2, degrees=(6.0, 6.0, 5.0, 4.0, 3.0, 3.0), radial=4, spacing=2.0,
    waves=6, members=4,
)  # fmt: skip


pytestmark = pytest.mark.usefixtures("one_thread")


def labelled(count: int, seed: int = 0, strain: float = 0.0) -> list[LabelledFrame]:
    """Crystals of Stillinger-Weber silicon, shaken or strained, with all their labels."""
    potential = StillingerWeber()
    rng, frames = np.random.default_rng(seed), []
    for number in range(count):
        atoms = bulk("Si", cubic=True)
        if strain:
            change = rng.normal(size=(3, 3)) * strain
            cell = atoms.cell.array @ (np.eye(3) + 0.5 * (change + change.T))
            atoms.set_cell(cell, scale_atoms=True)
        else:
            atoms.rattle(0.12, seed=seed + number)
        state = from_atoms(atoms, ("Si",))
        found = potential(state, build_neighbours(state, potential.cutoff, 0.0))
        frames.append(
            LabelledFrame(
                ("Si",) * 8, atoms.positions, atoms.cell.array, np.ones(3, bool),
                float(found.energy), found.forces.numpy(), found.virial[0].numpy(),
                "strained" if strain else "shaken", f"frame {number}",
            )
        )  # fmt: skip
    return frames


@pytest.mark.parametrize("degrees", [(1, 1, 2), (2, 3, 1), (3, 3, 4), (2, 2, 2), (5, 6, 3)])
def test_couplings_of_three_degrees_are_invariant(degrees):
    from scalebridge.models.potentials.harmonics import harmonics

    rng = np.random.default_rng(1)
    units = torch.from_numpy(rng.normal(size=(3, 3)))
    units = units / units.norm(dim=1, keepdim=True)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    tensor = coupling(*degrees)

    def value(u):
        each = [
            harmonics(u[k], d)[d * d : (d + 1) ** 2].numpy() for k, d in enumerate(degrees)
        ]
        return np.einsum("abc,a,b,c", tensor, *each)

    here, there = value(units), value(units @ torch.from_numpy(turn))
    assert here == pytest.approx(there, abs=1e-12)
    assert abs(here) > 1e-3 or sum(degrees) % 2


def test_products_are_independent():
    """As functions of random moments no product is a sum of others."""
    degrees = (5.0, 5.0, 4.0, 4.0, 4.0, 3.0)
    program = build_program(degrees, 1.0, 6, 3, spacing=1.0)
    form = ClusterExpansion(
        ("Si",), cutoff=4.0, degrees=degrees, radial=6, spacing=1.0, lmax=3
    )
    model = form.build().double()
    assert set(program.orders) == {2, 3, 4, 5, 6, 7}
    moments = torch.from_numpy(np.random.default_rng(0).normal(size=(600, program.inputs)))
    values = model.values(moments)
    values = values / values.norm(dim=0)
    assert values.shape[1] == len(program.features) > 30
    assert int(torch.linalg.matrix_rank(values, rtol=1e-8)) == values.shape[1]


@pytest.mark.slow
def test_degrees_give_way_to_the_number_of_species():
    one = ClusterExpansion(("Si",), cutoff=4.0)
    two = ClusterExpansion(("H", "O"), cutoff=4.0)
    assert 1000 < len(one.program().features) <= 2000
    assert 500 < len(two.program().features) <= 2000
    assert two.program().degrees.max() < one.program().degrees.max()


def random_weights(form, seed: int = 0):
    model = form.build().double()
    network = getattr(model, "network", model)
    generator = torch.Generator().manual_seed(seed)
    draw = torch.randn(network.weights.shape, generator=generator, dtype=torch.float64)
    network.weights.data.copy_(0.02 * draw)
    turn = torch.randn(network.mix.shape, generator=generator, dtype=torch.float64)
    network.mix.data.add_(0.3 * turn)
    return model.eval().requires_grad_(False)


def alloy():
    atoms = bulk("Si", cubic=True) * (2, 1, 1)
    atoms.symbols[::3] = "Ge"
    atoms.rattle(0.1, seed=3)
    return atoms


@pytest.mark.parametrize("species", [("Si",), ("Si", "Ge")])
@pytest.mark.parametrize("members", [1, 3, 4])
def test_kernels_equal_the_module(species, members):
    form = replace(SMALL, species=species, members=members, features=200)
    network = LearnedPotential(random_weights(form))
    atoms = alloy() if len(species) > 1 else bulk("Si", cubic=True) * (2, 1, 1)
    atoms.rattle(0.1, seed=4)
    state = from_atoms(atoms, species)
    table = build_neighbours(state, form.cutoff, 0.4)
    fast = expanded(network)
    assert fast is not None
    here, there = fast(state, table), network(state, table)
    for name in ("energy", "forces", "virial", "deviation"):
        one, two = getattr(here, name), getattr(there, name)
        assert one.shape == two.shape
        if two.numel():
            assert float((one - two).abs().max()) < 1e-10 * max(1, float(two.abs().max()))
    assert torch.equal(fast.forces(state, table), here.forces)


@pytest.mark.parametrize("degrees", [(3.0,), (4.0, 4.0), SMALL.degrees])
def test_energy_and_slopes_are_a_quadratic_form(degrees):
    """Without products, without products of products, and with chains of them."""
    model = random_weights(replace(SMALL, degrees=degrees, members=3))
    program = model.program
    form = QuadraticForm.of(program, model.weights.detach())
    moments = torch.from_numpy(np.random.default_rng(1).normal(size=program.inputs))
    x = torch.cat([moments, torch.zeros(form.lone.shape[1] - program.inputs)])
    begin, left, right, factor = form.made
    for n in range(len(begin) - 1):
        span = slice(int(begin[n]), int(begin[n + 1]))
        terms = factor[span] * x[left[span].long()] * x[right[span].long()]
        x[program.inputs + n] = terms.sum()
    begin, end, shift, other, value = form.rows
    slopes = form.lone[0].clone()
    for n in range(len(x)):
        span = slice(int(begin[n]), int(end[n]))
        slopes[n] += (value[0, span] * x[other[span].long() + shift[n], None]).sum(0)
    energies = 0.5 * (x[:, None] * (slopes + form.lone[0])).sum(0)
    begin, target, other, node, factor = form.uses
    for g, m in enumerate(target):
        span = slice(int(begin[g]), int(begin[g + 1]))
        part = (factor[span] * x[other[span].long()])[:, None] * slopes[node[span].long()]
        slopes[m] += part.sum(0)
    moments.requires_grad_()
    known = model.weights[:, 0] @ model.values(moments[None])[0]
    assert torch.allclose(energies, known)
    for each, energy in enumerate(known):
        (slope,) = torch.autograd.grad(energy, moments, retain_graph=True)
        assert torch.allclose(slopes[: program.inputs, each], slope)


def test_deviations_on_demand_are_those_of_every_step():
    network = LearnedPotential(random_weights(SMALL))
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.05, seed=1)
    state = from_atoms(atoms, ("Si",), seed=1)
    whole, rare = (
        MolecularDynamics(
            expanded(network), Verlet(), state, 0.5, (300.0,), totals_every=every
        )
        for every in (1, 3)
    )
    a, b = whole.init(), rare.init()
    for step in range(1, 5):
        a, b = whole.step(a), rare.step(b)
        assert bool(b.deviation.isnan().all()) == (step % 3 != 0)
        assert torch.equal(a.positions, b.positions)
        assert torch.equal(whole.observe(a)["deviation"], rare.observe(b)["deviation"])


def test_draws_of_pairs_are_half_a_committee():
    draws = torch.randn(2, 1, 7).double()
    both = torch.cat([3 + draws, 3 - draws])
    assert len(mean_and_draws(both)) == 3
    assert len(mean_and_draws(both[:3])) == 4
    assert len(mean_and_draws(both[:1])) == 1


@pytest.mark.parametrize("species", [("Si",), ("Si", "Ge")])
def test_equations_are_the_module(species):
    form = ZblSum(
        replace(SMALL, species=species, members=2, features=120), inner=1.0, outer=2.9
    )
    model = random_weights(form)
    atoms = alloy() if len(species) > 1 else bulk("Si", cubic=True)
    atoms.rattle(0.1, seed=4)
    frame = LabelledFrame(
        tuple(atoms.get_chemical_symbols()), atoms.positions, atoms.cell.array,
        np.ones(3, bool), 0.0, np.zeros((len(atoms), 3)), np.zeros((3, 3)),
    )  # fmt: skip
    data = TrainingSet.of([frame], species, form.cutoff, torch.float64)
    found = errors_of(model, data)
    state = from_atoms(atoms, species)
    table = build_neighbours(state, form.cutoff, 0.0)
    energy, forces, virial = LearnedPotential(model).by_member(state, table)
    assert torch.allclose(found.energy[:2, 0] * len(atoms), energy[:, 0], atol=1e-9)
    assert torch.allclose(found.forces[:2], forces, atol=1e-9)
    assert torch.allclose(found.virial[:2, 0] * len(atoms), virial[:, 0], atol=1e-8)


def fitted(frames, form=SMALL, settings=None):
    data = TrainingSet.of(frames, ("Si",), form.cutoff, torch.float64)
    model = form.build().double()
    *_, (_, _, solution) = solve(model, data, settings or LeastSquares(rounds=0), 1)
    install(model, solution.mean, solution.draws)
    return model, solution


def test_derivatives_by_the_radial_functions():
    """Against central differences, of two species."""
    frames = [replace(f, symbols=("Si", "Ge") * 4) for f in labelled(1)]
    form = replace(SMALL, species=("Si", "Ge"), members=1)
    model = random_weights(form)
    data = TrainingSet.of(frames, form.species, form.cutoff, torch.float64)
    equations = Equations(model, data, LeastSquares())
    weights = model.weights[0].numpy()
    whole = np.concatenate([weights.ravel(), np.zeros(2)])
    found, mix = curves(equations, 0, weights), model.mix.data.clone()

    def moved(place, step):
        model.mix.data.copy_(mix)
        species, rest = divmod(place, found.shape[1] // 2)
        model.mix.data[species, rest // 6, rest % 6] += step
        return equations.rows(0).matrix @ whole

    for place in range(0, found.shape[1], 7):
        expected = (moved(place, 1e-5) - moved(place, -1e-5)) / 2e-5
        assert found[:, place] == pytest.approx(
            expected, abs=1e-7 * float(np.abs(found).max())
        )


def labels_of(truth, frames):
    """Return the frames with a model's labels in place of theirs."""
    blank = [
        replace(f, energy=0.0, forces=0 * f.forces, virial=0 * f.virial) for f in frames
    ]
    data = TrainingSet.of(blank, ("Si",), truth.cutoff, torch.float64)
    known = errors_of(truth, data)
    return [
        replace(
            f, energy=8 * float(known.energy[-1, k]),
            forces=known.forces[-1].reshape(-1, 8, 3)[k].numpy(),
            virial=8 * known.virial[-1, k].numpy(),
        )
        for k, f in enumerate(blank)
    ]  # fmt: skip


def test_a_model_of_the_same_form_is_found_again():
    """Labels that are in the span of the basis are reproduced, and the committee agrees."""
    form = replace(SMALL, degrees=(6.0, 4.0, 3.0))
    truth = random_weights(replace(form, members=1), 5)
    torch.nn.init.eye_(truth.mix.data[0])
    frames = labels_of(truth, labelled(24))
    _, solution = fitted(frames, form)
    size = np.sqrt(np.mean(np.concatenate([f.forces for f in frames]) ** 2))
    assert solution.held.force_rmse < 1e-4 * size


def test_rounds_find_radial_functions():
    """Of a truth whose radial functions are no waves most of the error goes away."""
    form = replace(SMALL, degrees=(6.0, 4.0, 3.0))
    frames = labels_of(random_weights(replace(form, members=1), 5), labelled(24))
    _, straight = fitted(frames, form)
    _, solution = fitted(frames, form, LeastSquares(rounds=6))
    assert solution.held.force_rmse < 0.5 * straight.held.force_rmse


def test_stillinger_weber_silicon_with_its_elastic_constants():
    frames = [*labelled(30), *labelled(24, 100, 0.008)]
    form = replace(SMALL, degrees=(8.0, 8.0, 7.0), radial=9, spacing=1.0, waves=9)
    model, solution = fitted(frames, form)
    assert solution.held.force_rmse < 0.05
    # the committee's deviation is the error of the frames left out
    deviation = float(solution.held.deviation.square().mean().sqrt())
    assert deviation == pytest.approx(3**0.5 * solution.held.force_rmse, rel=0.01)
    (crystal,) = [
        c for c in strained_crystals(frames) if frames[c.indices[0]].group == "strained"
    ]
    virials = np.stack([frames[k].virial for k in crystal.indices])
    labels = crystal.constants(virials)
    known = cubic_constants(labels)
    # clamped ions; Cowley, Phys. Rev. Lett. 60, 2379 (1988): 151.4, 76.4 for C11, C12
    assert known["C11"] == pytest.approx(151.4, rel=0.02)
    assert known["C12"] == pytest.approx(76.4, rel=0.03)
    data = TrainingSet.of(frames, ("Si",), SMALL.cutoff, torch.float64)
    wrong = errors_of(model, data).virial[-1][list(crystal.indices)].numpy() * 8
    assert elastic_error(crystal.constants(virials + wrong), labels) < 0.1
    # a model without stresses is told from one with
    assert elastic_error(crystal.constants(0.5 * virials), labels) > 0.4


def test_turned_cells_have_the_constants_of_the_crystal():
    frames = labelled(24, 100, 0.008)
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    turned = [
        replace(
            f, positions=f.positions @ turn, cell=f.cell @ turn, forces=f.forces @ turn,
            virial=turn.T @ f.virial @ turn,
        )
        for f in frames[1:]
    ]  # fmt: skip

    def constants(those):
        (crystal,) = strained_crystals(those)
        return crystal.constants(np.stack([those[k].virial for k in crystal.indices]))

    def invariants(c):
        # C_iijj and C_ijij; the axes are those of one frame, turned or not
        return c[:3, :3].sum(), np.diag(c)[:3].sum() + 2 * np.diag(c)[3:].sum()

    here, there = constants(frames), constants([frames[0], *turned])
    assert invariants(here) == pytest.approx(invariants(there), rel=0.02)


def test_a_card_keeps_the_potential(tmp_path):
    form = ZblSum(SMALL, inner=1.0, outer=2.2)
    model = random_weights(form)
    save_module(tmp_path / "a", model, {})
    again, _ = load_module(tmp_path / "a")
    for one, two in zip(
        model.state_dict().values(), again.state_dict().values(), strict=True
    ):
        assert torch.equal(one, two)
    assert again.config == model.config


def scenario(tmp_path, **more):
    import ase.io
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator

    images = []
    for frame in labelled(12):
        atoms = Atoms(frame.symbols, frame.positions, cell=frame.cell, pbc=True)
        stress = -frame.virial / frame.volume
        six = stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
        atoms.calc = SinglePointCalculator(
            atoms, energy=frame.energy, forces=frame.forces, stress=six
        )
        images.append(atoms)
    ase.io.write(tmp_path / "set.extxyz", images)
    model = {"kind": "cluster_expansion", "degrees": [5.0, 5.0, 4.0]}
    given = {"version": 1, "kind": "train", "data": str(tmp_path / "set.extxyz")}
    return parse({**given, "model": model, **more}, "test")


def test_ranges_follow_from_the_data(tmp_path):
    form = {
        "kind": "zbl_sum",
        "network": {"kind": "cluster_expansion", "degrees": [4.0, 4.0]},
    }
    job = assemble(scenario(tmp_path, model=form), tmp_path)
    forms = [each.form for each in job.candidates]
    assert [form.cutoff for form in forms] == cutoffs_of(labelled(12))
    assert forms[0].cutoff == pytest.approx(5.0, abs=0.1)
    assert all(form.inner < form.outer < 3.1 for form in forms)


def test_virials_that_nothing_else_confirms_weigh_less():
    """A sixth of the frames has a virial of nothing; forces do not pay for it."""
    frames = labelled(24)
    spoiled = [replace(f, virial=f.virial * (k % 6 > 0)) for k, f in enumerate(frames)]
    form = replace(SMALL, degrees=(8.0, 8.0), radial=9, spacing=1.0, waves=9)
    _, right = fitted(frames, form)
    _, robust = fitted(spoiled, form)
    assert robust.held.force_rmse < 1.1 * right.held.force_rmse
    assert bool((robust.trust[::6] < 1).all())
    named = [replace(f, group="" if k % 6 else "slab") for k, f in enumerate(spoiled)]
    (said,) = doubted(robust.trust, named)
    assert "of 24 frames weigh less" in said and "4 of slab" in said
    assert doubted(np.ones(24), named) == []


def test_cutoff_is_chosen_on_frames_left_out():
    """Stillinger-Weber silicon ends at 3.77 angstrom: 3 is too short, 6 too coarse."""
    frames, said = labelled(16), []
    candidates = [
        Candidate(form, TrainingSet.of(frames, ("Si",), form.cutoff, torch.float64), None)
        for form in (replace(SMALL, cutoff=c) for c in (3.0, 4.2, 6.0))
    ]
    report = SimpleNamespace(say=said.append, progress=lambda *_: None)
    chosen, _, solution = LinearJob(candidates, LeastSquares(), [])._chosen(report)
    assert chosen.form.cutoff == 4.2
    assert len(said) == 3
    assert f"{solution.score:.4g}" in said[1]


def test_cards_of_other_radial_functions_are_refused(tmp_path):
    path = save_module(tmp_path / "old", random_weights(SMALL), {})
    card = path.with_suffix(".json")
    known = json.loads(card.read_text().replace('"waves"', '"polynomials"'))
    known.pop("card_sha256")
    text = json.dumps(known, sort_keys=True).encode()
    known["card_sha256"] = hashlib.sha256(text).hexdigest()
    card.write_text(json.dumps(known))
    with pytest.raises(UnknownModelError, match="polynomials"):
        load_module(path)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"steps": 100}, "steps: has no use here"),
        ({"loss": {"kind": "plain"}}, "loss.kind: allowed with this model: least_squares"),
        ({"model": {"kind": "higher_moments"}, "loss": {"kind": "least_squares"}}, "plain"),
        ({"loss": {"kind": "least_squares", "folds": 40}}, "40 parts of 12 frames"),
    ],
)
def test_keys_without_use_are_refused(tmp_path, more, said):
    with pytest.raises(InputError, match=said):
        assemble(scenario(tmp_path, **more), tmp_path)


def test_equations_need_no_virial():
    frames = [replace(f, virial=None) for f in labelled(16)]
    data = TrainingSet.of(frames, ("Si",), SMALL.cutoff, torch.float64)
    equations = Equations(SMALL.build().double(), data, LeastSquares())
    assert not equations.rows(0).weight[-6:].any()
    _, solution = fitted(frames)
    assert np.isfinite(solution.mean).all()


def test_one_key_of_the_loss_needs_no_kind():
    from scalebridge.engine.scenario import load

    chosen, _ = load("silicon_fit", ["loss.rounds=1"])
    assert chosen.loss == LeastSquares(rounds=1)
