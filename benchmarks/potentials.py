"""Learned potentials: errors on the test sets, and the cost of training.

Other tables call :func:`test_errors` (shipped weights), :func:`train` (a whole training)
and :func:`step_seconds` (one step of DeePMD-kit's default network).
"""

import itertools
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import bonds  # noqa: E402
import deepmd  # noqa: E402
import equivariant  # noqa: E402
import water  # noqa: E402

SCENARIOS = ROOT / "scenarios"

SETS = {
    "si": ("silicon_expansion", "silicon_fit"),
    "mo": ("molybdenum_expansion", "molybdenum_fit"),
    "water": ("water", "water_train"),
}
GOALS = {
    "si_force_rmse": 0.088,
    "si_energy_rmse": 0.0027,
    "si_elastic_error": 0.08,
    "mo_force_rmse": 0.150,
    "mo_energy_rmse": 0.0040,
    "mo_elastic_error": 0.08,
    "si_shipped_us_per_atom": 25.0,
    "mo_shipped_us_per_atom": 25.0,
    "water_force_rmse": 0.040,
    "water_rdf_error": 0.1,
    "water_adf_error": 0.05,
    "npt_lattice_error": 0.003,
    "water_blocked_vs_deepmd_force_ratio": 0.6,
    "water_blocked_vs_deepmd_energy_ratio": 1.0,
}
MACE_RACES = {"si_vs_mace": ("si", None), "mo_vs_mace": ("mo", None),
              "si_vs_mace_15min": ("si", 900.0)}  # fmt: skip
"""Races with MACE: figure -> set, and the CPU seconds that it has; as many as ours took
where none are said."""
DEEPMD_RACES = {
    "water_blocked_vs_deepmd": (None, deepmd.STOPS),
    "water_blocked_vs_deepmd_20min": (1200.0, deepmd.STOPS[1:]),
}
"""Races with DeePMD-kit on water in blocks of time: figure -> the CPU seconds that it has,
as many as ours took where none are said, and the last learning rates that it tries."""
PUBLISHED_RACE = "water_blocked_vs_deepmd_long"
"""The race with its published schedule."""
BATHS = {
    "silicon_melt": ["run.steps=12000", "output.average_from=4000"],
    "silicon_vacancies": ["run.steps=12000"],
    "silicon_sw": ["run.steps=16000"],
    "silicon_npt": ["run.steps=20000"],
    "water_nvt": ["run.steps=40000"],
}
"""All shipped scenarios with a bath, and steps enough for an error of a few per cent. Those
that are heated count from when the bath has its last temperature, the melt from when it has
taken up its heat of fusion."""
WATER_SEEDS = 5
"""Runs of ``water_nvt`` that are taken together."""
LOOK = 5
"""Steps between looks at a committee's deviation in the shipped runs of silicon."""
SMALL = ["model.neurons=[16, 32, 64]", "model.axis=8", "model.fitting=[64, 64]"]
TABLE: dict[str, dict[str, list[str]]] = {
    "higher_moments": {"si": ["steps=3000"], "mo": ["steps=3000"], "water": ["steps=2000"]},
    "smooth_edition": {
        "si": ["steps=1500", *SMALL],
        "mo": ["steps=1500", *SMALL],
        "water": ["steps=1000"],
    },
    "behler_parrinello": {
        "si": ["steps=1500"],
        "mo": ["steps=1500"],
        "water": ["steps=1000"],
    },
    "local_frame": {"si": ["steps=2000"], "mo": ["steps=2000"], "water": ["steps=1000"]},
    "unconstrained": {"si": ["steps=2000"], "mo": ["steps=2000"], "water": ["steps=1000"]},
}
"""What the table trains: form -> set -> settings of the set's scenario."""
LADDER = {"small": (7, 7, 5), "medium": (10, 10, 7, 5), "large": (13, 13, 10, 8)}
"""Degrees of linear potentials that cost less than the shipped one and err more."""
DEEPMD_STEPS_TO_40 = 100_000
"""Steps after which DeePMD-kit's default water network has 40 meV/angstrom on its
validation set: the learning curve in deepmd-kit's pull request 529."""


def test_errors(key: str) -> dict[str, Any]:
    """Errors of the shipped weights on the test set: RMSE and 95 % bootstrap intervals.

    Args:
        key: ``si``, ``mo`` or ``water``.

    Returns:
        ``force_rmse`` (eV/angstrom), ``energy_rmse`` (eV/atom), their intervals, the number
        of frames, the CPU seconds of the training and its card.
    """
    errors, loaded, card = _shipped_errors(key)
    interval = errors.interval()
    return {
        "force_rmse": errors.force_rmse,
        "energy_rmse": errors.energy_rmse,
        "force_interval": interval["force"],
        "energy_interval": interval["energy"],
        "frames": errors.energy.shape[1],
        "cpu_seconds": card["figures"]["cpu_seconds"]["value"],
        "members": loaded.members,
        "elastic_error": card["figures"].get("elastic_error", {}).get("value"),
        "elastic": "; ".join(
            f"{each} {card['figures'][each]['value']:.1f} GPa "
            f"({card['figures'][each]['note']})"
            for each in ("C11", "C12", "C44", "C_prime", "bulk_modulus")
            if each in card["figures"]
        ),
    }


def _shipped_errors(key: str) -> tuple[Any, Any, dict[str, Any]]:
    """Return the errors of shipped weights on the test set, the potential and its card."""
    from scalebridge.engine import runtime
    from scalebridge.engine.learn.trainers.testing import model_errors
    from scalebridge.models.card import load_module

    module, card = load_module(SCENARIOS / "models" / SETS[key][0])
    runtime.start("cpu")
    loaded: Any = module.double()
    return model_errors(loaded, _frames(key)[1])[0], loaded, card


def train(recipe: str, *settings: str) -> dict[str, Any]:
    """Run a scenario in a process of its own, one thread.

    Returns:
        The figures of ``summary.json``: name -> {value, unit, error, note}.
    """
    with _finished(recipe, *settings) as out:
        return json.loads((out / "summary.json").read_text())["figures"]


@contextmanager
def _finished(recipe: str, *settings: str) -> Iterator[Path]:
    """Run a scenario in a process of its own, one thread; its folder, for a while."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [str(Path(sys.executable).parent / "engine"), "run", recipe]
        command += ["--out", str(out), "--no-strict", "--no-report"]
        for setting in settings:
            command += ["--set", setting]
        one = {name: "1" for name in ("OMP_NUM_THREADS", "SCALEBRIDGE_THREADS")}
        subprocess.run(
            command, check=True, env=os.environ | one, capture_output=True, text=True
        )
        yield out


def step_seconds(
    precision: str = "f64", threads: int = 2, form: str = "smooth", repeats: int = 40
) -> float:
    """Wall time of one training step on one frame of 192 atoms of water, best of several.

    Args:
        precision: ``f64`` as DeePMD-kit's default, or ``f32``.
        threads: CPU threads.
        form: ``smooth`` (se_e2_a 25-50-100, 240-240-240, 6 angstrom, Adam, prefactors) or
            ``higher`` (the default potential with its own recipe).
        repeats: timed steps.
    """
    from scalebridge.engine import runtime, scenario
    from scalebridge.engine.learn.trainers.potential import (
        PlainLoss,
        PrefactorLoss,
        Settings,
        Training,
    )
    from scalebridge.engine.learn.trainers.tables import TrainingSet
    from scalebridge.engine.md.data import read_frames
    from scalebridge.engine.schema.base import locate
    from scalebridge.models.potentials.deep_potential import HigherMoments, SmoothEdition

    chosen, base = scenario.load("water_train")
    frames = read_frames(locate(chosen.data[0], base))[:4]  # type: ignore[attr-defined]
    runtime.start("cpu")
    torch.set_num_threads(threads)
    species = ("H", "O")
    smooth = form == "smooth"
    config = SmoothEdition(species) if smooth else HigherMoments(species, 6.0, members=1)
    settings = Settings(
        steps=100_000,
        batch=1,
        optimiser="adam" if smooth else "soap",
        loss=PrefactorLoss() if smooth else PlainLoss(),
        precision=runtime.dtype_of(precision),
    )
    data = TrainingSet.of(frames, species, config.cutoff)
    training = Training.start(config.build(1), data, [0, 1, 2, 3], [], settings)
    training.run(12)
    best = float("inf")
    for _ in range(repeats):
        begun = time.perf_counter()
        training.run(1)
        best = min(best, time.perf_counter() - begun)
    return best


def inference_microseconds(kind: str) -> float:
    """Energy, forces and virial of 512 silicon atoms by an untrained network, per atom."""
    from ase.build import bulk

    from scalebridge.models.potentials import POTENTIALS

    form = POTENTIALS[kind](species=("Si",), cutoff=5.0, members=1)
    atoms = bulk("Si", cubic=True) * (4, 4, 4)
    atoms.rattle(0.1, seed=1)
    return _microseconds(form.build(1).double(), atoms)[0]


def shipped_microseconds(key: str) -> tuple[float, float, int]:
    """The same of shipped weights, on copies of a test frame.

    Returns:
        With the committee's deviation, without it, and the number of atoms.
    """
    from ase import Atoms

    from scalebridge.engine import scenario
    from scalebridge.engine.md.data import read_frames
    from scalebridge.engine.schema.base import locate
    from scalebridge.models.card import load_module

    name, recipe = SETS[key]
    chosen, base = scenario.load(recipe)
    paths = chosen.test if isinstance(chosen.test, tuple) else (chosen.test,)  # type: ignore[attr-defined]
    frame = read_frames(locate(paths[0], base))[0]
    atoms = Atoms(frame.symbols, frame.positions, cell=frame.cell, pbc=True)
    atoms = atoms.repeat(math.ceil((500 / len(atoms)) ** (1 / 3)))
    module, _ = load_module(SCENARIOS / "models" / name)
    return *_microseconds(module.double(), atoms), len(atoms)


def _microseconds(module: Any, atoms: Any, repeats: int = 20) -> tuple[float, float]:
    """CPU time, as molecular dynamics evaluates it: f64, a skin of 0.5 angstrom.

    Returns:
        Of everything, and of the forces alone where the potential has them.
    """
    from scalebridge.engine import runtime
    from scalebridge.engine.md.compressed import fast
    from scalebridge.engine.md.learned import LearnedPotential
    from scalebridge.engine.md.neighbours import build_neighbours
    from scalebridge.engine.md.structure import from_atoms

    state = from_atoms(atoms, tuple(module.species))
    runtime.start("cpu")
    torch.set_num_threads(1)
    potential = fast(LearnedPotential(module), state)
    neighbours = build_neighbours(state, potential.cutoff, 0.5)
    best = {}
    for name in ("__call__", "forces"):
        evaluate = getattr(potential, name, potential)
        best[name] = float("inf")
        for _ in range(repeats):
            begun = time.process_time()
            evaluate(state, neighbours)
            best[name] = min(best[name], time.process_time() - begun)
    return 1e6 * best["__call__"] / len(atoms), 1e6 * best["forces"] / len(atoms)


def _record_table(record: Any) -> None:
    """Accuracy of every form, one network each; its cost is ``KIND_us_per_atom``."""
    for kind, sets in TABLE.items():
        for key, settings in sets.items():
            name = f"{key}_{kind}_force_rmse"
            if not record.wants(name):
                continue
            found = train(SETS[key][1], *_settings(kind, settings))
            energy = 1e3 * found["test_energy_rmse"]["value"]
            record(
                name, found["test_force_rmse"]["value"], "eV/angstrom",
                note=f"energy {energy:.2f} meV/atom, "
                f"{found['cpu_seconds']['value'] / 60:.1f} CPU minutes",
            )  # fmt: skip


def _record_ladder(record: Any) -> None:
    """Error over cost of linear potentials, by the recipe of the shipped one."""
    from ase.build import bulk

    from scalebridge.models.card import load_module
    from scalebridge.models.potentials.cluster_expansion import ClusterExpansion

    cutoff = load_module(SCENARIOS / "models" / "silicon_expansion")[0].cutoff
    atoms = bulk("Si", cubic=True) * (4, 4, 4)
    atoms.rattle(0.1, seed=1)
    for size, degrees in LADDER.items():
        name = f"si_linear_{size}_force_rmse"
        if not record.wants(name):
            continue
        settings = (
            f"model.network.degrees={list(degrees)}",
            f"model.network.cutoff={cutoff}",
        )
        found = train("silicon_fit", *settings)
        form = ClusterExpansion(("Si",), cutoff=cutoff, degrees=degrees)
        module = form.build().double()
        torch.nn.init.normal_(module.weights)
        whole, alone = _microseconds(module, atoms)
        energy = 1e3 * found["test_energy_rmse"]["value"]
        record(
            name, found["test_force_rmse"]["value"], "eV/angstrom",
            note=f"{found['parameters']['value']:.0f} parameters; energy {energy:.2f} "
            f"meV/atom; {alone:.1f} us per atom of 512, {whole:.1f} with the deviation; "
            f"{found['cpu_seconds']['value']:.0f} CPU seconds of training",
        )  # fmt: skip


def _settings(kind: str, settings: list[str]) -> list[str]:
    """One network of a kind in place of the scenario's own model."""
    model = [each for each in settings if each.startswith("model.")]
    keys = [f'kind="{kind}"', "members=1", *(each.removeprefix("model.") for each in model)]
    others = [each for each in settings if each not in model]
    return [f"model={{{', '.join(keys)}}}", *others]


def _record_costs(record: Any) -> None:
    """Cost of an evaluation: every form untrained, and the shipped weights."""
    for kind in TABLE:
        if record.wants(f"{kind}_us_per_atom"):
            record(
                f"{kind}_us_per_atom", inference_microseconds(kind), "us",
                note="512 atoms of silicon, one network, as molecular dynamics evaluates "
                "it, f64, kernels on SCALEBRIDGE_THREADS, torch on one",
            )  # fmt: skip
    for key, (name, _) in SETS.items():
        figure = f"{key}_shipped_us_per_atom"
        if record.wants(figure) and (SCENARIOS / "models" / f"{name}.json").exists():
            whole, alone, atoms = shipped_microseconds(key)
            record(
                figure, alone + (whole - alone) / LOOK, "us", goal=GOALS.get(figure),
                better="lower",
                note=f"{atoms} atoms, shipped committee, f64; forces of its mean at every "
                f"step {alone:.1f}, with the deviation {whole:.1f}, which is evaluated "
                f"where it is looked at: here every {LOOK} steps, as in silicon_vacancies",
            )  # fmt: skip


def record_shipped(record: Any) -> None:
    """Record the errors of the shipped weights; sets that are not here are left out."""
    from scalebridge.engine.errors import InputError

    for key in SETS:
        figures = [f"{key}_force_rmse", f"{key}_energy_rmse"]
        if not record.wants(*figures):
            continue
        try:
            found = test_errors(key)
        except InputError as error:
            print(f"{key}: not measured: {error}")
            continue
        for figure in figures:
            _record_error(record, figure, found)
        if found["elastic_error"] is not None:
            name = f"{key}_elastic_error"
            record(
                name, found["elastic_error"], "", goal=GOALS[name], better="lower",
                note="worst of C11, C12, C44, C', atoms in place, on the set's strained "
                f"crystals; {found['elastic']}",
            )  # fmt: skip


def record_training(record: Any) -> None:
    """Record the time of a training step and, with the peer, what training costs there."""
    if record.wants("dp_train_vs_deepmd", "water_cpu_ratio", "dp_train_step_f32"):
        _record_training(record)


def record_relaxed(record: Any) -> None:
    """Record C44 of shipped silicon with its atoms relaxed, for which there is no label."""
    if record.wants("si_c44_relaxed"):
        found = train("silicon_elastic")
        record(
            "si_c44_relaxed", found["C44"]["value"], "GPa",
            note=f"atoms relaxed; in place {found['C44_unrelaxed']['value']:.1f}; lattice "
            f"constant {found['lattice_constant']['value']:.4f} angstrom",
        )  # fmt: skip


def record_fluctuations(record: Any) -> None:
    """Record the worst fluctuation of the temperature of the shipped runs with a bath."""
    if not record.wants("canonical_fluctuation"):
        return
    rows = {}
    for name, settings in BATHS.items():
        found = train(name, *settings)["temperature_fluctuation"]
        rows[name] = (abs(found["value"] - 1.0), found["value"], found["error"])
    worst = max(rows.values())
    record(
        "canonical_fluctuation", worst[0], "", goal=0.1, better="lower",
        note="largest distance from 1 of the temperature's standard deviation over the "
        "canonical one; "
        + "; ".join(f"{n}, {' '.join(BATHS[n])}: {v:.3f} +- {e:.3f}"
                    for n, (_, v, e) in rows.items()),
    )  # fmt: skip


def record_water(record: Any, seeds: int) -> None:
    """Record how far shipped water's distributions are from those of its labels.

    Runs of several seeds are taken together; what is known is recorded after each.
    """
    if not record.wants("water_rdf_error", "water_adf_error"):
        return
    runs = []
    for seed in range(1, seeds + 1):
        with _finished("water_nvt", f"seed={seed}") as out:
            runs.append(water.stored(out))
        _record_water(record, water.curves(runs))


def _record_water(record: Any, curves: list[water.Curve]) -> None:
    """Record the worst departure of the radial distributions, and the area of angles."""
    from scalebridge.engine.comparison import rank

    radial = [curve for curve in curves if curve.name.startswith("rdf")]
    far = max(radial, key=lambda curve: rank(curve.departure().value)).departure()
    by_name = {curve.name: curve for curve in curves}
    angles = by_name["adf OOO"]
    runs = len(angles.found)
    each = [max(c.departure(run).value for c in radial) for run in range(runs)]
    record(
        "water_rdf_error", far.value, "", goal=GOALS["water_rdf_error"],
        better="lower", spread=(min(each), max(each)),
        note=f"largest difference from the labels' own, beyond two standard errors, of the "
        f"mean of {runs} runs; spread: of single ones; "
        + "; ".join(f"{c.name[4:]} {c.departure().note}" for c in radial)
        + f"; areas: {', '.join(f'{c.name[4:]} {c.area:.3f}' for c in radial)}; bond: "
        + by_name["rdf HO"].peak(water.BONDED),
    )  # fmt: skip
    record(
        "water_adf_error", angles.area, "", goal=GOALS["water_adf_error"], better="lower",
        spread=(min(angles.areas), max(angles.areas)),
        note="area between the distribution of angles O-O-O and that of the labels, of the "
        f"mean of {runs} runs; spread: of single ones; two samples of one distribution "
        f"with these errors would differ by {angles.noise:.3f}",
    )  # fmt: skip


def record_bonds(record: Any) -> None:
    """Record the bias of shipped water along its bonds, and what its labels say of them."""
    if not record.wants("water_bond_bias", "water_bond_temperature"):
        return
    test = _frames("water")[1]
    errors = _shipped_errors("water")[0].forces[-1].numpy().reshape(len(test), -1, 3)
    own = bonds.Bonds.of(test, [frame.forces for frame in test])
    off = bonds.Bonds.of(test, errors).force
    record(
        "water_bond_bias", float(off.mean()), "eV/angstrom",
        spread=tuple(off.mean() + np.array([-2, 2]) * off.mean(1).std() / len(off) ** 0.5),
        note=f"mean error of the force along O-H on {len(test)} test frames, two standard "
        f"errors beside; rms {off.std():.3f}; labels fall by {own.stiffness():.0f} "
        "eV/angstrom^2, so a bond longer by half a thousandth of an angstrom would take "
        f"{5e-4 * own.stiffness():.3f}",
    )  # fmt: skip
    frames = [frame for part in _blocks() for frame in part]
    labelled = bonds.Bonds.of(frames, [frame.forces for frame in frames])
    value, error = labelled.temperature(8)
    energy = [1e3 * frame.energy / len(frame.symbols) for frame in frames]
    drift = [part.mean() - np.mean(energy) for part in np.array_split(energy, 10)]
    length = [1e3 * part.mean() for part in np.array_split(labelled.length, 10)]
    record(
        "water_bond_temperature", value, "K", spread=(value - 2 * error, value + 2 * error),
        note=f"of the lengths of O-H in {len(frames)} labelled frames by the labels' "
        "forces, two standard errors beside; the trajectory ran at 330 K; tenths of it "
        f"differ from its mean by {min(drift):.1f} to {max(drift):.1f} meV/atom, the mean "
        f"length lies between {min(length):.2f} and {max(length):.2f} thousandths of an "
        "angstrom",
    )  # fmt: skip


def record_blocks(record: Any) -> None:
    """Record water's errors on the last fifth of its trajectory, behind a gap.

    Where DeePMD-kit is installed it trains on the same frames: for as many CPU seconds, for
    more, and by its published schedule.
    """
    own = [f"water_blocked_{kind}_rmse" for kind in ("force", "energy")]
    races = {
        race: [f"{race}_{kind}_ratio" for kind in ("force", "energy")]
        for race in (*DEEPMD_RACES, PUBLISHED_RACE)
    }
    if not record.wants(*own, *itertools.chain(*races.values())):
        return
    parts = _blocks()
    with tempfile.TemporaryDirectory() as folder:
        first, last = (Path(folder) / name for name in ("first.extxyz", "last.extxyz"))
        for path, frames in zip((first, last), parts, strict=True):
            _write(path, frames)
        found = train("water_train", f'data="{first}"', f'test="{last}"')
    seconds = found["cpu_seconds"]["value"]
    figures = [found[f"test_{kind}_rmse"] for kind in ("force", "energy")]
    for name, unit, figure in zip(own, ("eV/angstrom", "eV/atom"), figures, strict=True):
        record(
            name, figure["value"], unit,
            note=f"trained on the first 300 frames in time, tested on the last 80, 20 "
            f"between them left out; {figure['note']}; {seconds:.0f} CPU seconds",
        )  # fmt: skip
    for race, names in races.items():
        if not record.wants(*names):
            continue
        if lacking := _lacking(race):
            print(f"{race}: not measured: {lacking}")
            continue
        for theirs, schedule in _deepmd_runs(race, parts, seconds):
            _record_deepmd(record, names, figures, seconds, theirs, schedule)


def _lacking(race: str) -> str:
    """Say what a race with DeePMD-kit lacks; nothing where it can be run."""
    if not deepmd.PEER.installed():
        return "DeePMD-kit is not installed (benchmarks/peers.py deepmd)"
    if race == PUBLISHED_RACE and not deepmd.HOURS:
        return "SCALEBRIDGE_DEEPMD_HOURS gives it no time"
    return ""


def _deepmd_runs(
    race: str, parts: tuple[list[Any], list[Any]], seconds: float
) -> Iterator[tuple[deepmd.Trained, str]]:
    """Run DeePMD-kit for a race; yield what it came to so far, and by what schedule."""
    if race != PUBLISHED_RACE:
        given, stops = DEEPMD_RACES[race]
        theirs = deepmd.trained(*parts, given or seconds, stops)
        yield theirs, (
            "starting of the program not counted, its decay of the learning rate scaled to "
            f"end there at {theirs.stop:.3g}, the best of {stops}"
        )  # fmt: skip
        return
    for theirs in deepmd.published(*parts):
        yield theirs, (
            f"starts of the program among them, {theirs.cpu_seconds / 3600:.2f} CPU hours "
            "of the 12 meant; its published schedule broken off at a learning rate of "
            f"{theirs.stop:.3g}; curve: {deepmd.CURVE.name}"
        )  # fmt: skip


def _record_deepmd(
    record: Any,
    names: list[str],
    figures: list[Any],
    seconds: float,
    theirs: deepmd.Trained,
    schedule: str,
) -> None:
    """Record our errors on water's last frames over those of DeePMD-kit."""
    for name, figure, other in zip(names, figures, theirs.errors, strict=True):
        record(
            name, figure["value"] / other, "", goal=GOALS.get(name), better="lower",
            peer={"name": "DeePMD-kit", "version": theirs.version, "value": other},
            note=f"ours {figure['value']:.3g} after {seconds:.0f} CPU seconds; se_e2_a of "
            f"default sizes in f64 after {theirs.steps} steps in {theirs.cpu_seconds:.0f}, "
            f"one thread, {schedule}",
        )  # fmt: skip


def record_mace(record: Any) -> None:
    """Record the errors of shipped linear potentials over those of MACE's small one.

    It trains on the same frames, where it is installed, and is tested on the same ones.
    """
    for race, (key, given) in MACE_RACES.items():
        kinds = {kind: f"{race}_{kind}_ratio" for kind in ("force", "energy")}
        if not record.wants(*kinds.values()):
            continue
        if not equivariant.PEER.installed():
            print(f"{race}: not measured: MACE is not installed (benchmarks/peers.py mace)")
            continue
        own = test_errors(key)
        seconds = own["cpu_seconds"]
        theirs = equivariant.trained(*_frames(key), given or seconds)
        for (kind, name), other in zip(kinds.items(), theirs.errors, strict=True):
            value = own[f"{kind}_rmse"]
            record(
                name, value / other, "", better="lower",
                peer={"name": "MACE", "version": theirs.version, "value": other},
                note=f"ours {value:.3g} after {seconds:.0f} CPU seconds; 64 channels of "
                f"scalar messages, two layers of 5 angstrom, {theirs.parameters} "
                f"parameters, f32, its default loss of energies and forces, after "
                f"{theirs.epochs} epochs, {theirs.steps} steps in "
                f"{theirs.cpu_seconds:.0f}, one thread, starting of the program not "
                "counted, its decay of the learning rate and its second stage scaled to "
                "end there; its own length, some thousand epochs, was not run",
            )  # fmt: skip


def _frames(key: str) -> tuple[list[Any], list[Any]]:
    """Return the frames for training and for the test of a set's shipped potential."""
    from scalebridge.engine import scenario
    from scalebridge.engine.data.reading import read_all
    from scalebridge.engine.schema.base import locate

    chosen, base = scenario.load(SETS[key][1])
    parts: Any = (chosen.data, chosen.test)  # type: ignore[attr-defined]
    each = [part if isinstance(part, tuple) else (part,) for part in parts]
    train, test = (read_all(locate(path, base) for path in part) for part in each)
    return train, test


def _blocks() -> tuple[list[Any], list[Any]]:
    """Return the first 300 and the last 80 frames of water, in time."""
    frames = water.in_time()
    return frames[:300], frames[-80:]


def _write(path: Path, frames: list[Any]) -> None:
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.io import write

    images = []
    for f in frames:
        atoms = Atoms(f.symbols, f.positions, cell=f.cell, pbc=True)
        atoms.calc = SinglePointCalculator(atoms, energy=f.energy, forces=f.forces)
        images.append(atoms)
    write(path, images)


def record_lattice(record: Any) -> None:
    """Record lattice constants at 300 K and no pressure beside those of the labels."""
    if not record.wants("npt_lattice_error"):
        return
    rows = {}
    for key, element, lattice in (("si", "Si", "diamond"), ("mo", "Mo", "bcc")):
        known = _labelled_constant(key, 8 if lattice == "diamond" else 2)
        cells = 2 if lattice == "diamond" else 4
        model = SCENARIOS / "models" / f"{SETS[key][0]}.safetensors"
        found = train(
            "silicon_npt", f'structure.element="{element}"',
            f'structure.lattice="{lattice}"', f"structure.lattice_constant={known}",
            f"structure.repeat=[{cells},{cells},{cells}]",
            f'potential={{kind="deep_potential",model="{model}"}}', "run.steps=4000",
        )["lattice_constant"]  # fmt: skip
        rows[element] = (found["value"] / known - 1, found["value"], known, found["error"])
    record(
        "npt_lattice_error", max(abs(row[0]) for row in rows.values()), "",
        goal=GOALS["npt_lattice_error"], better="lower",
        note="300 K against the strained crystal of the set that has the least stress; "
        + "; ".join(f"{n} {v:.4f} +- {e or math.nan:.4f}, labels {k:.4f} angstrom"
                    for n, (_, v, k, e) in rows.items()),
    )  # fmt: skip


def _labelled_constant(key: str, atoms: int) -> float:
    """Return the lattice constant at which a set's crystal has no stress, angstrom."""
    from scalebridge.engine.md.elasticity import strained_crystals

    frames = _frames(key)[0]
    crystal = strained_crystals(frames)[0]
    least = min(crystal.indices, key=lambda k: abs(frames[k].virial).max())  # type: ignore[arg-type]
    return float((atoms * frames[least].volume / len(frames[least].symbols)) ** (1 / 3))


def measure(quick: bool, record: Any) -> None:
    """Record the errors of the shipped weights, and with peers the cost of training."""
    record_shipped(record)
    record_relaxed(record)
    record_fluctuations(record)
    record_water(record, 1 if quick else WATER_SEEDS)
    record_bonds(record)
    record_blocks(record)
    record_mace(record)
    record_lattice(record)
    record_training(record)
    _record_costs(record)
    _record_ladder(record)
    table = [f"{key}_{kind}_force_rmse" for kind, sets in TABLE.items() for key in sets]
    if not quick and record.wants(*table):
        _record_table(record)
    if not quick and record.wants("si_force_rmse_fresh", "si_energy_rmse_fresh"):
        _record_fresh(record, train("silicon_train"))


def _record_error(record: Any, figure: str, found: Mapping[str, Any]) -> None:
    kind = figure.split("_", 1)[1]
    unit = "eV/angstrom" if kind == "force_rmse" else "eV/atom"
    record(
        figure,
        found[kind],
        unit,
        goal=GOALS.get(figure),
        better="lower",
        spread=found[kind.replace("rmse", "interval")],
        note=f"committee of {found['members']}, {found['frames']} test frames; spread: "
        f"95 % bootstrap interval; {found['cpu_seconds']:.0f} CPU seconds of training",
    )


def _record_training(record: Any) -> None:
    double, single = step_seconds("f64"), step_seconds("f32")
    record("dp_train_step_f64", double, "s", note="192 atoms, 2 threads, se_e2_a")
    record("dp_train_step_f32", single, "s", note="192 atoms, 2 threads, se_e2_a")
    record(
        "dp_train_step_higher", step_seconds("f32", 1, "higher"), "s",
        note="192 atoms, 1 thread, the default potential",
    )  # fmt: skip
    peer = deepmd.step_seconds()
    if peer is None:
        return
    seconds, version = peer
    who = {"name": "DeePMD-kit", "version": version, "value": seconds}
    record(
        "dp_train_vs_deepmd", seconds / single, "", goal=2.0, better="higher", peer=who,
        note=f"ours in f32, as we train by default; in f64 {seconds / double:.2f}; ours "
        "evaluates the embedding networks at Chebyshev points, theirs pair by pair",
    )  # fmt: skip
    if (SCENARIOS / "models" / "water.json").exists():
        found = test_errors("water")
        record(
            "water_cpu_ratio", DEEPMD_STEPS_TO_40 * seconds / found["cpu_seconds"], "",
            goal=5.0, better="higher", peer=who,
            note=f"{DEEPMD_STEPS_TO_40} steps of DeePMD-kit (its published curve to 0.040 "
            f"eV/angstrom) at the wall time measured on two threads, over our CPU seconds "
            f"to {found['force_rmse']:.4f}",
        )  # fmt: skip


def _record_fresh(record: Any, figures: Mapping[str, Any]) -> None:
    seconds = figures["cpu_seconds"]["value"]
    for kind, unit, goal in (
        ("force", "eV/angstrom", 0.12),
        ("energy", "eV/atom", 0.004),
    ):
        found = figures[f"test_{kind}_rmse"]
        record(
            f"si_{kind}_rmse_fresh", found["value"], unit, goal=goal, better="lower",
            note=f"trained here in {seconds:.0f} CPU seconds; {found['note']}",
        )  # fmt: skip
