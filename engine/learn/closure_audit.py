"""Final evaluation of a learned closure: held-out flows in every stratum."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ...models.card import save_module
from ..comparison import rank
from ..protocols import Check, Committee, Figure, Labeler, Outcome
from ..rundir import RunFolder
from .closures import FLOWS, LABELS, FlowLabel, FlowSample, flux_error, followed
from .explorers.flows import DECADES, HELD_OUT
from .indicators import spearman
from .label_store import LabelStore, compute, identity
from .labelers.kinetic import KineticLabeler
from .round_plan import append


@dataclass(frozen=True)
class ClosureAudit:
    """Measures the final committee on the frozen test flows and writes its members.

    ``closure_0.safetensors`` and so on with their cards, and the table ``audit``.

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
    ) -> Outcome:
        """Label the test flows, compare, write."""
        figures = self._measured(folder, committee) if self.flows else {}
        for number, module in enumerate(committee):
            card = {
                "trained_on": {"flows": len(dataset), "labeler": identity(self.labeler)},
                "figures": {name: figure.value for name, figure in figures.items()},
            }
            save_module(folder.path / f"closure_{number}", module, card)
        worst = figures.get("worst_flux_error")
        if worst is None:
            return Outcome(figures)
        said = f"error of the closing moment in the worst stratum, {worst.note}"
        return Outcome(
            figures, [Check("audit", "accuracy", worst.value, self.target, note=said)]
        )

    def _measured(self, folder: RunFolder, committee: Committee) -> dict[str, Figure]:
        place = folder.path / "audit"
        place.mkdir(exist_ok=True)
        labeler: Labeler[FlowSample, FlowLabel] = self.labeler
        store = LabelStore(place, identity(labeler), FLOWS, LABELS)
        samples = [
            FlowSample(family, HELD_OUT, index)
            for family in self.families
            for index in range(self.flows * DECADES)
        ]
        deviation = followed(committee, samples, self.labeler.times, self.labeler.cells)
        errors = []
        for sample in samples:
            compute(store, labeler, sample)
            entry = store.get(store.key(sample))
            assert entry is not None
            errors.append(flux_error(committee, sample, entry.label))
        error = torch.tensor(errors, dtype=torch.float64)
        names = list(dict.fromkeys(sample.stratum for sample in samples))
        stratum = torch.tensor([names.index(sample.stratum) for sample in samples])
        columns = {"stratum": stratum, "deviation": deviation, "error": error}
        append(folder.store, "audit", 0, columns, strata=names, unit="")
        rms = {
            name: float(error[stratum == number].square().mean().sqrt())
            for number, name in enumerate(names)
        }
        worst = max(rms, key=lambda name: rank(rms[name]))
        return {
            "worst_flux_error": Figure(rms[worst], note=worst),
            "mean_flux_error": Figure(float(error.square().mean().sqrt())),
            "audit_spearman": Figure(spearman(deviation, error)),
        }
