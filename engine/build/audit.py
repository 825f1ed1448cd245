"""Jobs that hold models against physics; the only place that matches on their kinds."""

from pathlib import Path

from ..audit.symmetry import ELEMENT, Conservation, Form, SymmetryStudy, crystal
from ..errors import InputError
from ..learn.trainers.potential import PlainLoss, Settings
from ..protocols import Job
from ..schema.audit import (
    ComparedModel,
    NoSymmetrySection,
    SymmetryScenario,
    UnconstrainedSection,
)
from .train import form_of


def build(scenario: SymmetryScenario, base: Path) -> Job:
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


def _form(section: ComparedModel) -> Form:
    match section.model:
        case NoSymmetrySection():
            from ...models.potentials.whole_box import WholeBox

            box = crystal()
            x, y, z = (float(length) for length in box.cell.lengths())
            config = WholeBox((ELEMENT,), len(box), (x, y, z), section.model.hidden)
            return Form(section.name, config)
        case UnconstrainedSection():
            return Form(section.name, form_of(section.model, (ELEMENT,)), augment=True)
        case _:
            return Form(section.name, form_of(section.model, (ELEMENT,)))
