"""Jobs that hold models against physics; the only place that matches on their kinds."""

from pathlib import Path

from ...models.potentials.fields import with_species
from ..audit.symmetry import ELEMENT, Conservation, Form, SymmetryStudy, crystal
from ..errors import InputError
from ..learn.trainers.potential import PlainLoss, Settings
from ..protocols import Job
from ..rundir import RunFolder
from ..schema.audit import (
    ComparedModel,
    NoSymmetrySection,
    SymmetryScenario,
)
from ..schema.vmc import VmcScenario
from ..vmc.electrons import Electrons


def assemble(scenario: SymmetryScenario, base: Path) -> Job:
    """Return the job of the comparison.

    Raises:
        InputError: sizes that do not grow, equal names, or not on the cpu.
    """
    if scenario.device != "cpu":
        raise InputError("device: the comparison runs on the cpu; allowed: cpu")
    if list(scenario.sizes) != sorted(set(scenario.sizes)):
        raise InputError(f"sizes: {list(scenario.sizes)} must grow")
    forms = [_form(each) for each in scenario.models]
    if len({form.key for form in forms}) < len(forms):
        raise InputError("models: two have the same name")
    runs = scenario.conservation
    return SymmetryStudy(
        forms=forms,
        sizes=scenario.sizes,
        temperatures=scenario.temperatures,
        test=scenario.test,
        settings=Settings(
            steps=scenario.steps,
            batch=scenario.batch,
            loss=PlainLoss(),
            learning_rate=scenario.learning_rate,
            weight_decay=scenario.weight_decay,
            average=0.99,
            validation=0.0,
            seed=scenario.seed,
        ),
        conservation=Conservation(
            runs.time_steps, runs.picoseconds, runs.temperature, runs.replicas
        ),
        seed=scenario.seed,
    )


def trained_wavefunction(folder: Path) -> Electrons:
    """Return the problem of a finished run of kind ``vmc`` with its averaged parameters.

    Raises:
        InputError: not such a run, or it holds no checkpoint.
        DamagedFileError: the checkpoint does not match its hash.
    """
    from ..scenario import parse
    from .vmc import make_problem

    with RunFolder.open(folder) as opened:
        scenario = parse(opened.resolved["scenario"], str(folder / "resolved.json"))
        checkpoint = opened.load_checkpoint()
    if not isinstance(scenario, VmcScenario) or checkpoint is None:
        raise InputError(f"{folder}: no run of kind vmc with a checkpoint")
    problem = make_problem(scenario)
    if not isinstance(problem, Electrons):
        raise InputError(f"{folder}: only electrons are audited, not spins on a lattice")
    problem.flat.load(checkpoint.tensors["state/average"])
    return problem


def _form(section: ComparedModel) -> Form:
    match section.model:
        case NoSymmetrySection():
            from ...models.potentials.whole_box import WholeBox

            box = crystal()
            x, y, z = (float(length) for length in box.cell.lengths())
            config = WholeBox((ELEMENT,), len(box), (x, y, z), section.model.hidden)
            return Form(section.name, config)
        case form:
            augment = not getattr(form, "invariant", True)
            return Form(section.name, with_species(form, (ELEMENT,)), augment=augment)
