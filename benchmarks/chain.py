"""From the Schroedinger equation to a shock: the figures of whole runs."""

import json
import math
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import scalebridge as sb
from scalebridge.engine.bench import Recorder
from scalebridge.engine.chain.goal import Window, sensitivities
from scalebridge.engine.chain.properties import Atoms
from scalebridge.engine.gas.collisions.published import PUBLISHED
from scalebridge.models.potentials.pair import BOHR, HARTREE, LearnedPair, PairLabel, Prior

HELIUM = (
    "minutes_default", "potential_wall_error", "potential_well_error", "viscosity_bar",
    "he_viscosity_error", "he_conductivity_error", "he_virial_error", "bar_coverage",
    "thickness_label_bar", "labels_needed", "gradient_difference", "similarity_law",
    "he_pairs_viscosity_error", "he_gradient_over_particles",
    "bar_sharpness",
    *(f"he_{model}_over_dsmc_mach{mach}" for model in ("shakhov", "closure", "nsf")
      for mach in ("2", "3")),
)  # fmt: skip
FULL = ("minutes_full", "minutes_teaching", "full_viscosity_error", "full_viscosity_bar",
        "he_taught_over_dsmc_mach2", "he_taught_over_dsmc_mach3")  # fmt: skip
VMC = ("he_vmc_viscosity_error", "he_vmc_bars")
MACH = ("1.55", "2", "3", "5.5", "9")
"""Of argon's shocks."""
ARGON = (
    "argon_viscosity_error", "argon_pairs_viscosity_error", "argon_closure_stops",
    *(f"argon_{model}_over_dsmc_mach{mach}" for model in ("shakhov", "closure", "nsf")
      for mach in MACH),
)  # fmt: skip
NEON = ("neon_bars", "neon_viscosity_error")


def _run(name: str, folder: Path, *settings: str) -> sb.Outcome:
    return sb.run(name, settings, out=folder / name, strict=False)


def helium(record: Recorder, folder: Path, quick: bool) -> None:
    """Labels computed, not cached; particles at Mach 2 and 3."""
    small = (
        'labels.labeler={kind="published"}', "shock.mach=[2.0]", "shock.cells=60",
        "shock.settling=400", "shock.particles.mach=[2.0]", "shock.particles.steps=320",
    )  # fmt: skip
    outcome = _run("helium_shock", folder, *(small if quick else ()))
    values = {name: figure.value for name, figure in outcome.figures.items()}
    told = json.loads((folder / "helium_shock" / "summary.json").read_text())
    record("minutes_default", told["wall_seconds"] / 60, "min", goal=10.0,
           note="helium_shock, labels computed")  # fmt: skip
    _labels(record, folder / "helium_shock")
    for name, goal in (("viscosity", 3e-3), ("conductivity", 3e-3), ("virial", 0.05)):
        unit = "cm3/mol" if name == "virial" else ""
        found = values[f"{name}_departure"]
        record(f"he_{name}_error", found, unit, goal=goal, note="300 to 1000 K")
    checks = {check.name: check for check in outcome.checks}
    ending = "_within_two_bars"
    ratios = {n.removesuffix(ending): c.value for n, c in checks.items() if ending in n}
    record("bar_coverage", max(ratios.values()), "", goal=2.0,
           note="largest |error| / bar")  # fmt: skip
    sharp = sum(ratio > 0.2 for ratio in ratios.values()) / len(ratios)
    said = ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items())
    record("bar_sharpness", sharp, "", goal=0.5, better="higher",
           note=f"share of errors above a fifth of their bar: {said}")  # fmt: skip
    record("thickness_label_bar", values["thickness_label_bar"], "", goal=3e-3)
    record(
        "labels_needed", values["labels"], "", goal=6.0, note="for 0.3 % of the thickness"
    )
    record("gradient_difference", checks["gradient_difference"].value, "", goal=5e-3)
    record("similarity_law", checks["similarity_law"].value, "", goal=0.01)
    record("he_pairs_viscosity_error", values["pairs_departure"], "", goal=3e-3,
           note="molecular dynamics of colliding pairs against the collision integrals, "
           "classical, first order, 300 and 1000 K")  # fmt: skip
    if "by_wall_particles" in values:
        own = outcome.figures["by_wall_particles"]
        error = (own.error or 0.0) / abs(own.value)
        record("he_gradient_over_particles", values["by_wall"] / own.value, "",
               note=f"d ln(1/thickness) / d ln(wall), adjoint {values['by_wall']:.4f} over "
               f"that of particles, walls 20 % apart, +- {error:.2g}")  # fmt: skip
    for mach in ("2", "3"):
        models = {m: values.get(f"inverse_thickness_at_mach_{mach}_{m}")
                  for m in ("dsmc", "shakhov", "closure", "nsf")}  # fmt: skip
        truth = models["dsmc"]
        for model in ("shakhov", "closure", "nsf"):
            if truth and models[model]:
                record(f"he_{model}_over_dsmc_mach{mach}", models[model] / truth - 1, "",
                       note="inverse thickness, integral measure")  # fmt: skip


def full(record: Recorder, folder: Path, quick: bool) -> None:
    """The closure trained in the run, and eight labels in larger basis sets."""
    if quick:
        return  # the training has no small size
    labeler = '{kind="dimer", basis=["aug-cc-pvtz", "aug-cc-pvqz"]}'
    begun = time.process_time()
    outcome = _run(
        "helium_shock", folder / "full", f"labels.labeler={labeler}",
        "labels.start=[2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 5.6]",
        'shock.closure="closure_3v_train.toml"',
    )  # fmt: skip
    processor = (time.process_time() - begun) / 60
    run = folder / "full" / "helium_shock"
    told = json.loads((run / "summary.json").read_text())
    teaching = json.loads((run / "levels" / "closure.json").read_text())
    values = {name: figure.value for name, figure in outcome.figures.items()}
    record("minutes_full", told["wall_seconds"] / 60, "min",
           note="helium_shock, closure trained in the run, 8 labels by aug-cc-pvtz and "
           f"aug-cc-pvqz; {processor:.1f} min of processor time")  # fmt: skip
    record("minutes_teaching", teaching["seconds"] / 60, "min",
           note="of these, training the closure")  # fmt: skip
    record("full_viscosity_error", values["viscosity_departure"], "", goal=3e-3,
           note="300 to 1000 K")  # fmt: skip
    at = outcome.figures["viscosity"]
    record("full_viscosity_bar", (at.error or 0.0) / at.value, "", note="300 K")
    for mach in ("2", "3"):
        dsmc, taught = (values.get(f"inverse_thickness_at_mach_{mach}_{model}")
                        for model in ("dsmc", "closure"))  # fmt: skip
        if dsmc and taught:
            record(f"he_taught_over_dsmc_mach{mach}", taught / dsmc - 1, "",
                   note="inverse thickness, closure trained in the run")  # fmt: skip


def _labels(record: Recorder, folder: Path) -> None:
    """The potential against the published one, from the labels that the run computed."""
    files = sorted((folder / "levels").glob("label_coarse_*.json"))
    labels = [PairLabel(**json.loads(file.read_text())) for file in files]
    known = PUBLISHED["He"]
    pair = LearnedPair.of(labels, Prior(known.dispersion))
    r = torch.linspace(2.0, 4.0, 81, dtype=torch.float64) * BOHR
    wall = float((pair(r) / known.pair(r) - 1).abs().amax())
    record("potential_wall_error", wall, "", goal=0.01, note="V(r), 2 to 4 bohr")
    r = torch.linspace(5.0, 6.5, 151, dtype=torch.float64) * BOHR
    depth = float(pair(r).amin() / known.pair(r).amin() - 1)
    record("potential_well_error", abs(depth), "", goal=0.01, note="depth of the well")
    window = Window(Atoms("He", known.mass), 300.0, 1000.0)
    t = torch.tensor([300.0, 500.0, 700.0, 1000.0], dtype=torch.float64)
    goals = {
        str(k): (lambda gas, k=k: gas.coefficients(t[k : k + 1]).viscosity[0].log())
        for k in range(len(t))
    }
    found, _ = sensitivities(pair, tuple(labels), window, goals)
    bars = [item.bar for item in found.values()]
    record("viscosity_bar", max(bars), "", goal=3e-3, note="300 to 1000 K")


def argon(record: Recorder, folder: Path, quick: bool) -> None:
    """From the published potential; particles at every Mach number."""
    small = ("shock.mach=[2.0]", "shock.cells=60", "shock.settling=400",
             "shock.particles.mach=[2.0]", "shock.particles.steps=320")  # fmt: skip
    outcome = _run("argon_shock", folder, *(small if quick else ()))
    record_argon(record, outcome.figures)


def record_argon(record: Recorder, figures: Mapping[str, sb.Figure]) -> None:
    """Inverse thickness by the integral measure, and what the models are off by."""
    off = figures["viscosity_departure"].value
    record("argon_viscosity_error", off, "", goal=1e-3, note="300 to 2000 K")
    off = figures["pairs_departure"].value
    record("argon_pairs_viscosity_error", off, "", goal=3e-3,
           note="molecular dynamics of colliding pairs against the collision integrals, "
           "classical, first order, 300 and 2000 K")  # fmt: skip
    asked, got = (
        [m for m in MACH if f"inverse_thickness_at_mach_{m}_{model}" in figures]
        for model in ("shakhov", "closure")
    )
    stops = [m for m in asked if m not in got]
    note = f"of {len(asked)} Mach numbers{': ' if stops else ''}{', '.join(stops)}"
    record("argon_closure_stops", len(stops), "", note=note)
    for name, figure in figures.items():
        if not name.startswith("inverse_thickness_at_mach"):
            continue
        error = f" +- {figure.error:.2g}" if figure.error else ""
        note = f"integral measure{error}"
        record(f"argon_{name}", figure.value, "1/free path", note=note)
        truth = figures.get(f"{name.rsplit('_', 1)[0]}_dsmc")
        mach, model = name.removeprefix("inverse_thickness_at_mach_").split("_")
        if truth is not None and model != "dsmc":
            over = figure.value / truth.value - 1
            note = f"inverse thickness, +- {(truth.error or 0.0) / truth.value:.2g}"
            fallback = figures.get(f"closure_fallback_at_mach_{mach}")
            if model == "closure" and fallback is not None:
                note += f"; {fallback.value:.2g} of the faces fell back"
            record(f"argon_{model}_over_dsmc_mach{mach}", over, "", note=note)


def by_monte_carlo(record: Recorder, folder: Path, quick: bool) -> None:
    """The hot half from our own wavefunctions, and what that costs."""
    small = (
        'labels.labeler={kind="vmc_dimer", walkers=128, first_iterations=60, '
        'iterations=20, first_sweeps=40, sweeps=20}',
        'labels.far.labeler={kind="published"}', "shock.cells=60", "shock.settling=400",
    )  # fmt: skip
    begun = time.process_time()
    outcome = _run("helium_vmc_shock", folder, *(small if quick else ()))
    processor = (time.process_time() - begun) / 60
    values = {name: figure.value for name, figure in outcome.figures.items()}
    checks = {check.name: check.value for check in outcome.checks}
    labels = json.loads((folder / "helium_vmc_shock" / "potential.json").read_text())
    off = "; ".join(_departure(lab) for lab in labels["labels"] if "Monte" in lab["source"])
    record("he_vmc_viscosity_error", values["viscosity_departure"], "", goal=0.01,
           note=f"1000 to 8000 K, from the published potential; {processor:.1f} min of "
           f"processor time, the whole run; labels less published: {off}")  # fmt: skip
    record("he_vmc_bars", checks["viscosity_within_two_bars"], "", goal=2.0,
           note="the same over the error bar")  # fmt: skip


def _departure(label: Mapping[str, Any]) -> str:
    """How far a label lies from the published energy, with its bar, millihartree."""
    unit = 1e3 / HARTREE
    r = torch.tensor(label["separation"], dtype=torch.float64)
    off = (label["energy"] - float(PUBLISHED["He"].pair(r))) * unit
    bar = math.hypot(label["independent"], *label["common"].values()) * unit
    return f"{off:.2f} +- {bar:.2f} mHa at {label['separation'] / BOHR:.1f} bohr"


def neon(record: Recorder, folder: Path, quick: bool) -> None:
    """``helium_shock`` as it is shipped, but for the symbol."""
    small = ('labels.labeler={kind="published"}', "shock.cells=60", "shock.settling=400",
             "transport.pairs=512")  # fmt: skip
    outcome = _run(
        "helium_shock", folder / "neon", "atoms.symbol=Ne", "shock.mach=[2.0]",
        "shock.particles={mach=[2.0], settling=100, steps=160}", *(small if quick else ()),
    )  # fmt: skip
    checks = {check.name: check.value for check in outcome.checks}
    bars = checks["viscosity_within_two_bars"]
    values = {name: figure.value for name, figure in outcome.figures.items()}
    note = f"{values['labels']:.0f} labels, departure from the published potential"
    record("neon_viscosity_error", values["viscosity_departure"], "", note=note)
    record("neon_bars", bars, "", goal=2.0, note="the same over the error bar")


def measure(quick: bool, record: Recorder) -> None:
    """Measure what is wanted; a run gives all its figures."""
    runs = (
        (helium, HELIUM), (full, FULL), (by_monte_carlo, VMC), (argon, ARGON), (neon, NEON),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        for run, figures in runs:
            if record.wants(*figures):
                run(record, Path(folder), quick)


__all__ = ["measure"]
