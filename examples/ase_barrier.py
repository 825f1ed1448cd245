"""Our potential in ASE's nudged elastic band: how a vacancy in silicon moves."""

import sys
from pathlib import Path

import numpy as np
from ase.build import bulk
from ase.mep import NEB
from ase.optimize import FIRE

from scalebridge.engine.interop.ase import PotentialCalculator
from scalebridge.engine.md.classical import StillingerWeber
from scalebridge.engine.md.learned import load_potential
from scalebridge.engine.md.potential import Potential


def main(potential: Potential) -> np.ndarray:
    """Return the energies (eV) along the path, relative to its beginning."""
    first = bulk("Si", cubic=True) * (2, 2, 2)
    hole, near = first.positions[0].copy(), np.argsort(first.get_distances(0, range(64)))[1]
    first = first[[near, *(k for k in range(1, 64) if k != near)]]
    images = [first.copy() for _ in range(5)]
    images[-1].positions[0] = hole
    for image in images:
        image.calc = PotentialCalculator(potential)
    for end in images[:: len(images) - 1]:
        FIRE(end, logfile=None).run(fmax=0.02, steps=300)
    band = NEB(images, climb=True, method="improvedtangent")
    band.interpolate(mic=True)
    FIRE(band, logfile=None).run(fmax=0.05, steps=300)
    energies = np.array([image.get_potential_energy() for image in images])
    return energies - energies[0]


if __name__ == "__main__":
    model = load_potential(Path(sys.argv[1])) if len(sys.argv) > 1 else StillingerWeber()
    print(main(model))
