"""The job of a training scenario: train, keep checkpoints, measure, write the model."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ....models.card import save_module
from ...errors import Interrupted
from ...md.data import LabelledFrame, group_indices, split_frames
from ...protocols import Check, Figure, Outcome
from ...run import interruptible
from ...rundir import write_array
from .potential import Errors, Settings, Training, evaluate
from .tables import TrainingSet

UNITS = {"length": "angstrom", "energy": "eV", "force": "eV/angstrom"}


@dataclass(frozen=True)
class TrainingJob:
    """Trains one committee and writes ``NAME.safetensors`` with its card.

    Attributes:
        form: configuration of the model, with ``build(seed)``.
        settings: how to train.
        data: labelled frames for training and validation, with their neighbours.
        test: the same for the final errors, or None.
        files: where the training frames came from, for the card.
        notes: what was read and what is odd about it, for the log and the card.
        name: of the files that are written.
        threads: CPU threads.
        begun: a trained model of the form, whose weights are the first ones; or None.
    """

    form: Any
    settings: Settings
    data: TrainingSet
    test: TrainingSet | None
    files: Sequence[Path]
    notes: Sequence[str] = ()
    name: str = "model"
    threads: int = 1
    begun: Any = None

    def run(self, folder: Any, report: Any) -> Outcome:
        """Train; goes on from the newest checkpoint of the folder, bit for bit."""
        settings = self.settings
        for note in self.notes:
            report.say(note)
        count = len(self.data.frames)
        train, held = split_frames(count, settings.validation, settings.seed)
        fresh = self.begun is None
        model = self.form.build(settings.seed)
        if not fresh:
            model.load_state_dict(self.begun.state_dict())
        checkpoint = folder.load_checkpoint()
        torch.set_num_threads(self.threads)
        training = Training.start(model, self.data, train, held, settings, fresh)
        curve: list[dict[str, float]] = []
        if checkpoint is not None:
            training.restore(checkpoint.step, checkpoint.tensors, checkpoint.extra)
            curve = list(checkpoint.extra["curve"])
        with interruptible() as asked:
            while training.step < settings.steps:
                self._advance(training, curve, folder, report)
                if asked.is_set():
                    _save(training, curve, folder)
                    raise Interrupted(f"stopped at step {training.step}; engine resume")
        return self._finish(training, curve, folder)

    def _advance(
        self, training: Training, curve: list[dict[str, float]], folder: Any, report: Any
    ) -> None:
        settings = self.settings
        stops = (settings.report, settings.checkpoint)
        training.run(min(every - training.step % every for every in stops))
        done = training.step >= settings.steps
        if training.step % settings.report == 0 or done:
            point = {"step": training.step, **training.measure()}
            curve.append(point)
            folder.log(kind="curve", **point)
            side = "validation" if "force_validation" in point else "train"
            force, energy = point[f"force_{side}"], point[f"energy_{side}"]
            shown = {"F": f"{force:.4f} eV/A", "E": f"{1e3 * energy:.2f} meV/atom"}
            report.progress(training.step, settings.steps, {side: "", **shown})
        if training.step % settings.checkpoint == 0 or done:
            _save(training, curve, folder)

    def _finish(self, training: Training, curve: list[dict], folder: Any) -> Outcome:
        model = training.result()
        figures = {
            "cpu_seconds": Figure(training.cpu_seconds, "s", note="training alone"),
            "parameters": Figure(
                sum(p.numel() for p in model.parameters()) / model.members, ""
            ),
        }
        write_curve(folder.store, curve)
        factor = None
        if training.held:
            errors = evaluate(model, training.data, training.held)
            figures |= error_figures(errors, "validation")
            if model.members > 1:
                factor = deviation_factor(errors)
        if self.test is not None:
            self.test.dtype = self.settings.precision
            self.test.prepare(model.double())
            model.to(self.settings.precision)
            errors = evaluate(model, self.test, range(len(self.test.frames)))
            figures |= error_figures(errors, "test")
            write_parity(folder.store, errors, self.test.frames)
        record = self._card(training, figures, factor)
        save_module(folder.path / f"{self.name}.safetensors", model, record)
        if training.held:
            best = folder.path / f"{self.name}_best.safetensors"
            save_module(best, training.result(best=True), record)
        return Outcome(figures, [_finite(curve)])

    def _card(
        self, training: Training, figures: dict[str, Figure], factor: float | None
    ) -> dict[str, Any]:
        settings = asdict(self.settings)
        settings["precision"] = str(settings["precision"]).removeprefix("torch.")
        return {
            "units": UNITS,
            "data": {
                "files": [f"{path.parent.name}/{path.name}" for path in self.files],
                "sha256": frames_hash(self.data.frames),
                "frames": len(self.data.frames),
                "held_out": len(training.held),
                "read": list(self.notes),
            },
            "domain": domain_of(training.data),
            "training": {"steps": training.step, **settings},
            "figures": {
                name: {"value": figure.value, "unit": figure.unit, "note": figure.note}
                for name, figure in figures.items()
            },
            "deviation_factor": factor,
            "audits": {},
        }


def _finite(curve: list[dict[str, float]]) -> Check:
    """Check the learning curve; a loss that is not finite stops the training itself."""
    wrong = sum(not math.isfinite(value) for point in curve for value in point.values())
    return Check("loss finite", "health", wrong, 0, note="points of the learning curve")


def _save(training: Training, curve: list[dict[str, float]], folder: Any) -> None:
    extra = {**training.extra(), "curve": curve}
    folder.save_checkpoint(training.step, training.tensors(), extra)


def error_figures(errors: Errors, side: str) -> dict[str, Figure]:
    """Return the errors of the committee's mean with 95 % bootstrap intervals."""
    interval = errors.interval()
    figures = {}
    for kind, value, unit in (
        ("energy", errors.energy_rmse, "eV/atom"),
        ("force", errors.force_rmse, "eV/angstrom"),
    ):
        low, high = interval[kind]
        note = (
            f"RMSE over {errors.energy.shape[1]} frames, 95 % from {low:.4g} to {high:.4g}"
        )
        figures[f"{side}_{kind}_rmse"] = Figure(value, unit, (high - low) / 2, note)
    if float(errors.deviation.max()) > 0:
        figures[f"{side}_deviation_rank_correlation"] = Figure(
            rank_correlation(errors), "", note="Spearman, deviation against |dF| per atom"
        )
    return figures


def deviation_factor(errors: Errors) -> float:
    """Return what turns the committee's deviation into an error: rms |dF| / rms deviation.

    Members that saw the same data agree more with each other than with the truth.
    """
    true = errors.forces[-1].square().sum(-1).mean().sqrt()
    return float(true / errors.deviation.square().mean().sqrt())


def rank_correlation(errors: Errors) -> float:
    """Spearman correlation of the deviation with the true error of every atom's force."""
    from scipy.stats import spearmanr

    true = errors.forces[-1].norm(dim=-1)
    return float(spearmanr(errors.deviation.numpy(), true.numpy()).statistic)  # type: ignore[attr-defined]


def frames_hash(frames: Sequence[LabelledFrame]) -> str:
    """Return the sha256 of positions, cells, energies and forces of all frames."""
    digest = hashlib.sha256()
    for frame in frames:
        digest.update(" ".join(frame.symbols).encode())
        for array in (frame.positions, frame.cell, frame.energy, frame.forces):
            digest.update(np.ascontiguousarray(array, dtype="<f8").tobytes())
    return digest.hexdigest()


def domain_of(data: TrainingSet) -> dict[str, Any]:
    """Return what the training data cover: outside, a model extrapolates."""
    shortest = min(
        float(g.displacements[g.mask].norm(dim=-1).min())
        for g in data.geometry
        if bool(g.mask.any())
    )
    counts = [len(frame.symbols) for frame in data.frames]
    per_atom = [f.energy / n for f, n in zip(data.frames, counts, strict=True)]
    volumes = [f.volume / n for f, n in zip(data.frames, counts, strict=True)]
    return {
        "elements": list(data.species),
        "shortest_distance_angstrom": shortest,
        "largest_force_ev_per_angstrom": max(
            float(np.linalg.norm(f.forces, axis=1).max()) for f in data.frames
        ),
        "energy_ev_per_atom": [min(per_atom), max(per_atom)],
        "volume_angstrom3_per_atom": [min(volumes), max(volumes)],
        "groups": {name: len(v) for name, v in group_indices(data.frames).items()},
    }


def write_curve(store: Any, curve: list[dict[str, float]]) -> None:
    """Write the learning curve, an array of every number of its points."""
    units = {"energy": "eV/atom", "force": "eV/angstrom", "cpu": "s"}
    for name in curve[0] if curve else ():
        values = np.array([point.get(name, np.nan) for point in curve])
        unit = units.get(name.split("_")[0], "")
        write_array(store, f"curve/{name}", values, unit, "", ["point"])


def write_parity(store: Any, errors: Errors, frames: Sequence[LabelledFrame]) -> None:
    """Write predictions beside labels."""
    counts = np.array([len(frame.symbols) for frame in frames])
    reference = np.array([frame.energy for frame in frames]) / counts
    columns = {
        "energy_reference": (reference, "eV/atom"),
        "energy": (errors.predicted_energy.numpy() / counts, "eV/atom"),
        "forces_reference": (np.concatenate([f.forces for f in frames]), "eV/angstrom"),
        "forces": (errors.predicted_forces.double().numpy(), "eV/angstrom"),
        "deviation": (errors.deviation.double().numpy(), "eV/angstrom"),
    }
    for name, (values, unit) in columns.items():
        axes = ["frame"] if name.startswith("energy") else ["atom", "axis"]
        write_array(store, f"parity/{name}", values, unit, "", axes[: values.ndim])


__all__ = [
    "TrainingJob",
    "deviation_factor",
    "domain_of",
    "error_figures",
    "frames_hash",
    "rank_correlation",
    "write_curve",
    "write_parity",
]
