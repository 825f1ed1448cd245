"""The job of a training scenario whose model is solved for, not trained step by step."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ....models.card import save_module
from ...md.data import LabelledFrame
from ...protocols import Check, Figure, Outcome
from .elastic import elastic_figures
from .job import UNITS, domain_of, error_figures, frames_hash, write_curve, write_parity
from .linear import OUTLYING, LeastSquares, Solution, errors_of, install
from .radial import solve
from .tables import TrainingSet


@dataclass(frozen=True)
class Candidate:
    """A form, and frames with the neighbours within its cutoff.

    Attributes:
        form: configuration of the model, with ``build(seed)``.
        data: labelled frames.
        test: those of the final errors, or None.
    """

    form: Any
    data: TrainingSet
    test: TrainingSet | None


@dataclass(frozen=True)
class LinearJob:
    """Solves for one committee and writes ``NAME.safetensors`` with its card.

    Attributes:
        candidates: of rising cutoff, one or more; the first one whose successor predicts
            the frames left out no better is taken.
        settings: what labels weigh.
        files: where the frames came from, for the card.
        notes: what was read and what is odd about it, for the log and the card.
        name: of the files that are written.
        seed: of the parts that are left out in turns, and of the committee.
        threads: CPU threads.
        begun: a fitted model of the form, around whose weights the prior lies; or None.
    """

    candidates: Sequence[Candidate]
    settings: LeastSquares
    files: Sequence[Path]
    notes: Sequence[str] = ()
    name: str = "model"
    seed: int = 1
    threads: int = 1
    begun: Any = None

    def run(self, folder: Any, report: Any) -> Outcome:
        """Solve; tens of seconds for a cutoff, so there are no checkpoints."""
        for note in self.notes:
            report.say(note)
        torch.set_num_threads(self.threads)
        begun = time.process_time()
        chosen, model, solution = self._chosen(report)
        install(model, solution.mean, solution.draws)
        seconds = time.process_time() - begun
        data, test = chosen.data, chosen.test
        figures = {
            "cpu_seconds": Figure(
                seconds, "s", note="cutoff, radial functions, equations, solutions"
            ),
            "parameters": Figure(len(solution.mean), ""),
            "cutoff": Figure(chosen.form.cutoff, "angstrom"),
            "prior": Figure(solution.strength, "", note="chosen on the frames left out"),
            **error_figures(solution.held, "validation"),
            **elastic_figures(data, errors_of(model, data)),
        }
        if test is not None:
            errors = errors_of(model, test)
            figures |= error_figures(errors, "test")
            write_parity(folder.store, errors, test.frames)
        write_curve(folder.store, _curve(solution))
        doubts = doubted(solution.trust, data.frames)
        for doubt in doubts:
            report.say(doubt)
        record = self._card(chosen, figures, doubts)
        save_module(folder.path / f"{self.name}.safetensors", model, record)
        return Outcome(figures, [_finite(solution)])

    def _chosen(self, report: Any) -> tuple[Candidate, Any, Solution]:
        """Return the best candidate, its model and its solution."""
        best = None
        for number, each in enumerate(self.candidates, 1):
            model, solution = self._solved(each, report)
            if len(self.candidates) > 1:
                report.say(
                    f"cutoff {each.form.cutoff:g} angstrom ({number} of at most "
                    f"{len(self.candidates)}): weighted square of the frames left out "
                    f"{solution.score:.4g}"
                )
            if best is not None and not solution.score < best[2].score:
                break
            best = each, model, solution
        assert best is not None
        return best

    def _solved(self, candidate: Candidate, report: Any) -> tuple[Any, Solution]:
        """Return the model of a candidate and its solution."""
        model = candidate.form.build(self.seed).double()
        settings, solution = self.settings, None
        if self.begun is not None:
            model.load_state_dict(self.begun.state_dict())
            settings = replace(settings, rounds=0)
        frames = str(len(candidate.data.frames))
        for done, count, found in solve(model, candidate.data, settings, self.seed):
            solution = found
            if done % 20 == 0 or found is not None:
                report.progress(done, count, {"frames": frames})
        assert solution is not None
        return model, solution

    def _card(
        self, chosen: Candidate, figures: dict[str, Figure], doubts: Sequence[str]
    ) -> dict[str, Any]:
        data = chosen.data
        return {
            "units": UNITS,
            "data": {
                "files": [f"{path.parent.name}/{path.name}" for path in self.files],
                "read": [*self.notes, *doubts],
                "sha256": frames_hash(data.frames),
                "frames": len(data.frames),
                "held_out": f"each of {self.settings.folds} parts in turn",
            },
            "domain": domain_of(data),
            "training": {**asdict(self.settings), "seed": self.seed},
            "figures": {
                name: {"value": figure.value, "unit": figure.unit, "note": figure.note}
                for name, figure in figures.items()
            },
            # draws were scaled so that a deviation is an expected error
            "deviation_factor": 1.0 if chosen.form.members > 1 else None,
            "audits": {},
        }


def doubted(trust: np.ndarray, frames: Sequence[LabelledFrame]) -> list[str]:
    """Return one sentence if virials weigh less, with how many of which groups."""
    less = np.flatnonzero(trust < 1).tolist()
    if not less:
        return []
    groups = Counter(frames[k].group or "no group" for k in less)
    named = ", ".join(f"{number} of {group}" for group, number in groups.most_common(8))
    return [
        f"the virials of {len(less)} of {len(trust)} frames weigh less, down to "
        f"{trust.min():.2g} ({named}): what other frames tell of them is off by more than "
        f"{OUTLYING:g} times the median; are these labels right?"
    ]


def _curve(solution: Solution) -> list[dict[str, float]]:
    """Return the error of the frames left out for every strength of the prior."""
    return [
        {"step": k, "prior": strength, "left_out": score}
        for k, (strength, score) in enumerate(solution.scores.items())
    ]


def _finite(solution: Solution) -> Check:
    wrong = int((~np.isfinite(solution.mean)).sum() + (~np.isfinite(solution.draws)).sum())
    return Check("weights finite", "health", wrong, 0, note="weights that are not finite")


__all__ = ["Candidate", "LinearJob", "doubted"]
