"""Labelers that are other programs, batch systems, time limits: and their failures."""

import json
import os
import stat
import sys
import time
from pathlib import Path

import ase.io
import learn_toy as toy
import numpy as np
import pytest
from ase.build import bulk, molecule
from click.testing import CliRunner

from scalebridge.engine import scenario
from scalebridge.engine.cli import main
from scalebridge.engine.errors import EngineError, InputError
from scalebridge.engine.jobs import assemble
from scalebridge.engine.jobs.label import labeler_of
from scalebridge.engine.learn import execution
from scalebridge.engine.learn.atoms import CONFIGURATIONS, LABELS, Configuration
from scalebridge.engine.learn.label_store import (
    LabelError,
    LabelStore,
    compute,
    identity,
)
from scalebridge.engine.learn.labelers.external import (
    ALLOWED,
    AseCalculator,
    CommandLabeler,
)
from scalebridge.engine.run import Reporter
from scalebridge.engine.rundir import RunFolder

PROGRAM = """
import sys, time
import ase.io
from ase.calculators.emt import EMT

how = sys.argv[1] if len(sys.argv) > 1 else "well"
atoms = ase.io.read("structure.extxyz")
if how == "slow":
    time.sleep(60)
if how == "status":
    print("out of memory", file=sys.stderr)
    sys.exit(3)
if how == "silent":
    sys.exit(0)
if how == "moved":
    atoms.positions += 0.1
if how == "other":
    atoms = atoms[:-1]
atoms.calc = EMT()
atoms.get_forces()
atoms.get_stress()
ase.io.write("result.extxyz", atoms)
"""


@pytest.fixture
def allowed(monkeypatch):
    monkeypatch.setenv(ALLOWED, "1")


@pytest.fixture
def program(tmp_path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


def copper() -> Configuration:
    crystal = bulk("Cu", cubic=True)
    crystal.rattle(0.1, seed=1)
    return Configuration.of(crystal, "crystal")


def store_in(folder: Path, labeler) -> LabelStore:
    place = folder / "labels"
    place.mkdir(parents=True, exist_ok=True)
    return LabelStore(place, identity(labeler), CONFIGURATIONS, LABELS)


# -- calculators of ASE by name ------------------------------------------------------------


def test_a_calculator_of_ase_by_name_equals_the_part():
    sample = copper()
    named, own = labeler_of("ase", ["calculator='emt'"]), labeler_of("emt")
    a, b = named.label(sample), own.label(sample)
    assert a.energy == pytest.approx(b.energy)
    np.testing.assert_allclose(a.forces, b.forces)
    np.testing.assert_allclose(a.virial, b.virial)


def test_parameters_reach_the_calculator_and_name_the_method():
    wide, narrow = (AseCalculator("lj", {"rc": r}) for r in (6.0, 3.0))
    sample = copper()
    assert wide.label(sample).energy != narrow.label(sample).energy
    assert identity(wide) != identity(narrow)
    with pytest.raises(LabelError, match="nonsense"):
        AseCalculator("tblite", {"method": "nonsense"}).label(sample)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["calculator='vesp'"], "ASE has no vesp; did you mean vasp"),
        (["calculator='chgnet'"], "calculator chgnet: No module named"),
        (["calculator='vasp'", "parameters={command='vasp_std'}"], "--allow-commands"),
        (["calculator='vasp'", "parameters={directory='here'}"], "folder of its own"),
    ],
)
def test_calculators_that_cannot_be(settings, said):
    with pytest.raises(InputError) as caught:
        labeler_of("ase", settings)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_real_code_is_run_through_its_calculator(tmp_path):
    """GFN1-xTB (tblite) by name, in the store, as a loop asks for it."""
    pytest.importorskip("tblite")
    labeler = AseCalculator("tblite", {"method": "GFN1-xTB", "verbosity": 0})
    sample = Configuration.of(molecule("H2O"), "water")
    store = store_in(tmp_path, labeler)
    compute(store, labeler, sample)
    entry = store.get(store.key(sample))
    assert entry is not None
    assert entry.label.energy == pytest.approx(-157.0, abs=1.0)  # of GFN1 water, eV
    assert float(entry.label.forces.sum(0).abs().max()) < 1e-4


FAKE_VASP = """#!{python}
import os, sys
import numpy as np
import ase.io
from ase.calculators.emt import EMT

atoms = ase.io.read("POSCAR")
atoms.calc = EMT()
energy, forces = atoms.get_potential_energy(), atoms.get_forces()
stress = -atoms.get_stress(voigt=False) * 1602.1766208
steps = 60 if os.path.exists("{folder}/hard") else 5
rows = lambda m: "".join("<v>" + " ".join("%.10f" % x for x in r) + "</v>" for r in m)
species = "".join("<rc><c>%s</c><c>1</c></rc>" % s for s in atoms.symbols)
structure = (
    '<structure {{}}><crystal><varray name="basis">' + rows(atoms.cell) +
    '</varray></crystal><varray name="positions">' + rows(atoms.get_scaled_positions()) +
    "</varray></structure>"
)
scf = (
    "<scstep><energy><i name='e_fr_energy'>%.8f</i><i name='e_0_energy'>%.8f</i>"
    "</energy></scstep>" % (energy, energy)
)
open("vasprun.xml", "w").write(
    "<modeling><kpoints></kpoints><atominfo><atoms>%d</atoms><array name='atoms'><set>"
    % len(atoms) + species + "</set></array></atominfo>" +
    structure.format("name='initialpos'") + "<calculation>" + steps * scf +
    structure.format("") + "<varray name='forces'>" + rows(forces) +
    "</varray><varray name='stress'>" + rows(stress) + "</varray><energy>"
    "<i name='e_fr_energy'>%.8f</i><i name='e_wo_entrp'>%.8f</i>"
    "<i name='e_0_energy'>%.8f</i></energy></calculation>" % (energy, energy, energy) +
    structure.format("name='finalpos'") + "</modeling>"
)
ase.io.write("CONTCAR", atoms, format="vasp", direct=True)
nelm = [l.split("=")[1] for l in open("INCAR") if "NELM" in l.upper()]
reached = "aborting loop because EDIFF is reached"
missed = "aborting loop EDIFF was not reached (unconverged)"
open("OUTCAR", "w").write(
    " vasp.6.4.0 fake\\n   NELM   =     60;   NELMIN=  2; NELMDL= -5\\n"
    "   EDIFF  = 0.1E-03   stopping-criterion for ELM\\n   IBRION = -1\\n   NSW    = 0\\n" +
    "".join("------ Iteration      1(%4d)  ------\\n" % (k + 1) for k in range(steps)) +
    "  " + (missed if steps == 60 else reached) + "\\n"
)
"""


@pytest.fixture
def vasp(tmp_path, monkeypatch, allowed):
    """An executable that takes VASP's files and answers with effective medium theory."""
    path = tmp_path / "vasp"
    path.write_text(FAKE_VASP.format(python=sys.executable, folder=tmp_path)
                    .replace("{{}}", "{}"))  # fmt: skip
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    potentials = tmp_path / "potpaw_PBE" / "Cu"
    potentials.mkdir(parents=True)
    (potentials / "POTCAR").write_text("  PAW_PBE Cu\n   ZVAL   =   11.000\n")
    monkeypatch.setenv("VASP_PP_PATH", str(tmp_path))
    return AseCalculator("vasp", {"command": str(path), "xc": "pbe", "nelm": 60})


def test_the_path_of_vasp(vasp, tmp_path):
    """What was computed is kept, inputs beside outputs."""
    sample, run = copper(), tmp_path / "run"
    store = store_in(run, vasp)
    compute(store, vasp, sample)
    entry = store.get(store.key(sample))
    exact = labeler_of("emt").label(sample)
    assert entry.label.energy == pytest.approx(exact.energy, abs=1e-5)
    np.testing.assert_allclose(entry.label.forces, exact.forces, atol=1e-4)
    kept = {f.name for f in (run / "calculations" / store.key(sample)).iterdir()}
    assert {"INCAR", "POSCAR", "KPOINTS", "OUTCAR", "vasprun.xml"} <= kept


def test_a_label_that_did_not_converge_is_none(vasp, tmp_path):
    """An unconverged calculation must not become data."""
    (tmp_path / "hard").touch()
    with pytest.raises(LabelError, match="vasp: did not converge"):
        vasp.label(copper())


# -- commands ------------------------------------------------------------------------------


def test_a_command_labels_and_its_files_stay(program, tmp_path, allowed):
    labeler = CommandLabeler((sys.executable, str(program)))
    sample, store = copper(), store_in(tmp_path / "run", labeler)
    compute(store, labeler, sample)
    exact = labeler_of("emt").label(sample)
    label = store.get(store.key(sample)).label
    np.testing.assert_allclose(label.forces, exact.forces, atol=1e-6)
    np.testing.assert_allclose(label.virial, exact.virial, atol=1e-5)
    place = tmp_path / "run" / "calculations" / store.key(sample)
    assert {"structure.extxyz", "result.extxyz", "stderr.txt"} <= set(os.listdir(place))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("status", "exit status 3: out of memory"),
        ("silent", "result.extxyz"),
        ("moved", "atoms were moved by 0.1"),
        ("other", "not the atoms of structure.extxyz"),
        ("slow", "took longer than 2 s"),
    ],
)
def test_a_command_that_fails_is_no_label(program, how, said, allowed):
    limit = 2.0 if how == "slow" else None
    labeler = CommandLabeler((sys.executable, str(program), how), seconds=limit)
    with pytest.raises(LabelError) as caught:
        labeler.label(copper())
    assert said in str(caught.value)


def test_no_command_without_consent(program, tmp_path, monkeypatch):
    monkeypatch.delenv(ALLOWED, raising=False)
    labeler = CommandLabeler(("touch", str(tmp_path / "started")))
    with pytest.raises(LabelError, match="--allow-commands"):
        labeler.label(copper())
    assert not (tmp_path / "started").exists()
    structure = tmp_path / "in.extxyz"
    ase.io.write(structure, [copper().atoms()])
    words = json.dumps([sys.executable, str(program)])
    command = [
        "label", str(structure), "--labeler", "command", "--set", f"command={words}",
        "--out", str(tmp_path / "out"),
    ]  # fmt: skip
    refused = CliRunner().invoke(main, command)
    assert refused.exit_code == 2 and "--allow-commands" in refused.output
    monkeypatch.setenv(ALLOWED, "")  # restored afterwards
    assert CliRunner().invoke(main, [*command, "--allow-commands"]).exit_code == 0
    assert (tmp_path / "out" / "dataset.extxyz").exists()


def test_no_shell_reads_a_command(tmp_path, allowed):
    labeler = CommandLabeler(("echo", "; touch " + str(tmp_path / "started")))
    with pytest.raises(LabelError):
        labeler.label(copper())
    assert not (tmp_path / "started").exists()


# -- time limits, batch systems ------------------------------------------------------------


def test_a_label_over_its_time_limit_fails_alone(tmp_path):
    """One hanging calculation must not hang the run."""

    job = toy.loop(
        labeler=Hanging(), rounds=0, attempts=1, pool=execution.Processes(2, seconds=2.0)
    )
    begun = time.monotonic()
    outcome = toy.run(tmp_path / "run", job)
    assert time.monotonic() - begun < 120  # it would sleep for 600 s
    assert outcome.figures["labels"].value == len(toy.START) - 1
    assert outcome.figures["labels_failed"].value == 1


class Hanging(toy.Teacher):
    """Never answers at one point."""

    def label(self, point: toy.Point) -> float:
        if abs(point.x - 1.4) < 0.1:
            time.sleep(600)
        return super().label(point)


@pytest.mark.parametrize(
    ("kind", "lines"),
    [
        ("slurm", ("#SBATCH -A physics", "#SBATCH -p fast", "#SBATCH --gres=gpu:1",
                   "#SBATCH --cpus-per-task=8", "#SBATCH -t 01:30:00")),
        ("pbs", ("#PBS -A physics", "#PBS -q fast", "#PBS --gres=gpu:1", "ncpus=8",
                 "#PBS -l walltime=01:30:00")),
    ],
)  # fmt: skip
def test_what_a_job_script_holds(kind, lines):
    """Account, partition, GPU and modules can be said."""
    pytest.importorskip("dask_jobqueue")
    part = {"slurm": execution.Slurm, "pbs": execution.Pbs}[kind](
        workers=2, walltime="01:30:00", memory="8GB", cores=8, queue="fast",
        account="physics", directives=("--gres=gpu:1",), prologue=("module load vasp",),
    )  # fmt: skip
    with part.cluster() as cluster:
        script = cluster.job_script()
    for line in (*lines, "module load vasp", "export OMP_NUM_THREADS=8"):
        assert line in script
    assert script.index("module load vasp") < script.index("dask_worker")
    assert "--nthreads 1" in script


def test_a_batch_system_that_is_not_here_is_named(monkeypatch):
    pytest.importorskip("dask_jobqueue")
    monkeypatch.setenv("PATH", "")
    assert execution.Pbs().missing() == "qsub of PBS is not on PATH"


# -- complaints ----------------------------------------------------------------------------


def test_an_audit_whose_labels_fail_keeps_the_model(tmp_path):
    """A run whose last labels fail has its model, its data and its counts."""
    settings = [
        "rounds=1", "initial=1", "execution={kind='serial'}", "audit.frames=2",
        "training.steps=2", "model.channels=4", "model.axis=2", "model.products=2",
        "model.fitting=[8]", "attempts=1", "tolerated=1.0", "explorer.steps=40",
        "start=[{name='bulk',temperatures=[300],structure={kind='crystal',element='Cu',"
        "lattice='fcc',lattice_constant=3.615}}]",
    ]  # fmt: skip
    checked, base = scenario.load("elt_copper", settings)
    broken = Failing(after=5)
    job = assemble(checked.model_copy(update={"labeler": broken}), base)
    with RunFolder.create(tmp_path / "run", "", {}) as folder:
        outcome = job.run(folder, Reporter(quiet=True))
    assert (tmp_path / "run" / "model.safetensors").exists()
    labels = len(ase.io.read(tmp_path / "run" / "dataset.extxyz", ":"))
    figures = {name: figure.value for name, figure in outcome.figures.items()}
    assert figures["labels"] == labels
    assert figures["labels_computed"] == labels + figures.get("labels_audit", 0) == 5
    assert figures["audit_failed"] == 2
    assert outcome.verdicts["audit_labels"] != "ok"


class Failing:
    """Effective medium theory that gives up after a number of labels."""

    identity = "failing"

    def __init__(self, after: int) -> None:
        self.left = after

    def label(self, sample: Configuration):
        if not self.left:
            raise LabelError("disk quota exceeded")
        self.left -= 1
        return labeler_of("emt").label(sample)


def test_all_labels_failing_names_the_reason(tmp_path):
    """The reason of a failed task is said, not a path to search."""
    job = toy.loop(labeler=toy.Teacher(refuses=1.4), tolerated=0.0)
    with pytest.raises(EngineError, match="SCF did not converge in 50 cycles"):
        toy.run(tmp_path / "run", job)
