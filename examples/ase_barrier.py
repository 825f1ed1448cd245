"""Our potential in ASE's nudged elastic band: how a vacancy in silicon moves.

Run: python examples/ase_barrier.py [MODEL.safetensors]
"""

import sys
from pathlib import Path

import numpy as np
from ase.build import bulk
from ase.mep import NEB
from ase.optimize import FIRE

from scalebridge.engine.bridge.ase import PotentialCalculator
from scalebridge.engine.md.classical import StillingerWeber
from scalebridge.engine.md.learned import load_potential
from scalebridge.engine.md.potential import Potential


def main(potential: Potential) -> np.ndarray:
    """Return the energies (eV) along the path, relative to its beginning."""
    cell = bulk("Si", cubic=True) * (2, 2, 2)
    near = np.argsort(cell.get_distances(0, range(len(cell)), mic=True))[1]
    first = cell[[near, *(k for k in range(len(cell)) if k not in (0, near))]]
    last = first.copy()
    last.positions[0] = cell.positions[0]
    images = [first, *(first.copy() for _ in range(3)), last]
    for image in images:
        image.calc = PotentialCalculator(potential)
    for end in (first, last):
        FIRE(end, logfile=None).run(fmax=0.02, steps=300)
    band = NEB(images, climb=True, method="improvedtangent")
    band.interpolate(mic=True)
    FIRE(band, logfile=None).run(fmax=0.05, steps=300)
    energies = np.array([image.get_potential_energy() for image in images])
    return energies - energies[0]


if __name__ == "__main__":
    model = load_potential(Path(sys.argv[1])) if len(sys.argv) > 1 else StillingerWeber()
    print(main(model))
