"""Final evaluation of a learned potential: fresh labels of random frames of all strata."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.io
import torch
from ase.calculators.singlepoint import SinglePointCalculator

from ...models.card import save_module
from ..comparison import rank
from ..protocols import Check, Committee, Explorer, Figure, Outcome
from ..rundir import RunFolder, write_atomically
from ..runtime import generator
from .atoms import AtomsLabel, Configuration, force_errors, structure_key
from .indicators import spearman
from .round_plan import append
from .stopping import interval

_STREAM = 900_002

Figures = dict[str, Figure]


@dataclass(frozen=True)
class Audit:
    """Measures the final committee on its own trajectories, and writes model and data.

    ``model.safetensors`` with its card and ``dataset.extxyz`` are written before anything
    is labelled; then the table ``audit`` with the error of every frame. No frame of the
    audit is trained on. A label that fails is counted and does not end the run.

    Attributes:
        explorer: walkers that are not terminated.
        frames: of each stratum; None: all that the explorer yields.
        target: force error asked for, eV/angstrom.
        seed: of the choice.
        method: names the labeler.
    """

    explorer: Explorer[Configuration]
    frames: int | None
    target: float
    seed: int
    method: str

    def __call__(
        self,
        folder: RunFolder,
        committee: Committee,
        dataset: Sequence[tuple[Configuration, AtomsLabel]],
        ask: Callable[[Sequence[Configuration]], list[AtomsLabel | None]],
    ) -> Outcome:
        """Save, explore once more, label a few frames, compare."""
        write_dataset(folder.path / "dataset.extxyz", dataset)
        self._save(folder, committee, len(dataset), {})
        if self.frames == 0:
            return Outcome()
        picked, figures = self._picked(committee, [sample for sample, _ in dataset])
        if not figures:
            return Outcome()
        labels = ask(picked)
        pairs = [(s, label) for s, label in zip(picked, labels, strict=True) if label]
        lost = [s.stratum for s, label in zip(picked, labels, strict=True) if not label]
        errors = force_errors(committee, pairs)
        figures |= audit_figures(folder, pairs, errors, "force", "eV/angstrom")
        figures["audit_failed"] = Figure(len(lost), note="audit frames without a label")
        self._save(folder, committee, len(dataset), figures)
        return Outcome(figures, audit_checks(figures, lost, self.target))

    def _save(
        self, folder: RunFolder, committee: Committee, frames: int, figures: Figures
    ) -> None:
        module: Any = committee[0]
        card = {
            "trained_on": {"frames": frames, "labeler": self.method},
            "figures": {name: figure.value for name, figure in figures.items()},
        }
        save_module(folder.path / "model.safetensors", module, card)

    def _picked(
        self, committee: Committee, learnt: Sequence[Configuration]
    ) -> tuple[list[Configuration], Figures]:
        """Return frames of every stratum, by weight, and what part of the walks failed.

        Nothing where all that the explorer yields is learnt.
        """
        rng, taken = generator(self.seed, _STREAM), set(map(structure_key, learnt))
        seen: dict[str, list[Configuration]] = {}
        for sample in self.explorer.explore(committee, rng):
            if structure_key(sample) not in taken:
                seen.setdefault(sample.stratum, []).append(sample)
        if not seen:
            return [], {}
        picked, shares = [], {}
        for name, samples in seen.items():
            good = [s for s in samples if math.isfinite(s.deviation)]
            whole = sum(s.weight + s.unreached for s in samples)
            shares[name] = 1.0 - sum(s.weight for s in good) / whole
            fair = [s for s in good if s.weight > 0]  # an extreme stands for no other
            if fair:
                weight = torch.tensor([s.weight for s in fair], dtype=torch.float64)
                count = len(fair) if self.frames is None else min(self.frames, len(fair))
                some = torch.multinomial(weight, count, generator=rng)
                picked += [fair[k] for k in some.tolist()]
        worst = max(shares, key=lambda name: rank(shares[name]))
        note = f"share of the walks where the model failed, {worst}"
        screened = sum(s.weight for samples in seen.values() for s in samples)
        return picked, {
            "audit_unreached": Figure(shares[worst], note=note),
            "audit_screened": Figure(screened, note="samples screened by the audit"),
        }


MOST_FAILED = 0.05
"""Share of the audit's walks that may fail."""


def audit_figures(
    folder: RunFolder, pairs: Sequence[tuple[Any, Any]], errors: torch.Tensor, what: str,
    unit: str,
) -> Figures:  # fmt: skip
    """Write the table ``audit`` and return the errors of the worst stratum and of all.

    Args:
        folder: of the run.
        pairs: samples, with ``stratum`` and ``deviation``, and their labels.
        errors: ``[samples]``.
        what: the error is of.
        unit: of the error.
    """
    if not pairs:
        return {"labels_audit": Figure(0)}
    names = list(dict.fromkeys(sample.stratum for sample, _ in pairs))
    stratum = torch.tensor([names.index(sample.stratum) for sample, _ in pairs])
    carried = [sample.deviation for sample, _ in pairs]
    deviation = torch.tensor(carried, dtype=torch.float64)
    columns = {"stratum": stratum, "deviation": deviation, "error": errors}
    append(folder.store, "audit", 0, columns, strata=names, unit=unit)
    rms = {
        name: float(errors[stratum == number].square().mean().sqrt())
        for number, name in enumerate(names)
    }
    worst = max(rms, key=lambda name: rank(rms[name]))
    there = errors[stratum == names.index(worst)].tolist()
    low, high = interval(there, 0.95)
    note = f"{worst}, [{low:.3g}, {high:.3g}] of {len(there)} labels"
    return {
        f"worst_{what}_error": Figure(rms[worst], unit, note=note),
        f"mean_{what}_error": Figure(float(errors.square().mean().sqrt()), unit),
        "audit_spearman": Figure(spearman(deviation, errors)),
        "labels_audit": Figure(len(pairs), note="labels of the final evaluation"),
    }


def audit_checks(figures: Figures, lost: Sequence[str], target: float) -> list[Check]:
    """Return the checks of the final evaluation.

    Args:
        figures: of :func:`audit_figures`, with the share of failed walks where there is.
        lost: strata of the samples whose label failed.
        target: error asked for.
    """
    checks = []
    worst = next((f for n, f in figures.items() if n.startswith("worst_")), None)
    if worst is not None:
        note = f"error in the worst stratum, {worst.note}"
        checks.append(
            Check("audit", "accuracy", worst.value, target, unit=worst.unit, note=note)
        )
    if "audit_unreached" in figures:
        share = figures["audit_unreached"]
        checks.append(
            Check("audit_walks", "domain", share.value, MOST_FAILED, note=share.note)
        )
    if lost:
        note = "audit frames without a label: " + ", ".join(dict.fromkeys(lost))
        checks.append(Check("audit_labels", "health", float(len(lost)), 0.0, note=note))
    return checks


def write_dataset(path: Path, dataset: Sequence[tuple[Configuration, AtomsLabel]]) -> None:
    """Write labelled configurations as extended XYZ, with their error bars."""
    frames = []
    for sample, label in dataset:
        atoms = sample.atoms()
        atoms.calc = SinglePointCalculator(
            atoms, energy=label.energy, forces=label.forces.numpy()
        )
        if label.virial is not None:
            atoms.info["virial"] = label.virial.numpy()
        atoms.info["energy_error"] = label.energy_error
        atoms.info["force_error"] = label.force_error
        if sample.stratum:  # an empty value would swallow the next one when it is read
            atoms.info["group"] = sample.stratum
        frames.append(atoms)
    write_atomically(path, lambda part: ase.io.write(part, frames, format="extxyz"))
