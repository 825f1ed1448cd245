"""Trainers: fit a learned module to labels."""

from ....models.parts import Family

LOSSES = Family(
    "loss",
    __name__,
    {
        "plain": "potential:PlainLoss",
        "prefactors": "potential:PrefactorLoss",
        "least_squares": "linear:LeastSquares",
    },
)
"""What the training of a potential minimises; see :class:`.potential.PlainLoss`."""

__all__ = ["LOSSES"]
