"""Symmetry ablation: potentials with more and more built-in physics on the same data.

The argument of W. E, J. Han and L. Zhang (arXiv:2006.02619, figure 3), with Stillinger and
Weber's silicon as the truth: five forms are trained on the same frames, their test error is
followed over the number of frames, and then each is asked to conserve energy.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk
from torch import Tensor

from ..engine.audit.conservation import drift_and_fluctuation, total_energy
from ..engine.errors import GuardError, Interrupted
from ..engine.learn.trainers.potential import PlainLoss, Settings, Training, evaluate
from ..engine.learn.trainers.soap import Soap
from ..engine.learn.trainers.tables import TrainingSet
from ..engine.md.classical import StillingerWeber
from ..engine.md.data import LabelledFrame
from ..engine.md.integrators import Langevin, Schedule, Verlet
from ..engine.md.learned import LearnedPotential
from ..engine.md.neighbours import Neighbours
from ..engine.md.potential import Potential
from ..engine.md.state import Interaction, ParticleState, concatenate
from ..engine.md.structure import from_atoms
from ..engine.md.world import MolecularDynamics
from ..engine.protocols import Check, Figure, Job, Outcome
from ..engine.run import interruptible
from ..engine.rundir import write_array
from ..engine.runtime import generator, start
from ..engine.units import MD_TIME_FS
from ..models.card import load_module, save_module
from ..models.potentials.fields import with_species
from ..models.potentials.unconstrained import random_rotations
from ..models.potentials.whole_box import WholeBox, WholeBoxPotential
from .schema import (
    ComparedModel,
    NoSymmetrySection,
    SymmetryScenario,
    file_name,
)

ELEMENT = "Si"
LATTICE = 5.431
REPEAT = (2, 1, 1)


@dataclass(frozen=True)
class BoxPotential:
    """A :class:`WholeBoxPotential` in molecular dynamics; it has no virial.

    Attributes:
        module: the network; every system must be its box.
    """

    module: WholeBoxPotential
    cutoff: float = field(default=2.0, init=False)

    @property
    def species(self) -> tuple[str, ...]:
        """Of the network."""
        return self.module.species

    def __call__(self, state: ParticleState, neighbours: Neighbours) -> Interaction:
        """Energy and forces by automatic differentiation."""
        with torch.enable_grad():
            x = state.positions.detach().unflatten(0, (state.systems, -1)).requires_grad_()
            energy = self.module(x)
            (slope,) = torch.autograd.grad(energy.sum(), x)
        virial = torch.full((state.systems, 3, 3), math.nan, dtype=torch.float64)
        return Interaction(energy.detach().double(), -slope.flatten(0, 1), virial)


def crystal() -> Atoms:
    """Return the box of 16 atoms that everything happens in."""
    return bulk(ELEMENT, a=LATTICE, cubic=True).repeat(REPEAT)


def label_frames(
    temperatures: Sequence[float], count: int, apart: int, seed: int
) -> list[LabelledFrame]:
    """Return frames of Stillinger-Weber silicon at several temperatures, in turn.

    Langevin dynamics at 1 fs, ``apart`` steps between frames, from the crystal; the first
    half picosecond is left out. Above 2000 K the box is started at 5000 K, so that it
    melts.

    Args:
        temperatures: kelvin; one system each.
        count: frames of each.
        apart: steps between two frames.
        seed: of all noise.
    """
    truth = StillingerWeber()
    systems = [from_atoms(crystal(), truth.species, seed=seed + k)
               for k in range(len(temperatures))]  # fmt: skip
    first = tuple(5000.0 if t > 2000 else t for t in temperatures)
    bath = Schedule((0.0, 400.0 / MD_TIME_FS), (first, tuple(temperatures)))
    world = MolecularDynamics(
        truth, Langevin(bath, 50.0 / MD_TIME_FS), concatenate(systems), 1.0, first
    )
    state, frames = world.init(), []
    for number in range(500 + count * apart):
        state = world.step(state)
        if number >= 500 and (number - 500) % apart == apart - 1:
            frames += [_frame(state, k, t) for k, t in enumerate(temperatures)]
    return frames


def _frame(state: ParticleState, system: int, temperature: float) -> LabelledFrame:
    mine = state.system == system
    return LabelledFrame(
        (ELEMENT,) * int(mine.sum()),
        state.positions[mine].numpy().copy(),
        state.cell[system].numpy().copy(),
        np.array([True, True, True]),
        float(state.energy[system]),
        state.forces[mine].numpy().copy(),
        group=f"{temperature:g} K",
    )


@dataclass(frozen=True)
class Form:
    """One form of potential in the comparison.

    Attributes:
        name: in words, as in the report.
        config: with ``build(seed)``.
        augment: whether it is trained on turned frames.
    """

    name: str
    config: Any
    augment: bool = False

    @property
    def key(self) -> str:
        """Name for files and figures."""
        return file_name(self.name)

    @property
    def whole(self) -> bool:
        """Whether it sees the whole box at once."""
        return isinstance(self.config, WholeBox)


def train(form: Form, frames: Sequence[LabelledFrame], settings: Settings) -> Any:
    """Return the form's module, trained on some frames.

    Raises:
        GuardError: the loss is not finite.
    """
    if form.whole:
        return _train_whole(form.config, frames, settings)
    data = TrainingSet.of(frames, tuple(form.config.species), form.config.cutoff)
    settings = replace(settings, augment=form.augment)
    model = form.config.build(settings.seed)
    training = Training.start(model, data, range(len(frames)), [], settings)
    training.run(settings.steps)
    return training.result().double().eval().requires_grad_(False)


def _tensors(frames: Sequence[LabelledFrame]) -> tuple[Tensor, Tensor, Tensor]:
    positions = torch.tensor(np.stack([f.positions for f in frames]))
    energy = torch.tensor([f.energy for f in frames], dtype=torch.float64)
    return positions, energy, torch.tensor(np.stack([f.forces for f in frames]))


def _train_whole(
    config: WholeBox, frames: Sequence[LabelledFrame], settings: Settings
) -> WholeBoxPotential:
    """Train the control with the same loss, optimiser, rate and number of steps."""
    module = config.build(settings.seed)
    positions, energy, forces = _tensors(frames)
    module.mean.copy_(energy.mean())
    average = config.build(settings.seed).requires_grad_(False)
    average.load_state_dict(module.state_dict())
    optimiser = Soap(
        module.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    rng = torch.Generator().manual_seed(settings.seed)
    energy_weight, force_weight, _ = settings.loss.weights(1.0)
    for step in range(settings.steps):
        for group in optimiser.param_groups:
            group["lr"] = settings.rate(step)
        pick = torch.randint(len(frames), (settings.batch,), generator=rng)
        x = positions[pick].float().requires_grad_()
        said = module(x)
        (slope,) = torch.autograd.grad(said.sum(), x, create_graph=True)
        error = (said.double() - energy[pick]) / config.atoms
        loss = energy_weight * error.square().mean()
        loss = loss + force_weight * (slope + forces[pick].float()).square().mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if not bool(torch.isfinite(loss)):
            raise GuardError(f"training: the loss is not finite at step {step}", step)
        optimiser.step()
        keep = min(settings.average, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(
                list(average.parameters()), list(module.parameters()), 1 - keep
            )
    return average.double().eval().requires_grad_(False)


def potential_of(module: Any) -> Potential:
    """Return a trained module as a potential of molecular dynamics."""
    if isinstance(module, WholeBoxPotential):
        return BoxPotential(module)
    return LearnedPotential(module)


def errors_of(module: Any, frames: Sequence[LabelledFrame]) -> tuple[float, float]:
    """Return the root mean square errors: force (eV/angstrom), energy (eV/atom)."""
    if not isinstance(module, WholeBoxPotential):
        data = TrainingSet.of(frames, tuple(module.species), module.cutoff, torch.float64)
        errors = evaluate(module, data, range(len(frames)))
        return errors.force_rmse, errors.energy_rmse
    positions, energy, forces = _tensors(frames)
    with torch.enable_grad():
        x = positions.requires_grad_()
        said = module(x)
        (slope,) = torch.autograd.grad(said.sum(), x)
    off = (said.detach() - energy) / module.config.atoms
    wrong = (slope + forces).square().mean().sqrt()
    return float(wrong), float(off.square().mean().sqrt())


def rotation_error(module: Any, frames: Sequence[LabelledFrame], seed: int = 0) -> float:
    """Return the rms of ``F(R x) - R F(x)`` over frames and rotations, eV/angstrom."""
    potential, total, count = potential_of(module), 0.0, 0
    turns = random_rotations(len(frames), generator(seed, 31))
    for frame, turn in zip(frames, turns, strict=True):
        pair = []
        for r in (torch.eye(3, dtype=torch.float64), turn):
            atoms = Atoms(
                frame.symbols, frame.positions @ r.T.numpy(), cell=frame.cell @ r.T.numpy(),
                pbc=True,
            )  # fmt: skip
            state = from_atoms(atoms, potential.species)
            world = MolecularDynamics(potential, Verlet(), state, 1.0)
            pair.append(world.init().forces)
        total += float((pair[1] - pair[0] @ turn.T).square().sum())
        count += pair[0].numel()
    return math.sqrt(total / count)


# -- constant energy -----------------------------------------------------------------------


@dataclass(frozen=True)
class Conservation:
    """Runs at constant energy.

    Attributes:
        time_steps: fs.
        picoseconds: length of each run.
        temperature: of the initial momenta, kelvin; half of it stays as heat.
        replicas: runs from different momenta; the drift is their root mean square.
    """

    time_steps: tuple[float, ...] = (0.5, 1.0, 2.0)
    picoseconds: float = 2.0
    temperature: float = 1200.0
    replicas: int = 4

    def energies(self, potential: Potential, dt: float, seed: int) -> Tensor:
        """Return the total energy ``[steps, replicas]``, eV/atom; NaN if it explodes."""
        systems = [_shaken(potential, seed + k) for k in range(self.replicas)]
        world = MolecularDynamics(
            potential, Verlet(), concatenate(systems), dt, (self.temperature,)
        )
        steps = round(1000 * self.picoseconds / dt)
        try:
            return total_energy(world, steps) / len(crystal())
        except GuardError:
            return torch.full((steps, self.replicas), math.nan, dtype=torch.float64)

    def drift(self, energy: Tensor, dt: float) -> float:
        """Return the rms over replicas of the drift, eV/atom/ps."""
        drifts = [drift_and_fluctuation(column, dt)[0] for column in energy.T]
        return math.sqrt(sum(d * d for d in drifts) / len(drifts))

    def swaps(self, potential: Potential, dt: float, seed: int, steps: int) -> Tensor:
        """Return, ``[steps]``, in how many atoms the two nearest neighbours changed.

        The run is that of the first replica.
        """
        state = _shaken(potential, seed)
        world = MolecularDynamics(potential, Verlet(), state, dt, (self.temperature,))
        state, before, counts = world.init(), None, []
        for _ in range(steps):
            state = world.step(state)
            now = _two_nearest(state)
            changed = 0 if before is None else int((now != before).any(1).sum())
            counts.append(changed)
            before = now
        return torch.tensor(counts)


def _shaken(potential: Potential, seed: int) -> ParticleState:
    """Return the crystal, a little disordered: on its sites neighbours are equally near."""
    atoms = crystal()
    noise = torch.randn(len(atoms), 3, generator=generator(seed, 33), dtype=torch.float64)
    atoms.positions += 0.05 * noise.numpy()
    return from_atoms(atoms, potential.species, seed=seed)


def _two_nearest(state: ParticleState) -> Tensor:
    """Return the nearest and the second nearest image of each atom, ``[atoms, 2]``."""
    grid = torch.cartesian_prod(*(torch.arange(-1, 2),) * 3).double()
    wrapped = state.positions
    there = wrapped[None] + (grid @ state.cell[0])[:, None]
    distance = (there[:, None] - wrapped[None, :, None]).norm(dim=-1)
    flat = distance.permute(1, 0, 2).flatten(1)
    flat = torch.where(flat < 1e-9, torch.inf, flat)
    return flat.topk(2, largest=False).indices


# -- the job -------------------------------------------------------------------------------


@dataclass(frozen=True)
class SymmetryStudy:
    """Trains every form on growing parts of the data, then measures what it keeps.

    Attributes:
        forms: compared.
        sizes: numbers of training frames, growing.
        temperatures: of the data, kelvin.
        test: frames of the test set.
        settings: of every training.
        conservation: the runs at constant energy.
        seed: of the data and of all trainings.
    """

    forms: Sequence[Form]
    sizes: Sequence[int]
    temperatures: Sequence[float]
    test: int
    settings: Settings
    conservation: Conservation
    seed: int = 1

    def run(self, folder: Any, report: Any) -> Outcome:
        """Do everything; trained models of an interrupted run are used again."""
        start("cpu")
        train_frames, test_frames = self._data()
        report.say(f"{len(train_frames)} frames to train on, {len(test_frames)} to test")
        errors = np.full((2, len(self.forms), len(self.sizes)), np.nan)
        done, total = 0, len(self.forms) * len(self.sizes)
        last: dict[str, Any] = {}
        with interruptible() as asked:
            for row, form in enumerate(self.forms):
                for column, size in enumerate(self.sizes):
                    module = self._module(form, train_frames[:size], folder.path)
                    errors[:, row, column] = errors_of(module, test_frames)
                    last[form.key], done = module, done + 1
                    said = {form.name: f"{size}", "F": f"{errors[0, row, column]:.3f} eV/A"}
                    report.progress(done, total, said)
                    force, energy = errors[:, row, column].tolist()
                    folder.log(
                        kind="trained", form=form.key, frames=size, force=force,
                        energy=energy,
                    )  # fmt: skip
                    if asked.is_set():
                        raise Interrupted(f"stopped after {done} trainings; engine resume")
        self._write_errors(folder, errors)
        figures = self._error_figures(errors)
        turned = {f.name: rotation_error(last[f.key], test_frames[:24]) for f in self.forms}
        for form in self.forms:
            name = f"rotation_error_{form.key}"
            figures[name] = Figure(turned[form.name], "eV/angstrom")
        figures |= self._conserve(folder, report, last)
        return Outcome(figures, self._checks(figures))

    def _data(self) -> tuple[list[LabelledFrame], list[LabelledFrame]]:
        kinds = len(self.temperatures)
        each = -(-max(self.sizes) // kinds), -(-self.test // kinds)
        first = label_frames(self.temperatures, each[0], 40, self.seed)
        second = label_frames(self.temperatures, each[1], 40, self.seed + 1000)
        return first, second

    def _module(self, form: Form, frames: Sequence[LabelledFrame], place: Path) -> Any:
        path = place / "models" / f"{form.key}_{len(frames)}.safetensors"
        if path.exists() and path.with_suffix(".json").exists():
            return load_module(path)[0]
        path.parent.mkdir(exist_ok=True)
        module = train(form, frames, self.settings)
        save_module(path, module, {"frames": len(frames)})
        return module

    def _write_errors(self, folder: Any, errors: np.ndarray) -> None:
        group = folder.store.require_group("errors")
        group.attrs.update({"title": "Error on frames never seen", "plot": "loglog"})
        names = [form.name for form in self.forms]
        write_array(group, "frames", np.array(self.sizes), "", "training frames")
        for name, values, unit in (
            ("force", errors[0], "eV/angstrom"),
            ("energy", errors[1], "eV/atom"),
        ):
            about = {"axes": ["model", "frames"], "labels": names}
            write_array(group, name, values, unit, f"{name} error", **about)

    def _error_figures(self, errors: np.ndarray) -> dict[str, Figure]:
        found, largest = {}, self.sizes[-1]
        for row, form in enumerate(self.forms):
            note = f"{largest} frames"
            found[f"force_error_{form.key}"] = Figure(
                errors[0, row, -1], "eV/angstrom", note=note
            )
            found[f"energy_error_{form.key}"] = Figure(
                errors[1, row, -1], "eV/atom", note=note
            )
        return found

    def _conserve(
        self, folder: Any, report: Any, modules: Mapping[str, Any]
    ) -> dict[str, Figure]:
        runs, seed = self.conservation, self.seed + 77
        group = folder.store.require_group("conservation")
        group.attrs.update({"title": "Energy at constant energy", "plot": "hidden"})
        figures = {}
        names = [form.name for form in self.forms]
        drifts = np.full((len(self.forms), len(runs.time_steps)), np.nan)
        for column, dt in enumerate(runs.time_steps):
            rows = []
            for row, form in enumerate(self.forms):
                energy = runs.energies(potential_of(modules[form.key]), dt, seed)
                drifts[row, column] = runs.drift(energy, dt)
                rows.append((energy[:, 0] - energy[0, 0]).numpy())
                name = f"drift_{form.key}_{dt:g}fs"
                figures[name] = Figure(drifts[row, column], "eV/atom/ps")
                report.say(f"{form.name}, {dt:g} fs: {drifts[row, column]:.2e} eV/atom/ps")
            about = {"labels": names, "dt_fs": dt}
            write_array(group, f"energy_{dt:g}fs", np.stack(rows), "eV/atom", **about)
        about = {"labels": names, "time_steps": list(runs.time_steps)}
        write_array(group, "drift", drifts, "eV/atom/ps", **about)
        figures |= self._swaps(group, modules, seed)
        return figures

    def _swaps(
        self, group: Any, modules: Mapping[str, Any], seed: int
    ) -> dict[str, Figure]:
        """Follow the neighbours' order in the local frame's run at the shortest step."""
        local = [form for form in self.forms if form.key == "local_frame"]
        if not local:
            return {}
        runs, dt = self.conservation, self.conservation.time_steps[0]
        steps = min(round(200 / dt), round(1000 * runs.picoseconds / dt))
        count = runs.swaps(potential_of(modules["local_frame"]), dt, seed, steps)
        words = "atoms whose two nearest neighbours changed"
        write_array(group, "swaps", count, "", words, dt_fs=dt)
        row = list(self.forms).index(local[0])
        energy = torch.from_numpy(np.asarray(group[f"energy_{dt:g}fs"])[row, :steps])
        change = (energy[1:] - energy[:-1]).abs()
        at = count[1:] > 0
        if not bool(at.any()) or bool(at.all()):
            return {}
        ratio = float(change[at].mean() / change[~at].mean())
        note = f"{int(at.sum())} of {len(at)} steps had a swap"
        return {"energy_change_at_swaps_over_elsewhere": Figure(ratio, "", note=note)}

    def _checks(self, figures: Mapping[str, Figure]) -> list[Check]:
        """Check the argument: symmetry gains accuracy, smoothness conserves energy."""
        keys, checks = {form.key for form in self.forms}, []
        if {"no_symmetry", "smooth_deep_potential"} <= keys:
            bare = figures["force_error_no_symmetry"].value
            full = figures["force_error_smooth_deep_potential"].value
            note = "force error of the smooth Deep Potential; bound: without symmetry"
            checks.append(
                Check("symmetry gains accuracy", "accuracy", full, bare, False,
                      "eV/angstrom", note)
            )  # fmt: skip
        if {"local_frame", "smooth_deep_potential"} <= keys:
            dt = f"{self.conservation.time_steps[0]:g}fs"
            rough = figures[f"drift_local_frame_{dt}"].value
            smooth = figures[f"drift_smooth_deep_potential_{dt}"].value
            note = "drift of the smooth Deep Potential; bound: that of the local frame"
            checks.append(
                Check("smoothness conserves energy", "accuracy", smooth, rough, False,
                      "eV/atom/ps", note)
            )  # fmt: skip
        return checks


def assemble(scenario: SymmetryScenario, base: Path) -> Job:
    """Return the job of the study.

    Raises:
        InputError: numbers that do not belong to the species.
    """
    del base
    runs = scenario.conservation
    return SymmetryStudy(
        [_form(each) for each in scenario.models], scenario.sizes, scenario.temperatures,
        scenario.test,
        Settings(
            steps=scenario.steps, batch=scenario.batch, loss=PlainLoss(),
            learning_rate=scenario.learning_rate, weight_decay=scenario.weight_decay,
            average=0.99, validation=0.0, seed=scenario.seed,
        ),
        Conservation(runs.time_steps, runs.picoseconds, runs.temperature, runs.replicas),
        scenario.seed,
    )  # fmt: skip


def _form(section: ComparedModel) -> Form:
    match section.model:
        case NoSymmetrySection():
            box = crystal()
            x, y, z = (float(length) for length in box.cell.lengths())
            config = WholeBox((ELEMENT,), len(box), (x, y, z), section.model.hidden)
            return Form(section.name, config)
        case form:
            augment = not getattr(form, "invariant", True)
            return Form(section.name, with_species(form, (ELEMENT,)), augment=augment)


__all__ = [
    "BoxPotential",
    "Conservation",
    "Form",
    "SymmetryStudy",
    "assemble",
    "crystal",
    "errors_of",
    "label_frames",
    "potential_of",
    "rotation_error",
    "train",
]
