"""A set of labelled frames as both explorer and labeler: what is chosen has its label."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from ..errors import InputError
from ..protocols import Committee
from .atoms import (
    CONFIGURATIONS,
    LABELS,
    AtomsLabel,
    Configuration,
    deviations,
    structure_key,
)
from .label_store import LabelError, fingerprint

_ENERGY = 0.01
"""eV per atom by which labels of the same atoms may differ, by accuracy of one method."""

_FORCE = 0.1
"""eV/angstrom, likewise of forces."""


def check_agreement(frames: Iterable[tuple[Configuration, AtomsLabel]]) -> None:
    """Refuse labels of the same atoms that are not of one method.

    Raises:
        InputError: names the groups of both, and by what they differ.
    """
    first: dict[str, tuple[Configuration, AtomsLabel]] = {}
    for sample, label in frames:
        other, known = first.setdefault(structure_key(sample), (sample, label))
        energy = abs(label.energy - known.energy) / len(sample.numbers)
        force = float((label.forces - known.forces).abs().max())
        if energy > _ENERGY or force > _FORCE:
            raise InputError(
                f"the same {len(sample.numbers)} atoms have two labels, in "
                f"{other.stratum} and in {sample.stratum}: {energy:.3g} eV per atom and "
                f"{force:.3g} eV/angstrom apart; allowed: {_ENERGY:g} and {_FORCE:g}; "
                "keep those of one method"
            )


@dataclass(frozen=True)
class LabelledSet:
    """Frames whose labels are known.

    Attributes:
        frames: key of the structure -> frame and label.
    """

    frames: Mapping[str, tuple[Configuration, AtomsLabel]]

    @staticmethod
    def of(frames: Sequence[tuple[Configuration, AtomsLabel]]) -> "LabelledSet":
        """Take over a list; of equal structures the last is kept.

        Raises:
            InputError: labels of one structure contradict each other.
        """
        check_agreement(frames)
        return LabelledSet({structure_key(frame[0]): frame for frame in frames})

    @cached_property
    def identity(self) -> str:
        """Names the set by all that it holds."""
        hashes = [
            fingerprint({**CONFIGURATIONS.pack(sample), **LABELS.pack(label)}, "")
            for sample, label in self.frames.values()
        ]
        return "set " + fingerprint({}, "".join(sorted(hashes)))

    def drawn(self, count: int, rng: torch.Generator) -> list[Configuration]:
        """Return ``count`` frames of every stratum, or all, drawn at random."""
        strata: dict[str, list[Configuration]] = {}
        for sample, _ in self.frames.values():
            strata.setdefault(sample.stratum, []).append(sample)
        return [
            samples[k]
            for samples in strata.values()
            for k in torch.randperm(len(samples), generator=rng)[:count].tolist()
        ]

    def explore(
        self, committee: Committee, rng: torch.Generator
    ) -> Iterator[Configuration]:
        """Yield all frames with the deviation of the committee."""
        samples = [sample for sample, _ in self.frames.values()]
        found = deviations(committee, samples).tolist()
        for sample, deviation in zip(samples, found, strict=True):
            yield replace(sample, deviation=deviation)

    def label(self, sample: Configuration) -> AtomsLabel:
        """Return the label of a frame.

        Raises:
            LabelError: the set does not hold it.
        """
        key = structure_key(sample)
        if key not in self.frames:
            raise LabelError("not of the set")
        return self.frames[key][1]


__all__ = ["LabelledSet", "check_agreement"]
