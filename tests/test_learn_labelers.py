"""Labelers that are other programs, batch systems, time limits: and their failures."""

import json
import os
import shutil
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import ase.io
import learn_toy as toy
import numpy as np
import pytest
from ase.build import bulk, molecule
from click.testing import CliRunner

from scalebridge.engine import scenario
from scalebridge.engine.cli import main
from scalebridge.engine.errors import InputError
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
if how == "wrapped":
    atoms.positions += atoms.cell[0]
    atoms.wrap()
if how == "strained":
    atoms.set_cell(1.05 * atoms.cell)
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
        (
            ["calculator='lj'", "parameters={sigam=3.4}"],
            "parameters.sigam: no parameter of LennardJones; did you mean sigma?",
        ),
    ],
)
def test_calculators_that_cannot_be(settings, said):
    with pytest.raises(InputError) as caught:
        labeler_of("ase", settings)
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("calculator", "parameters"),
    [
        ("lj", {"sigma": 3.4, "epsilon": 0.0104, "rc": 8.5, "smooth": True}),
        ("morse", {"epsilon": 1.0, "r0": 2.9, "rcut1": 1.9}),
        ("emt", {}),
        ("vasp", {"encut": 400, "xc": "pbe", "ismear": 0, "kpts": [2, 2, 2]}),
        ("eam", {"potential": "Al.eam.alloy", "form": "alloy"}),
        ("gromacs", {"force_field": "oplsaa"}),
        ("cp2k", {"basis_set": "DZVP-GTH", "cutoff": 400, "inp": "", "max_scf": 50}),
    ],
)
def test_parameters_that_a_calculator_takes_pass(calculator, parameters):
    assert "no parameter" not in AseCalculator(calculator, parameters).missing()


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
        ("strained", "not the cell of structure.extxyz"),
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


@pytest.mark.parametrize("what", ["positions", "cell"])
def test_atoms_whose_place_is_no_number_were_moved(what):
    found = copper().atoms()
    getattr(found, what)[0, 0] = np.nan
    with pytest.raises(LabelError, match=r"moved by nan|not the cell"):
        CommandLabeler(("x",))._read(copper(), found)


def test_a_command_may_write_atoms_in_another_copy_of_the_cell(program, allowed):
    sample = copper()
    wrapped = CommandLabeler((sys.executable, str(program), "wrapped")).label(sample)
    exact = labeler_of("emt").label(sample)
    np.testing.assert_allclose(wrapped.forces, exact.forces, atol=1e-6)


def test_a_command_is_known_by_its_method():
    here, there = (CommandLabeler((place,), method="PBE") for place in ("/a/x", "/b/x"))
    assert identity(here) == identity(there)
    assert identity(replace(here, seconds=60.0)) == identity(here)
    assert identity(here) != identity(replace(here, method="LDA"))
    assert identity(CommandLabeler(("x",))) != identity(CommandLabeler(("y",)))


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


@pytest.mark.slow
def test_density_functional_theory_labels_through_a_command(tmp_path, allowed):
    """GPAW in an interpreter of its own, as the benchmark's scenario has it."""
    file = Path(__file__).resolve().parent.parent / "benchmarks" / "silicon_dft.toml"
    checked, _ = scenario.load(str(file), [])
    labeler = checked.labeler
    python = [labeler.command[0], "-c", "import gpaw"]
    if subprocess.run(python, capture_output=True, check=False).returncode:
        pytest.skip(f"{labeler.command[0]} has no gpaw")
    cell = bulk("Si", a=5.47)
    cell.rattle(0.05, seed=1)
    sample = Configuration.of(cell, "diamond")
    store = store_in(tmp_path, labeler)
    compute(store, labeler, sample)
    label = store.get(store.key(sample)).label
    # plane waves are the same everywhere: nothing pulls the whole crystal
    assert float(label.forces.sum(0).abs().max()) < 0.05
    apart = cell.positions[1] - cell.positions[0] - 5.47 / 4
    # back to where the crystal is symmetric
    assert float(label.forces[1].numpy() @ apart) < 0
    assert (tmp_path / "calculations" / store.key(sample) / "gpaw.txt").exists()


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


def test_a_program_over_the_time_limit_of_its_worker_is_ended(tmp_path, allowed):
    """It runs in a group of its own, which the worker's end alone would not reach."""
    script = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(60)"
    labeler = CommandLabeler((sys.executable, "-c", script))
    sample, store = copper(), store_in(tmp_path, labeler)
    with execution.opened(execution.Processes(1, seconds=3.0)) as line:
        execution.label_all(line, store, labeler, [sample], attempts=1)
    key = store.key(sample)
    assert store.failures(key) == ["LabelTooLong: took longer than 3 s"]
    number = int((tmp_path / "calculations" / key / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)


class Hanging(toy.Teacher):
    """Never answers at one point."""

    def label(self, point: toy.Point) -> float:
        if abs(point.x - 1.4) < 0.1:
            time.sleep(600)
        return super().label(point)


SCRIPTS = {
    "slurm": """#!/usr/bin/env bash

#SBATCH -J labels
#SBATCH -p fast
#SBATCH -A physics
#SBATCH -n 1
#SBATCH --cpus-per-task=16
#SBATCH --mem=30GB
#SBATCH -t 01:30:00
#SBATCH --gres=gpu:1
""",
    "pbs": """#!/usr/bin/env bash

#PBS -N labels
#PBS -q fast
#PBS -A physics
#PBS -l select=1:ncpus=8:mem=7630MB
#PBS -l walltime=01:30:00
#PBS --gres=gpu:1
""",
    "lsf": """#!/usr/bin/env bash

#BSUB -J labels
#BSUB -q fast
#BSUB -P "physics"
#BSUB -n 8
#BSUB -R "span[hosts=1]"
#BSUB -M 8000000
#BSUB -W 01:30
#BSUB --gres=gpu:1
""",
    "sge": """#!/usr/bin/env bash

#$ -N labels
#$ -q fast
#$ -P physics
#$ -l h_rt=01:30:00
#$ -cwd
#$ -j y
#$ --gres=gpu:1
""",
}
WORKER = """export OMP_NUM_THREADS=8
module load vasp
/opt/python -m distributed.cli.dask_worker ADDRESS --name dummy-name --nthreads 8 \
--memory-limit 7.45GiB --nanny --death-timeout 600 --nthreads 1 --resources GPU=1
"""


@pytest.mark.parametrize("kind", SCRIPTS)
def test_what_a_job_script_holds(kind):
    """Account, partition, GPU, modules and whatever else dask-jobqueue knows."""
    pytest.importorskip("dask_jobqueue")
    options = "job_name='labels',death_timeout='600',"
    options += "worker_extra_args=['--resources','GPU=1']"
    if kind == "slurm":
        options += ",job_cpu=16,job_mem='30GB'"
    walltime = "01:30" if kind == "lsf" else "01:30:00"
    settings = (
        f"execution={{kind='{kind}',workers=2,walltime='{walltime}',memory='8GB',cores=8,"
        "queue='fast',account='physics',directives=['--gres=gpu:1'],"
        f"prologue=['module load vasp'],python='/opt/python',options={{{options}}}}}"
    )
    checked, _ = scenario.load("elt_copper", [settings])
    with checked.execution.cluster() as cluster:
        script = cluster.job_script().replace(cluster.scheduler_address, "ADDRESS")
    assert script.rstrip("\n") == (SCRIPTS[kind] + WORKER).rstrip("\n")


def test_an_option_that_no_batch_system_has_is_named():
    pytest.importorskip("dask_jobqueue")
    with pytest.raises(InputError, match=r"jobname: no option .* job_name") as caught:
        scenario.load("elt_copper", ["execution={kind='slurm',options={jobname='a'}}"])
    assert "\n" not in str(caught.value)


def test_a_batch_system_that_is_not_here_is_named(monkeypatch):
    pytest.importorskip("dask_jobqueue")
    monkeypatch.setenv("PATH", "")
    assert execution.Pbs().missing() == "qsub of PBS is not on PATH"


# -- labels that runs share ----------------------------------------------------------------


def test_runs_find_each_others_labels(tmp_path):
    """By structure and method: the second run computes none that the first has."""
    library = tmp_path / "library"
    library.mkdir()
    first = toy.run(tmp_path / "a", toy.loop(rounds=2, library=library)).figures
    assert first["labels_found"].value == 0
    made = first["labels_computed"].value
    assert made == first["labels"].value == len(list(library.glob("*.safetensors")))
    second = toy.run(tmp_path / "b", toy.loop(rounds=2, library=library)).figures
    assert second["labels_computed"].value == 0
    assert second["labels_found"].value == second["labels"].value == made
    data = [toy.final_data(tmp_path / name, toy.loop()) for name in ("a", "b")]
    assert data[0] == data[1]
    # each run holds all that it learned from: the library may go
    shutil.rmtree(library)
    library.mkdir()
    assert toy.run(tmp_path / "b", toy.loop(rounds=2)).figures["labels"].value == made
    # another method's labels are other labels
    other = toy.loop(rounds=0, library=library, labeler=toy.Teacher(refuses=9.0))
    assert toy.run(tmp_path / "c", other).figures["labels_found"].value == 0


@pytest.mark.parametrize("shared", [False, True])
def test_a_label_whose_end_was_not_noted_was_computed(shared, tmp_path, monkeypatch):
    """As after a kill between the label's file and the line of its end."""
    (tmp_path / "library").mkdir()
    loop = toy.loop(rounds=0, library=tmp_path / "library" if shared else None)
    whole = toy.run(tmp_path / "whole", toy.loop(rounds=0)).figures
    note = LabelStore.note

    def killed(self, event, key):
        if event == "done":
            raise KeyboardInterrupt
        note(self, event, key)

    with monkeypatch.context() as changed, pytest.raises(KeyboardInterrupt):
        changed.setattr(LabelStore, "note", killed)
        toy.run(tmp_path / "run", loop)
    again = toy.run(tmp_path / "run", loop).figures
    for name in ("labels", "labels_computed", "labels_found", "labels_repeated"):
        assert again[name].value == whole[name].value


def test_a_damaged_label_of_the_library_is_computed_again(tmp_path):
    """Never taken, and the run does not stop at another run's file."""
    library = tmp_path / "library"
    library.mkdir()
    toy.run(tmp_path / "a", toy.loop(rounds=0, library=library))
    victim = next(library.glob("*.safetensors"))
    raw = bytearray(victim.read_bytes())
    raw[-3] ^= 1
    victim.write_bytes(raw)
    second = toy.run(tmp_path / "b", toy.loop(rounds=0, library=library)).figures
    assert second["labels_computed"].value == 1
    assert toy.final_data(tmp_path / "a", toy.loop()) == toy.final_data(
        tmp_path / "b", toy.loop()
    )
    third = toy.run(tmp_path / "c", toy.loop(rounds=0, library=library)).figures
    assert third["labels_computed"].value == 0  # the file was written over


def test_a_library_that_is_not_there_is_named():
    with pytest.raises(InputError, match=r"^library: nowhere: no such folder"):
        assemble(*scenario.load("elt_copper", ["library='nowhere'"]))
