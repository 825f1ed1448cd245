"""The bonds of water: a potential's forces along them, and what its labels say of them.

Where configurations follow exp(-U / kT) with forces F = -grad U,

    <F.v> + k T <div v> = 0

for any field v of displacements that is bounded (O. G. Jepps, G. Ayton, D. J. Evans, Phys.
Rev. E 62, 4757, 2000). With v = (r - <r>) u of the hydrogen, u along its bond, that is the
temperature of the bonds' lengths, from labelled frames alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

BOLTZMANN = 8.617333262e-5
"""eV/K."""


@dataclass(frozen=True)
class Bonds:
    """Those of all frames.

    Attributes:
        length: ``[frames, bonds]`` angstrom.
        force: of the hydrogen away from its oxygen, ``[frames, bonds]`` eV/angstrom.
    """

    length: np.ndarray
    force: np.ndarray

    @staticmethod
    def of(frames: Sequence[Any], forces: Sequence[np.ndarray]) -> "Bonds":
        """Find the oxygen that is nearest to each hydrogen, in rectangular cells."""
        lengths, along = [], []
        for frame, force in zip(frames, forces, strict=True):
            oxygen = np.array(frame.symbols) == "O"
            apart = frame.positions[~oxygen][:, None] - frame.positions[oxygen]
            size = frame.cell.diagonal()
            apart -= size * np.round(apart / size)
            distance = np.linalg.norm(apart, axis=2)
            nearest = np.arange(len(distance)), distance.argmin(1)
            lengths.append(distance[nearest])
            unit = apart[nearest] / lengths[-1][:, None]
            along.append((force[~oxygen] * unit).sum(1))
        return Bonds(np.array(lengths), np.array(along))

    def temperature(self, parts: int) -> tuple[float, float]:
        """Return that of the lengths, K, and its error from parts of the frames in turn."""
        off = self.length - self.length.mean()
        work = -(off * self.force).mean(1) / BOLTZMANN
        spread = (1 + 2 * off / self.length).mean(1)
        each = [
            w.mean() / s.mean()
            for w, s in zip(
                np.array_split(work, parts), np.array_split(spread, parts), strict=True
            )
        ]
        return work.mean() / spread.mean(), float(np.std(each, ddof=1) / parts**0.5)

    def stiffness(self) -> float:
        """Return how the force falls with the length, eV/angstrom^2."""
        return -float(np.polyfit(self.length.ravel(), self.force.ravel(), 1)[0])
