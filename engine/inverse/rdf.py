"""The forces between atoms from the structure of their liquid, by reweighting."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from ase.build import bulk
from torch import Tensor

from ..audit.certificate import write_certificate
from ..audit.certify import Certificate, certify
from ..md.differentiable import SmoothLennardJones
from ..md.integrators import Langevin, Schedule
from ..md.observables import RadialDistribution
from ..md.reweighting import Frames, Weighted
from ..md.state import ParticleState, concatenate
from ..md.structure import from_atoms
from ..md.units import METAL
from ..md.world import MolecularDynamics
from ..protocols import Check, Figure, Outcome
from ..run import Reporter
from ..rundir import RunFolder, write_group
from ..schema.inverse import PairSection, RdfScenario
from ..units import BOLTZMANN_EV, time_from_fs

INNER = 20
"""Most steps of Gauss and Newton between two simulations."""

RELAXATION = 200.0
"""Inverse friction of the thermostat, fs."""

CORRELATED = 4.0
"""Frames that count as one independent frame, a guess on the safe side."""

SKIN = 1.5
"""Of the neighbour list, angstrom; wide, because one replica renews the list of all."""

HOT = 6.0
"""Initial temperature of the crystals over that of the liquid."""


def _misfit(curve: Tensor, target: Tensor) -> float:
    return float((curve - target).detach().square().mean().sqrt())


def _logarithms(pair: PairSection) -> Tensor:
    return torch.tensor([pair.epsilon, pair.sigma], dtype=torch.float64).log()


@dataclass(frozen=True)
class Ensemble:
    """Frames of one simulation and their distributions.

    Attributes:
        frames: to be reweighted.
        curves: ``[frames, bins]`` g(r) of each.
        last: where all replicas ended.
    """

    frames: Frames
    curves: Tensor
    last: ParticleState


_EVOLVES = ("positions", "momenta", "step")
"""What of the replicas a checkpoint keeps."""


@dataclass(frozen=True)
class RdfFit:
    """Simulates, reweights and improves the parameters until nothing changes."""

    scenario: RdfScenario

    def run(self, folder: RunFolder, report: Reporter) -> Outcome:
        """Learn; rounds that are done are taken from the checkpoint."""
        s = self.scenario
        kept = folder.load_checkpoint()
        tensors = dict(kept.tensors) if kept else {}
        done = kept.step if kept else 0
        if "target" not in tensors:
            report.progress(0, s.rounds + 1, {"truth": "simulating"})
            truth = self.ensemble(_logarithms(s.truth), self.melted(1_000_000), 4)
            folder.log(event="truth", frames=len(truth.curves))
            tensors["target"] = truth.curves.mean(0)
            tensors["path"] = _logarithms(s.start).exp()[None]
            tensors["told"] = torch.empty(0, 2, dtype=torch.float64)
            folder.save_checkpoint(0, tensors)
        target, state = tensors["target"], self.melted(0)
        point, made = tensors["path"][-1].log(), None
        if done:
            state, began = (
                replace(state, **{k: tensors[f"{when}{k}"] for k in _EVOLVES})
                for when in ("", "before_")
            )
            if done == s.rounds:  # only the certificate is missing: the last round again
                made = self.ensemble(tensors["path"][-2].log(), began)
        for number in range(done, s.rounds):
            tensors |= {f"before_{k}": getattr(state, k) for k in _EVOLVES}
            made = self.ensemble(point, state)
            state, before = made.last, point
            tensors |= {k: getattr(state, k) for k in _EVOLVES}
            tensors["fitted"] = made.curves.mean(0)
            tensors.setdefault("first", tensors["fitted"])
            point, weighted, misfit = self._improved(made, before, target)
            row = torch.tensor([[misfit, weighted.effective / len(made.curves)]]).double()
            tensors["path"] = torch.cat([tensors["path"], point.exp()[None]])
            tensors["told"] = torch.cat([tensors["told"], row])
            epsilon, sigma = point.exp().tolist()
            seen = {"epsilon": f"{epsilon:.2f} K", "sigma": f"{sigma:.4f}"}
            report.progress(number + 1, s.rounds + 1, seen)
            folder.log(step=number + 1, epsilon=epsilon, sigma=sigma, misfit=misfit)
            folder.save_checkpoint(number + 1, tensors)
        if made is None:
            made = self.ensemble(point, state)
        self._write(folder, tensors)
        certificate = self._certificate(made, point)
        return self._outcome(folder, tensors, certificate)

    # -- simulation -----------------------------------------------------------------------

    def potential(self, point: Tensor) -> SmoothLennardJones:
        """Return the pair; ``point`` holds ln epsilon (K) and ln sigma (angstrom)."""
        epsilon, sigma = point.exp()
        cutoff = self.scenario.cutoff
        return SmoothLennardJones((epsilon * BOLTZMANN_EV)[None], sigma[None], cutoff)

    def potentials(self, points: Tensor) -> SmoothLennardJones:
        """Return a pair for each system of a batch, ``points [systems, 2]``."""
        epsilon, sigma = points.exp().unbind(1)
        return SmoothLennardJones(
            (epsilon * BOLTZMANN_EV)[:, None], sigma[:, None], self.scenario.cutoff
        )

    def world(self, point: Tensor, start: ParticleState) -> MolecularDynamics:
        """Return the thermostatted liquid that goes on from ``start``."""
        s = self.scenario
        bath = Langevin(Schedule.constant(s.temperature), time_from_fs(RELAXATION))
        potential = self.potential(point.detach())
        return MolecularDynamics(potential, bath, start, s.time_step, None, SKIN, METAL)

    def melted(self, stream: int) -> ParticleState:
        """Return all replicas at the first guess, hot crystals that have melted."""
        s = self.scenario
        edge = (4.0 / s.density) ** (1.0 / 3.0)
        atoms = bulk("Ar", "fcc", a=edge, cubic=True).repeat(s.cells)
        atoms.set_masses(np.full(len(atoms), s.mass))
        seeds = range(stream + 1000 * s.seed, stream + 1000 * s.seed + s.replicas)
        state = concatenate([from_atoms(atoms, ("Ar",), seed=seed) for seed in seeds])
        hot = replace(
            self.world(_logarithms(s.start), state), temperature=(HOT * s.temperature,)
        )
        state = hot.init()
        for _ in range(s.melting):
            state = hot.step(state)
        return state

    def ensemble(self, point: Tensor, start: ParticleState, times: int = 1) -> Ensemble:
        """Simulate from ``start`` and return frames in equilibrium."""
        s = self.scenario
        world = self.world(point, start)
        state, states = world.init(), []
        for step in range(1, s.settling + times * s.frames * s.interval + 1):
            state = world.step(state)
            if step > s.settling and (step - s.settling) % s.interval == 0:
                states.append(state)
        potential = self.potential(point.detach())
        frames = Frames.of(states, potential, BOLTZMANN_EV * s.temperature)
        rdf = RadialDistribution(1, s.r_max, s.bins)
        curves = frames.observe(lambda batch: rdf(batch, {})[:, 0])
        return Ensemble(frames, curves, state)

    # -- learning -------------------------------------------------------------------------

    def _improved(
        self, made: Ensemble, point: Tensor, target: Tensor
    ) -> tuple[Tensor, Weighted, float]:
        """Gauss and Newton on reweighted distributions while enough frames count."""
        here = made.frames.weighted(self.potential(point))
        first = best = _misfit(here.mean(made.curves), target)
        least = self.scenario.effective * len(made.curves)
        for _ in range(INNER):
            change, moved = self._step(made, point, target), point
            weighted, misfit = here, math.inf
            for _ in range(12):
                moved = point + change
                weighted = made.frames.weighted(self.potential(moved))
                misfit = _misfit(weighted.mean(made.curves), target)
                if weighted.effective >= least and misfit < best:
                    break
                change = 0.5 * change
            if not (weighted.effective >= least and misfit < best):
                break
            point, here, best = moved, weighted, misfit
            if float(change.abs().max()) < 1e-4:
                break
        return point, here, first

    def _step(self, made: Ensemble, point: Tensor, target: Tensor) -> Tensor:
        """Solve (J^T J + m F) change = J^T (target - curve).

        F is the covariance of dU/dp over (kT)^2: it measures how fast weights degrade, and,
        with the variance of the curves, how noisy J is; m is that noise.
        """
        p = point.clone().requires_grad_()
        weighted = made.frames.weighted(self.potential(p))
        curve = weighted.mean(made.curves)
        # one derivative of the energies serves all bins
        rows = [torch.autograd.grad(v, p, retain_graph=True)[0] for v in curve]
        jacobian, off = torch.stack(rows), target - curve.detach()
        each = point.expand(len(made.curves), 2).clone().requires_grad_()
        energies = self.potentials(each).energy(made.frames.states, made.frames.neighbours)
        (slopes,) = torch.autograd.grad(energies.sum(), each)
        w = weighted.weights.detach()
        about = slopes - w @ slopes
        fisher = (about * w[:, None]).T @ about / made.frames.thermal**2
        spread = made.curves - curve.detach()
        noise = CORRELATED * float((w @ spread.square()).sum()) / weighted.effective
        return torch.linalg.solve(jacobian.T @ jacobian + noise * fisher, jacobian.T @ off)

    def _certificate(self, made: Ensemble, point: Tensor) -> Certificate:
        """The gradient of energies and of the reweighted distribution."""

        def potential(p: Mapping[str, Tensor]) -> SmoothLennardJones:
            return self.potential(torch.stack([p["epsilon"], p["sigma"]]).log())

        def energy(p: Mapping[str, Tensor]) -> Tensor:
            frames = made.frames
            return potential(p).energy(frames.states, frames.neighbours).mean()

        def distribution(p: Mapping[str, Tensor]) -> Tensor:
            return made.frames.weighted(potential(p)).mean(made.curves)

        epsilon, sigma = point.exp()
        return certify(
            {"energy": energy, "distribution": distribution},
            {"epsilon": epsilon, "sigma": sigma},
            steps=[1e-2, 1e-3, 1e-4, 10**-4.5, 1e-5, 10**-5.5],
        )

    # -- results ---------------------------------------------------------------------

    def _write(self, folder: RunFolder, tensors: Mapping[str, Tensor]) -> None:
        s = self.scenario
        r = RadialDistribution(1, s.r_max, s.bins).r
        write_group(
            folder,
            "distribution",
            {
                "r": (r, "angstrom"),
                "fitted": (tensors["fitted"], ""),
                "first_guess": (tensors["first"], ""),
                "truth": (tensors["target"], ""),
            },
            "Radial distribution",
            "The density of atoms around an atom over the mean; the truth is all that the "
            "run is told.",
            axes=("r",),
        )
        path = tensors["path"]
        number = torch.arange(len(path))
        truth = torch.tensor([s.truth.epsilon, s.truth.sigma]).double().expand(len(path), 2)
        for name, k, unit in (("epsilon", 0, "K"), ("sigma", 1, "angstrom")):
            write_group(
                folder,
                "parameters",
                {
                    "round": (number, ""),
                    name: (path[:, k], unit),
                    f"{name}_reference": (truth[:, k], unit),
                },
                "Towards the hidden parameters",
                "One simulation per round; between two, the same frames are reweighted and "
                "the derivative is exact. Dashed: the truth.",
                axes=("round",),
            )
        write_group(
            folder,
            "trust",
            {
                "round": (number[1:], ""),
                "misfit": (tensors["told"][:, 0], ""),
                "share_of_frames_that_count": (tensors["told"][:, 1], "1"),
            },
            "Misfit, and how far reweighting carried",
            "Root mean square distance of the distribution from the truth before each "
            "round's step, and the effective share of the frames after it.",
            axes=("round",),
        )

    def _outcome(
        self, folder: RunFolder, tensors: Mapping[str, Tensor], certificate: Certificate
    ) -> Outcome:
        s = self.scenario
        settled = tensors["path"][-max(1, min(5, s.rounds)) :]
        mean, spread = settled.mean(0), settled.std(0, correction=0)
        truth = (s.truth.epsilon, s.truth.sigma)
        figures, checks = {}, write_certificate(folder, certificate)
        for k, name, unit in ((0, "epsilon", "K"), (1, "sigma", "angstrom")):
            value = float(mean[k])
            figures[name] = Figure(value, unit, float(spread[k]), f"truth {truth[k]:g}")
            off = abs(value / truth[k] - 1)
            figures[f"{name}_error"] = Figure(off, "", note="relative to the truth")
            note = "relative distance from the truth"
            checks.append(
                Check(f"recovered_{name}", "accuracy", off, s.agreement, note=note)
            )
        figures["misfit_first"] = Figure(float(tensors["told"][0, 0]))
        figures["misfit_last"] = Figure(float(tensors["told"][-1, 0]))
        figures["effective_share"] = Figure(
            float(tensors["told"][:, 1].min()), "", note="least over the rounds"
        )
        return Outcome(figures, checks)
