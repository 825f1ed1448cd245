"""Our potential in ASE's workflows: relaxation of a crystal, and its phonons.

Run: python examples/ase_workflow.py [MODEL.safetensors]
"""

import sys
import tempfile
from pathlib import Path

from ase.build import bulk
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS
from ase.phonons import Phonons
from ase.units import invcm

from scalebridge.engine.interop.ase import PotentialCalculator
from scalebridge.engine.md.classical import StillingerWeber
from scalebridge.engine.md.learned import load_potential
from scalebridge.engine.md.potential import Potential


def main(folder: Path, potential: Potential) -> tuple[float, float]:
    """Return silicon's lattice constant (angstrom) and optical mode (1/cm)."""
    atoms = bulk("Si", a=5.3)
    atoms.calc = PotentialCalculator(potential)
    BFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=1e-4)
    phonons = Phonons(atoms, atoms.calc, (2, 2, 2), delta=0.01, name=str(folder / "phonon"))
    phonons.run()
    phonons.read(acoustic=True)
    optical = phonons.band_structure([[0, 0, 0]])[0, -1] / invcm
    return (4 * atoms.get_volume()) ** (1 / 3), float(optical)


if __name__ == "__main__":
    model = load_potential(Path(sys.argv[1])) if len(sys.argv) > 1 else StillingerWeber()
    constant, optical = main(Path(tempfile.mkdtemp()), model)
    print(f"a = {constant:.4f} A (measured 5.431), optical mode {optical:.0f} / cm (519)")
