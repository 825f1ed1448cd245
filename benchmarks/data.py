"""Figures of data in and out: cases, round trips, damaged or wrong files, stress, hosts."""

import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from scalebridge.engine.bench import Recorder

HERE = Path(__file__).resolve().parent
TESTS = HERE.parent / "tests"
sys.path[:0] = [str(HERE), str(TESTS)]

CASES = {
    "F2 resume with other keys": "test_trust_runs.py::test_other_keys_are_refused",
    "F21 resume of another scenario": "test_trust_runs.py::test_another_scenario",
    "F23 check of a gas": "test_data_cases.py::test_check_of_a_gas_says",
    "F1 mixed type": "test_data_formats.py::test_mixed_type_is_read_frame_by_frame",
    "F3 own label set": "test_data_cases.py::test_a_labelled_set_reads_back",
    "F4 VASP energies": "test_data_formats.py::test_vasp_energies_are_those_whose",
    "F6 dump as labels": "test_data_formats.py::test_a_dump_holds_no_energies",
    "F7 blank lines": "test_data_formats.py::test_blank_lines_between_frames",
    "F8 frozen atoms": "test_data_structures.py::test_atoms_that_a_file_fixes",
    "F9 slab": "test_interop_data.py::test_a_slab_stays_periodic",
    "F11 virial": "test_data_checks.py::test_refused_before_training[virial that no",
    "F13 no neighbours": "test_data_checks.py::test_refused_before_training[no neigh",
    "F14 validation": "test_data_checks.py::test_refused_before_training[validation takes",
    "F16 threads": "test_hosts.py::test_first_use_from_several_threads",
    "F17 fork": "test_hosts.py::test_a_fork_after_the_start",
    "F18 host's Taichi": "test_hosts.py::test_a_host_that_initialis",
    "F25 LAMMPS data": "test_data_structures.py::test_lammps_data",
    "F32 names of labels": "test_data_formats.py::test_labels_of_other_names",
}
"""Case -> beginning of the name of the tests that hold its right value."""

FORMATS = {
    "extxyz": ("ASE", "test_data_formats.py", "blank_lines or damaged"),
    "DeePMD npy, mixed type, HDF5": ("dpdata", "test_interop_data.py", "dpdata_reads"),
    "vasprun.xml": ("ASE", "test_data_formats.py", "vasp or unconverged"),
    "ASE database": ("ASE", "test_data_formats.py", "databases"),
    "LAMMPS data and dump": ("ASE", "test_data_structures.py", "lammps"),
    "extxyz of a run": ("ASE", "test_viz_atoms.py", "extxyz"),
    "VTKHDF of atoms and fields": ("VTK", "test_viz_atoms.py", "vtkhdf"),
    "arrays of a run": ("xarray", "test_arrays.py", ""),
    "program of torch.export": ("torch", "test_interop_export.py", "torch_export_gives"),
    "metatomic": ("metatomic-ase", "test_interop_export.py", "metatomic_through"),
}
"""Format -> independent library, file of tests, which tests."""

ROUNDTRIPS = (
    ("test_interop_data.py", "written_again or groups or slab or every_pair"),
    ("test_data_cases.py", "labelled_set_reads_back or view_writes or set_of_labels"),
    ("test_viz_atoms.py", "read_back"),
)
"""Files of tests, and which: a writer and a reader each, or a loss that is named."""


def measure(quick: bool, record: Recorder) -> None:
    """Measure; the counts are of tests that pass."""
    if record.wants("cases_right"):
        _cases(record)
    counted = (
        ("stress_planted_noticed", "test_data_stress.py", "planted_stress", 20),
        ("stress_good_passed", "test_data_stress.py", "good_sets", 20),
        ("forces_planted_noticed", "test_data_energies.py", "planted_energies", 20),
        ("forces_good_passed", "test_data_energies.py", "good_energies", 20),
        ("hosts_right", "test_hosts.py", "", 8),
    )
    for figure, file, chosen, goal in counted:
        if record.wants(figure):
            passed, _ = _passed(file, chosen)
            record(figure, passed, "tests", goal=goal, better="higher")
    if record.wants("roundtrips"):
        _roundtrips(record)
    if record.wants("formats"):
        _formats(record)
    if record.wants("wrong_inputs", "silent_acceptances"):
        _wrong(record)
    if record.wants("damaged_files", "damaged_tracebacks"):
        _damaged(quick, record)


def _passed(file: str, chosen: str = "") -> tuple[int, int]:
    """Run tests; return how many passed and failed."""
    said = _run([str(TESTS / file), *(["-k", chosen] if chosen else [])])
    counts = {kind: int(n) for n, kind in re.findall(r"(\d+) (passed|failed|error)", said)}
    return counts.get("passed", 0), counts.get("failed", 0) + counts.get("error", 0)


def _run(arguments: Sequence[str]) -> str:
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "--tb=no", "-m", "", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _cases(record: Recorder) -> None:
    files = sorted({name.split("::")[0] for name in CASES.values()})
    said = _run(
        [str(TESTS / file) for file in files]
        + ["-k", " or ".join(name.split("::")[1].split("[")[0] for name in CASES.values())]
    )
    outcomes = re.findall(r"^(PASSED|FAILED|ERROR) tests/(\S+::.*)$", said, re.MULTILINE)
    right = 0
    for name in CASES.values():
        mine = [outcome for outcome, test in outcomes if test.startswith(name)]
        right += bool(mine) and set(mine) == {"PASSED"}
    note = f"of {len(CASES)} about data, structures and hosts: {', '.join(CASES)}"
    record("cases_right", right, "cases", goal=len(CASES), better="higher", note=note)


def _roundtrips(record: Recorder) -> None:
    found = [_passed(*each) for each in ROUNDTRIPS]
    passed, all_ = sum(p for p, _ in found), sum(p + f for p, f in found)
    note = "pairs of writer and reader: identical, or what is lost is named"
    record("roundtrips", passed, "tests", goal=all_, better="higher", note=note)


def _formats(record: Recorder) -> None:
    said, right = [], 0
    for name, (library, file, chosen) in FORMATS.items():
        passed, failed = _passed(file, chosen)
        right += passed > 0 and not failed
        said.append(f"{name}: {passed} tests against {library} {version(library.lower())}")
    record("formats", right, "formats", goal=len(FORMATS), better="higher",
           note="; ".join(said))  # fmt: skip


def _wrong(record: Recorder) -> None:
    from wrong_inputs import every  # type: ignore[import-not-found]

    inputs = list(every())
    silent = []
    for wrong in inputs:
        with tempfile.TemporaryDirectory() as place:
            if not wrong.noticed(Path(place)):
                silent.append(wrong.name)
    record("wrong_inputs", len(inputs), "inputs", goal=80, better="higher")
    record("silent_acceptances", len(silent), "inputs", goal=0, better="lower",
           note=", ".join(silent))  # fmt: skip


def _damaged(quick: bool, record: Recorder) -> None:
    import fuzz  # type: ignore[import-not-found]

    found = fuzz.fuzz(minutes=60, seed=2, files=300 if quick else 12_000)
    record("damaged_files", found.total, "files", goal=12_000, better="higher",
           note=f"{len(found.tried)} readers")  # fmt: skip
    record("damaged_tracebacks", len(found.found), "files", goal=0, better="lower",
           note="; ".join(found.found)[:500])  # fmt: skip
