"""Our potential drives another program's dynamics: i-PI, over a unix socket."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ase.io
import numpy as np
from ase.build import bulk
from ase.calculators.socketio import SocketClient

from scalebridge.engine.interop.ase import PotentialCalculator
from scalebridge.engine.md.learned import load_potential
from scalebridge.engine.md.potential import Potential


def main(folder: Path, potential: Potential, steps: int = 100) -> np.ndarray:
    """Return i-PI's table: step, time (ps), conserved, potential, kinetic energy (eV)."""
    atoms = bulk("Si", cubic=True) * (2, 2, 2)
    a = atoms.cell.lengths()[0]
    cell = f"# CELL(abcABC): {a} {a} {a} 90 90 90 positions{{angstrom}} cell{{angstrom}}"
    ase.io.write(folder / "start.xyz", atoms, "xyz", comment=cell, fmt="%.10f")
    name = f"scalebridge-{folder.stat().st_ino}"
    text = Path(__file__).with_suffix(".xml").read_text().replace("ADDRESS", name)
    (folder / "input.xml").write_text(text.replace("STEPS", str(steps)))
    program = Path(sys.executable).with_name("i-pi")
    server = subprocess.Popen([program, "input.xml"], cwd=folder, stdout=subprocess.DEVNULL)
    while server.poll() is None and not Path(f"/tmp/ipi_{name}").exists():
        time.sleep(0.1)
    atoms.calc = PotentialCalculator(potential)
    SocketClient(unixsocket=name).run(atoms, use_stress=True)
    server.wait(60)
    return np.loadtxt(folder / "run.out")


if __name__ == "__main__":
    print(main(Path(tempfile.mkdtemp()), load_potential(Path(sys.argv[1])))[::20])
