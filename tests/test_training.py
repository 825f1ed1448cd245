"""Training of potentials: optimiser, losses, reproducibility, resume, the job."""

import json
from dataclasses import replace

import ase.io
import numpy as np
import pytest
import torch
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from scalebridge.engine.errors import GuardError, InputError
from scalebridge.engine.jobs.train import assemble
from scalebridge.engine.learn.trainers.job import deviation_factor
from scalebridge.engine.learn.trainers.potential import (
    Errors,
    PlainLoss,
    PrefactorLoss,
    Settings,
    Training,
    evaluate,
    predict,
    virial_term,
)
from scalebridge.engine.learn.trainers.soap import Soap
from scalebridge.engine.learn.trainers.tables import TrainingSet
from scalebridge.engine.md.data import read_frames, split_frames
from scalebridge.engine.md.learned import load_potential
from scalebridge.engine.run import Reporter
from scalebridge.engine.rundir import RunFolder
from scalebridge.engine.schema.train import TrainScenario

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def alloy(tmp_path_factory):
    """Fourteen rattled and strained cells of two sizes, labelled by EMT."""
    images = []
    for seed in range(14):
        atoms = bulk("Cu", cubic=True, a=3.7) * (1, 1, 1 + seed % 2)
        atoms.numbers[:: 2 + seed % 3] = 79
        atoms.set_cell(atoms.cell[:] * (1 + 0.01 * (seed % 4)), scale_atoms=True)
        atoms.rattle(0.12, seed=seed)
        atoms.calc = EMT()
        results = {
            "energy": atoms.get_potential_energy(),
            "forces": atoms.get_forces(),
            "stress": atoms.get_stress(),
        }
        atoms.calc = SinglePointCalculator(atoms, **results)
        images.append(atoms)
    file = tmp_path_factory.mktemp("alloy") / "alloy.xyz"
    ase.io.write(file, images)
    return file


def forms():
    from scalebridge.models.potentials.deep_potential import HigherMoments, SmoothEdition

    pair = ("Cu", "Au")
    return {
        "higher": HigherMoments(
            pair, cutoff=4.5, channels=8, axis=4, fitting=(16, 16), members=2
        ),
        "smooth": SmoothEdition(
            pair, cutoff=4.5, neurons=(8, 16), axis=4, fitting=(24, 24)
        ),
    }


SHORT = Settings(steps=30, batch=2, report=10, validation=0.2, seed=5)


def trained(alloy, settings=SHORT, form="higher", steps=None):
    frames = read_frames(alloy)
    model = forms()[form].build(settings.seed)
    return trained_on(frames, model, settings, steps)


def trained_on(frames, model, settings, steps=None):
    train, held = split_frames(len(frames), settings.validation, settings.seed)
    data = TrainingSet.of(frames, tuple(model.species), model.cutoff)
    training = Training.start(model, data, train, held, settings)
    while training.step < (steps or settings.steps):
        training.run(settings.report)
        training.measure()
    return training


# -- optimiser ---------------------------------------------------------------------------


def test_soap_on_vectors_is_adam_one_step_later():
    """A vector has no rotation; the first call only measures."""
    ours = torch.nn.Parameter(torch.linspace(-1, 1, 7, dtype=torch.float64))
    theirs = torch.nn.Parameter(ours.detach().clone())
    soap = Soap([ours], lr=0.05)
    adam = torch.optim.Adam([theirs], lr=0.05, betas=(0.95, 0.95), eps=1e-8)
    ours.grad = torch.ones_like(ours)
    soap.step()
    for _ in range(25):
        for parameter in (ours, theirs):
            parameter.grad = 4 * parameter.detach() ** 3 + 0.3
        soap.step()
        adam.step()
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_soap_does_not_depend_on_the_basis(seed):
    """Rotating a quadratic problem rotates the path: what Adam does not do.

    In the basis of the first gradient that gradient is diagonal: what stands beside the
    diagonal is round-off, which Adam divides by epsilon. With epsilon = 1e-8 that noise
    would be 1e-6 of a step; epsilon = 0.1 keeps the same algorithm well-conditioned.
    """
    generator = torch.Generator().manual_seed(seed)
    rate, steps, epsilon = 0.03, 40, 0.1

    def rot(size):
        return torch.linalg.qr(torch.randn(size, size, generator=generator).double())[0]

    left, right = rot(5), rot(4)
    target = torch.randn(5, 4, generator=generator).double()
    scales = torch.logspace(0, 2, 20, dtype=torch.float64).reshape(5, 4)

    def path(optimiser_of, turned: bool):
        weight = torch.nn.Parameter(torch.zeros(5, 4, dtype=torch.float64))
        optimiser = optimiser_of([weight])
        for _ in range(steps):
            plain = left.T @ weight.detach() @ right if turned else weight.detach()
            gradient = scales * (plain - target)
            weight.grad = left @ gradient @ right.T if turned else gradient
            optimiser.step()
        return left.T @ weight.detach() @ right if turned else weight.detach()

    def soap(parameters):
        return Soap(parameters, lr=rate, epsilon=epsilon)

    def adam(parameters):
        return torch.optim.Adam(parameters, lr=rate, eps=epsilon)

    # Round-off of a turned gradient (sums over 20 elements), over epsilon, over the path;
    # the factors' eigenvectors add their condition, 100 between the largest and the least.
    noise = 20 * torch.finfo(torch.float64).eps * float((scales * target).norm())
    bound = 100 * rate * steps * noise / epsilon
    assert bound < 1e-8
    assert float((path(soap, True) - path(soap, False)).abs().max()) < bound
    assert float((path(adam, True) - path(adam, False)).abs().max()) > 1e-2


def test_soap_state_of_a_stack_equals_each_matrix_alone():
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(3, 6, 4, generator=generator).double()
    stack = torch.nn.Parameter(start.clone())
    alone = [torch.nn.Parameter(start[k].clone()) for k in range(3)]
    together, apart = Soap([stack], weight_decay=0.1), Soap(alone, weight_decay=0.1)
    for _ in range(15):
        gradient = torch.randn(3, 6, 4, generator=generator).double()
        stack.grad = gradient
        for k, parameter in enumerate(alone):
            parameter.grad = gradient[k]
        together.step()
        apart.step()
    assert torch.allclose(stack, torch.stack(list(alone)), rtol=0, atol=1e-10)


# -- losses and schedules ----------------------------------------------------------------


def test_prefactors_follow_the_learning_rate():
    loss = PrefactorLoss()
    assert loss.weights(1.0)[:2] == pytest.approx((0.02, 1000.0))
    assert loss.weights(0.0)[:2] == (1.0, 1.0)
    settings = Settings(
        steps=1_000_000,
        schedule="exponential",
        learning_rate=1e-3,
        final_rate=3.51e-8,
        warmup=0,
    )
    assert settings.rate(0) == settings.rate(4999) == pytest.approx(1e-3)
    assert settings.rate(5000) / 1e-3 == pytest.approx((3.51e-5) ** (5000 / 1e6))


def test_cosine_warms_up_and_ends_low():
    settings = Settings(steps=1000)
    assert settings.rate(0) < 0.03 * settings.learning_rate
    assert settings.rate(30) > 0.98 * settings.learning_rate
    assert settings.rate(999) < 1e-5


def test_virial_of_the_training_path_is_minus_the_strain_derivative(alloy):
    frames = read_frames(alloy)[:3]
    model = forms()["higher"].build(1).double()
    data = TrainingSet.of(frames, ("Cu", "Au"), 4.5, dtype=torch.float64)
    data.prepare(model)
    with torch.no_grad():
        virial = predict(model, data.batch([1]), data.blocks, virial=True)[2]
    h, energies = 1e-5, []
    for sign in (1, -1):
        strain = np.eye(3)
        strain[0, 2] += sign * h
        moved = replace(
            frames[1], positions=frames[1].positions @ strain, cell=frames[1].cell @ strain
        )
        strained = TrainingSet.of([moved], ("Cu", "Au"), 4.5, dtype=torch.float64)
        strained.prepare(model)
        with torch.no_grad():
            energies.append(predict(model, strained.batch([0]), strained.blocks)[0])
    slope = -(energies[0] - energies[1]) / (2 * h)
    assert torch.allclose(slope[:, 0], virial[:, 0, 0, 2], atol=1e-6)


def test_deviatoric_loss_ignores_the_pressure_and_plain_one_does_not(alloy):
    frames = read_frames(alloy)[:4]
    data = TrainingSet.of(frames, ("Cu", "Au"), 4.5, dtype=torch.float64)
    batch = data.batch(range(4))
    virial = torch.randn(2, 4, 3, 3, dtype=torch.float64)
    pressed = replace(batch, virial=batch.virial + 30 * torch.eye(3, dtype=torch.float64))
    for deviatoric in (True, False):
        terms = [virial_term(virial, b, deviatoric) for b in (batch, pressed)]
        assert torch.allclose(*terms, rtol=1e-9) == deviatoric
    unknown = replace(batch, virial=batch.virial * float("nan"))
    assert virial_term(virial, unknown, True).abs().max() == 0


# -- training ----------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["higher", pytest.param("smooth", marks=pytest.mark.slow)])
def test_a_few_frames_are_learned_by_heart(alloy, form):
    frames = read_frames(alloy)[:5]
    model = forms()[form].build(0)
    settings = Settings(
        steps=300, batch=5, report=300, validation=0.0, weight_decay=0.0, learning_rate=1e-2
    )
    training = trained_on(frames, model, settings)
    errors = evaluate(training.average, training.data, range(5))
    spread = np.sqrt(np.mean(np.concatenate([f.forces for f in frames]) ** 2))
    assert errors.force_rmse < 0.04 * spread
    assert errors.energy_rmse < 5e-3


def test_one_seed_gives_one_result(alloy):
    first, second = trained(alloy), trained(alloy)
    other = trained(alloy, replace(SHORT, seed=6))
    for a, b in zip(first.average.parameters(), second.average.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(
        next(first.average.parameters()), next(other.average.parameters())
    )


@pytest.mark.parametrize("optimiser", ["soap", "adam"])
def test_resume_is_bit_for_bit(alloy, optimiser):
    settings = replace(SHORT, optimiser=optimiser)
    whole = trained(alloy, settings)
    half = trained(alloy, settings, steps=20)
    tensors = {
        name: tensor.clone(memory_format=torch.contiguous_format)
        for name, tensor in half.tensors().items()
    }
    extra = json.loads(json.dumps(half.extra()))
    again = Training.start(
        forms()["higher"].build(settings.seed), half.data, half.train, half.held, settings
    )
    again.restore(half.step, tensors, extra)
    again.run(10)
    again.measure()
    assert again.step == settings.steps
    expected = whole.tensors()
    for name, tensor in again.tensors().items():
        assert torch.equal(tensor, expected[name]), name


def test_a_loss_that_is_not_finite_stops_the_training(alloy):
    frames = read_frames(alloy)
    frames[3] = replace(frames[3], energy=1e300)
    settings = replace(SHORT, validation=0.0, loss=PlainLoss(energy=1e300))
    with pytest.raises(GuardError, match="loss is"):
        trained_on(frames, forms()["higher"].build(0), settings)


def test_one_lost_member_of_a_committee_stops_the_training(alloy):
    training = trained(alloy, steps=10)
    with torch.no_grad():
        for parameter in training.model.parameters():
            if len(parameter) == training.model.members:
                parameter[1] = torch.nan
    with pytest.raises(GuardError, match="loss is nan at step 10"):
        training.run(1)


def test_models_without_tables_train_through_autograd(alloy):
    """The generic path gives the forces of the special one."""
    frames = read_frames(alloy)
    model = forms()["higher"].build(1).double()
    data = TrainingSet.of(frames, ("Cu", "Au"), 4.5, dtype=torch.float64)
    plain = data.batch([0, 1])
    data.prepare(model)
    fast = data.batch([0, 1])
    a = predict(model, plain, data.blocks, virial=True)
    b = predict(model, fast, data.blocks, virial=True)
    for x, y in zip(a, b, strict=True):
        assert torch.allclose(x, y, rtol=0, atol=1e-10)


def test_interval_of_known_errors():
    forces = torch.ones(2, 40, 3)
    frame = torch.arange(20).repeat_interleave(2)
    errors = Errors(
        energy=torch.full((2, 20), 0.01), forces=forces, virial=torch.zeros(2, 20, 3, 3),
        deviation=torch.full((40,), 0.5), predicted_energy=torch.zeros(20),
        predicted_forces=torch.zeros(40, 3), frame=frame,
    )  # fmt: skip
    assert errors.interval()["force"] == pytest.approx((1.0, 1.0))
    assert errors.interval()["energy"] == pytest.approx((0.01, 0.01))
    assert deviation_factor(errors) == pytest.approx(np.sqrt(3) / 0.5)


# -- the job of a scenario ---------------------------------------------------------------


def scenario(alloy, **more) -> TrainScenario:
    data = {
        "version": 1, "kind": "train", "data": str(alloy), "test": str(alloy), "steps": 20,
        "batch": 2, "validation": 0.2, "report_every": 5, "checkpoint_every": 10,
        "name": "alloy", "model": {"kind": "higher_moments", "cutoff": 4.5, "members": 2},
    }  # fmt: skip
    return TrainScenario.model_validate({**data, **more})


def test_job_writes_model_card_curve_and_parity(alloy, tmp_path):
    job = assemble(scenario(alloy), tmp_path)
    with RunFolder.create(tmp_path / "run", "", {}) as folder:
        outcome = job.run(folder, Reporter(quiet=True))
        assert set(folder.store["curve"]) >= {"step", "force_train", "force_validation"}
        assert folder.store["parity/forces"].shape[1] == 3
    assert outcome.figures["test_force_rmse"].error > 0
    potential = load_potential(tmp_path / "run" / "alloy.safetensors")
    assert potential.species == ("Cu", "Au")
    assert potential.deviation_factor > 0
    record = json.loads((tmp_path / "run" / "alloy.json").read_text())
    assert record["data"]["frames"] == 14
    assert record["domain"]["elements"] == ["Cu", "Au"]
    assert record["deviation_factor"] > 0
    lines = (tmp_path / "run" / "events.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [5, 10, 15, 20]


def test_job_goes_on_where_it_was_stopped(alloy, tmp_path):
    job = assemble(scenario(alloy), tmp_path)

    class Stop(Exception):
        pass

    class Killer(Reporter):
        def progress(self, step, total, values):
            if step > 10:
                raise Stop

    with RunFolder.create(tmp_path / "a", "", {}) as folder:
        job.run(folder, Reporter(quiet=True))
    with RunFolder.create(tmp_path / "b", "", {}) as folder, pytest.raises(Stop):
        job.run(folder, Killer(quiet=True))
    with RunFolder.open(tmp_path / "b") as folder:
        assert folder.load_checkpoint().step == 10
        job.run(folder, Reporter(quiet=True))
    one, two = (tmp_path / k / "alloy.safetensors" for k in "ab")
    assert one.read_bytes() == two.read_bytes()
    steps = [
        [json.loads(line)["step"] for line in (tmp_path / k / "events.jsonl").open()]
        for k in "ab"
    ]
    assert steps[0] == steps[1]


def test_missing_data_tells_where_it_is_published(tmp_path, alloy):
    chosen = scenario(alloy, data="nowhere.json", published="example.org/set")
    with pytest.raises(InputError, match=r"nowhere\.json.*published at example\.org/set"):
        assemble(chosen, tmp_path)


def test_test_set_with_a_new_element_is_refused(tmp_path, alloy):
    atoms = bulk("Al")
    atoms.calc = EMT()
    atoms.get_forces()
    atoms.get_potential_energy()
    ase.io.write(tmp_path / "al.xyz", atoms)
    with pytest.raises(InputError, match="Al does not occur"):
        assemble(scenario(alloy, test=str(tmp_path / "al.xyz")), tmp_path)


@pytest.mark.parametrize(
    "model",
    [{"cutoff": 0.4}, {"axis": 32}, {"kind": "smooth_edition", "axis": 200}],
)
def test_sizes_that_do_not_fit_are_refused(alloy, model):
    with pytest.raises(ValueError, match=r"below cutoff|cannot exceed"):
        scenario(alloy, model={"kind": "higher_moments", **model})


@pytest.mark.parametrize(
    "model",
    [
        {"kind": "smooth_edition", "neurons": [6, 12], "axis": 4, "fitting": [8]},
        {"kind": "local_frame", "angular": [4], "radial": [2, 3], "fitting": [8]},
        {"kind": "behler_parrinello", "fitting": [8]},
        {"kind": "unconstrained", "channels": 3, "fitting": [8]},
        {
            "kind": "zbl_sum",
            "network": {
                "kind": "higher_moments",
                "cutoff": 4.5,
                "channels": 4,
                "axis": 2,
                "products": 2,
            },
        },
    ],
)
def test_every_form_runs_from_a_scenario(alloy, tmp_path, model):
    near = {} if model["kind"] == "zbl_sum" else {"cutoff": 4.5}
    chosen = scenario(
        alloy, model={**near, **model}, steps=2, report_every=2, checkpoint_every=2
    )
    with RunFolder.create(tmp_path / "run", "", {}) as folder:
        outcome = assemble(chosen, tmp_path).run(folder, Reporter(quiet=True))
    assert outcome.figures["test_force_rmse"].value > 0
    assert load_potential(tmp_path / "run" / "alloy").cutoff == 4.5


def test_counts_of_neighbours_fit_the_species(alloy, tmp_path):
    chosen = scenario(alloy, model={"kind": "local_frame", "angular": [1, 2, 3]})
    with pytest.raises(InputError, match=r"model\.angular: 3 numbers for 2 species"):
        assemble(chosen, tmp_path)


@pytest.mark.slow
def test_weights_of_groups_enter_the_loss(alloy, tmp_path):
    frames = [
        replace(f, group="hot" if k % 2 else "cold")
        for k, f in enumerate(read_frames(alloy))
    ]
    settings = replace(
        SHORT, validation=0.0, steps=150, batch=7, report=150, learning_rate=1e-2
    )
    errors = []
    for weights in ({}, {"cold": 0.0}):
        chosen = replace(settings, group_weights=weights)
        model = forms()["higher"].build(2)
        training = trained_on(frames, model, chosen)
        hot = evaluate(training.model, training.data, range(1, 14, 2)).force_rmse
        cold = evaluate(training.model, training.data, range(0, 14, 2)).force_rmse
        errors.append(cold / hot)
    assert errors[1] > 2 * errors[0]
    with pytest.raises(InputError, match=r"group_weights\.lukewarm"):
        assemble(scenario(alloy, group_weights={"lukewarm": 2.0}), tmp_path)


def test_training_on_another_device_is_refused(alloy):
    with pytest.raises(ValueError, match="runs on the cpu"):
        scenario(alloy, device="cuda")
