"""One examination of sets of labels, by training and by ``engine data``."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..errors import InputError
from .checks import Labels, check_placeholders
from .frames import LabelledFrame, pairs
from .reading import Reading, compared, verified

_SPOT = 0.01
"""Angstrom; two atoms nearer than this stand on one spot."""


@dataclass(frozen=True)
class Examination:
    """What was found in sets of labels.

    Attributes:
        readings: the sets, without a stress that does not count.
        said: what was read, and what the labels say of each other; one line each.
        refused: why nothing can be trained on them; one line each.
    """

    readings: tuple[Reading, ...]
    said: tuple[str, ...]
    refused: tuple[str, ...]

    @property
    def frames(self) -> list[LabelledFrame]:
        """The frames of all sets."""
        return [frame for reading in self.readings for frame in reading.frames]

    def accepted(self) -> "Examination":
        """Return this.

        Raises:
            InputError: something is refused.
        """
        if self.refused:
            raise InputError(self.refused[0])
        return self


def examine(readings: Sequence[Reading], use: Labels | None = None) -> Examination:
    """Hold the labels of sets against each other; ``use`` says which count, or all."""
    use = use or Labels()
    said, refused, found = [], [], []
    frames = [frame for reading in readings for frame in reading.frames]
    try:
        check_placeholders(frames, use)
    except InputError as error:
        refused.append(str(error))
    refused += _on_one_spot(frames)
    for reading in readings:
        said += reading.sentences
        try:
            if use.energy and use.force:
                said += compared(reading)
            if use.virial and any(f.virial is not None for f in reading.frames):
                reading, more = verified(reading)
                said += more
        except InputError as error:
            refused.append(str(error))
        found.append(reading)
    return Examination(tuple(found), tuple(said), tuple(refused))


def _on_one_spot(frames: Sequence[LabelledFrame]) -> Iterator[str]:
    """Yield a sentence about the first frame with two atoms on one spot."""
    for frame in frames:
        i, j, _ = pairs(frame, _SPOT)
        if len(i):
            yield f"{frame.origin}: atoms {i[0]} and {j[0]} are on one spot"
            return


__all__ = ["Examination", "examine"]
