"""Learned moments: autoencoders compared with Hermite polynomials."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..engine import runtime
from ..engine.gas.flows import lines as flows
from ..engine.gas.flows.lines import sample_times
from ..engine.learn.trainers import autoencoder as training
from ..engine.protocols import Check, Figure, Job, Outcome
from ..engine.run import Reporter
from ..engine.rundir import RunFolder
from ..models.closures.autoencoder import (
    AutoencoderForm,
    MomentAutoencoder,
    hermite_functions,
)
from .schema import ClosureMomentsScenario

HELD = 8
"""One flow in so many is held out."""


@dataclass(frozen=True)
class LearnedMoments:
    """Trains one autoencoder for each number of moments kept."""

    scenario: ClosureMomentsScenario

    def run(self, folder: RunFolder, report: Reporter) -> Outcome:
        """Label, train every width; the labels are kept in the checkpoint."""
        s = self.scenario
        total = len(s.families) + len(s.latents)
        raw = self._labels(folder, report, total)
        split = [each.shape[1] - max(1, each.shape[1] // HELD) for each in raw]
        pairs = list(zip(raw, split, strict=True))
        rng = runtime.generator(s.seed, 8_500)
        h = training.samples([r[:, :n] for r, n in pairs], s.order, s.samples, rng)
        held = training.samples([r[:, n:] for r, n in pairs], s.order, s.samples, rng)
        figures: dict[str, Figure] = {}
        found = torch.zeros(2, len(s.latents), dtype=torch.float64)
        for place, latent in enumerate(s.latents):
            module, size = self._begun(latent, h)
            found[0, place] = self._left(module, held, size)
            if s.steps:
                rng = runtime.generator(s.seed, 8_600 + latent)
                training.fit(module, h, s.steps, s.batch, s.rate, rng)
            found[1, place] = self._left(module, held, size)
            kept = f"{latent} {'number' if latent == 1 else 'numbers'} kept"
            note = f"{kept}: share of the moments of held-out flows that does not come back"
            figures[f"unexplained_{latent}"] = Figure(float(found[1, place]), "", note=note)
            note = f"{kept}: the same before training, by principal components"
            figures[f"untrained_{latent}"] = Figure(float(found[0, place]), "", note=note)
            folder.log(event="trained", latent=latent, unexplained=float(found[1, place]))
            report.progress(len(s.families) + place + 1, total, {"kept": str(latent)})
            if latent == s.pictured:
                self._picture(folder, module, held)
        widths = torch.tensor(s.latents)
        folder.put("kept", widths, "", "numbers kept")
        folder.put("left_untrained", found[0], "", "before training")
        folder.put("left_learned", found[1], "", "trained")
        lost = sum(int((~each.isfinite()).sum()) for each in raw)
        note = "moments of the kinetic solutions that are not finite"
        return Outcome(figures, [Check("labels", "health", lost, 0, note=note)])

    def _labels(self, folder: RunFolder, report: Reporter, total: int) -> list[Tensor]:
        s = self.scenario
        begun = folder.load_checkpoint()
        kept: dict[str, Tensor] = dict(begun.tensors) if begun else {}
        for number, family in enumerate(s.families):
            if f"raw{number}" not in kept:
                parts = []
                for first in range(0, family.flows, 8):
                    count = min(8, family.flows - first)
                    some = flows.flows(family.name, s.seed, count, family.first + first)
                    times = sample_times(family.until)
                    wide = (2 * s.cells, s.velocities, s.cells, s.order, 7.2)
                    parts.append(flows.solve(some, times, *wide))
                kept[f"raw{number}"] = torch.cat(parts, 1)
                folder.save_checkpoint(number + 1, kept)
            report.progress(number + 1, total, {"labelled": family.name})
        return [kept[f"raw{number}"] for number in range(len(s.families))]

    def _begun(self, latent: int, h: Tensor) -> tuple[MomentAutoencoder, Tensor]:
        s = self.scenario
        with torch.random.fork_rng():
            torch.manual_seed(s.seed * 1000 + latent)
            module = AutoencoderForm(latent, s.order).build()
        size = training.fit(module, h, 0, s.batch, s.rate, runtime.generator(s.seed, 1))
        return module, size

    @torch.no_grad()
    def _left(self, module: MomentAutoencoder, held: Tensor, size: Tensor) -> float:
        return float(training.unexplained(module, held, size))

    @torch.no_grad()
    def _picture(self, folder: RunFolder, module: MomentAutoencoder, held: Tensor) -> None:
        """Write learned and Hermite moments, and the cell farthest from equilibrium."""
        xi = torch.linspace(-4.0, 4.0, 161, dtype=torch.float64)
        learned = module.learned_moments(xi.tolist())
        size = (module.encoder * module.mask).square().sum(1, keepdim=True).sqrt()
        he = hermite_functions(xi, self.scenario.order)[:, 3:].T
        best = (module.encoder * module.mask)[:, : len(learned)].diagonal()
        sign = torch.where(best < 0, -1.0, 1.0)[:, None]
        folder.put("xi", xi, "", "(v - u) / sqrt(theta)")
        folder.put("moments_learned", sign * learned / size, "", "learned moments")
        folder.put("moments_hermite", he[: len(learned)], "", "Hermite polynomials")
        shown = held[held.square().sum(1).argmax()]
        gauss = (-0.5 * xi * xi).exp() / math.sqrt(2 * math.pi)
        series = gauss * (1.0 + shown @ he)
        decoded = module.density(module.encode(shown), xi)
        both = torch.stack([gauss, series, decoded])
        folder.put("distributions", both, "", "Maxwellian, Hermite series, decoded")


def assemble(scenario: ClosureMomentsScenario, base: Path) -> Job:
    """Return the job of the study."""
    del base
    return LearnedMoments(scenario)


__all__ = ["LearnedMoments", "assemble"]
