"""Explorers, which generate samples with the committee, and the structures they start from.

An explorer of structures is a part with ``explorer(starts, trusted)``, which returns an
:class:`~....protocols.Explorer` that begins at ``starts`` and goes on up to the deviation
``trusted``. A start is a part with ``structure(base, seed)``,
which returns its atoms.
"""

from ....models.parts import Family

EXPLORERS = Family(
    "explorer",
    __name__,
    {
        "dynamics": "dynamics:Dynamics",
        "distortions": "structures:Distortions",
        "flows": "gas:Flows",
    },
)
"""Every way to explore that a scenario can name."""

STARTS = Family(
    "start",
    __name__,
    {
        "crystal": "starts:Crystal",
        "liquid": "starts:Liquid",
        "molecule": "starts:Molecule",
        "file": "starts:File",
    },
)
"""Every structure at which exploring can begin."""

__all__ = ["EXPLORERS", "STARTS"]
