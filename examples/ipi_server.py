"""Our potential drives another program's dynamics: i-PI, over a unix socket.

i-PI moves the atoms and owns the clock; ASE's client, with our calculator, answers with
energy, forces and stress. Run: python examples/ipi_server.py [MODEL.safetensors]
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ase.io
import numpy as np
from ase.build import bulk
from ase.calculators.socketio import SocketClient

from scalebridge.engine.bridge.ase import PotentialCalculator
from scalebridge.engine.md.classical import StillingerWeber
from scalebridge.engine.md.learned import load_potential
from scalebridge.engine.md.potential import Potential

INPUT = Path(__file__).with_suffix(".xml")


def main(folder: Path, potential: Potential, steps: int = 100) -> np.ndarray:
    """Return i-PI's table: step, time (ps), conserved, potential, kinetic energy (eV)."""
    atoms = bulk("Si", cubic=True) * (2, 2, 2)
    a, b, c, *_ = atoms.cell.cellpar()
    cell = f"# CELL(abcABC): {a} {b} {c} 90 90 90 positions{{angstrom}} cell{{angstrom}}"
    ase.io.write(folder / "start.xyz", atoms, "xyz", comment=cell, fmt="%.10f")
    name = f"scalebridge-{folder.stat().st_ino}"
    text = INPUT.read_text().replace("ADDRESS", name).replace("STEPS", str(steps))
    (folder / "input.xml").write_text(text)
    program = Path(sys.executable).with_name("i-pi")
    server = subprocess.Popen([program, "input.xml"], cwd=folder, stdout=subprocess.DEVNULL)
    while server.poll() is None and not Path(f"/tmp/ipi_{name}").exists():
        time.sleep(0.1)
    atoms.calc = PotentialCalculator(potential)
    SocketClient(unixsocket=name).run(atoms, use_stress=True)
    server.wait(60)
    return np.loadtxt(folder / "run.out")


if __name__ == "__main__":
    model = load_potential(Path(sys.argv[1])) if len(sys.argv) > 1 else StillingerWeber()
    print(main(Path(tempfile.mkdtemp()), model)[::20])
