"""Final evaluation of a learned closure: held-out flows in every stratum."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ...models.card import save_module
from ..gas.flows import HELD_OUT
from ..gas.flows.lines import DECADES
from ..protocols import Committee, Outcome
from ..rundir import RunFolder
from .audit import Figures, audit_checks, audit_figures
from .closures import FlowLabel, FlowSample, flux_errors, followed
from .label_store import identity
from .labelers.kinetic import KineticLabeler


@dataclass(frozen=True)
class ClosureAudit:
    """Measures the final committee on the frozen test flows and writes its members.

    ``closure_0.safetensors`` and so on with their cards, then the table ``audit``.

    Attributes:
        families: of the flows.
        labeler: the kinetic equation.
        flows: of each stratum.
        target: error of the scaled closing moment asked for.
    """

    families: Sequence[str]
    labeler: KineticLabeler
    flows: int
    target: float

    def __call__(
        self,
        folder: RunFolder,
        committee: Committee,
        dataset: Sequence[tuple[FlowSample, FlowLabel]],
        ask: Callable[[Sequence[FlowSample]], list[FlowLabel | None]],
    ) -> Outcome:
        """Save the members, label the test flows, compare."""
        self._save(folder, committee, len(dataset), {})
        if not self.flows:
            return Outcome()
        samples = [
            FlowSample(family, HELD_OUT, index)
            for family in self.families
            for index in range(self.flows * DECADES)
        ]
        times, cells = self.labeler.times, self.labeler.cells
        found = followed(committee, samples, times, cells).tolist()
        pairs, lost = [], []
        for sample, deviation, label in zip(samples, found, ask(samples), strict=True):
            if label is None:
                lost.append(sample.stratum)
            else:
                pairs.append((replace(sample, deviation=deviation), label))
        figures = audit_figures(folder, pairs, flux_errors(committee, pairs), "flux", "")
        self._save(folder, committee, len(dataset), figures)
        return Outcome(figures, audit_checks(figures, lost, self.target))

    def _save(
        self, folder: RunFolder, committee: Committee, flows: int, figures: Figures
    ) -> None:
        for number, module in enumerate(committee):
            card = {
                "trained_on": {"flows": flows, "labeler": identity(self.labeler)},
                "figures": {name: figure.value for name, figure in figures.items()},
            }
            save_module(folder.path / f"closure_{number}", module, card)
