"""Learned interatomic potentials, a part each, and the table of those that are shipped."""

from ..parts import Family

POTENTIALS = Family(
    "potential",
    __name__,
    {
        "cluster_expansion": "cluster_expansion:ClusterExpansion",
        "smooth_edition": "deep_potential:SmoothEdition",
        "higher_moments": "deep_potential:HigherMoments",
        "local_frame": "local_frame:LocalFrame",
        "behler_parrinello": "behler_parrinello:BehlerParrinello",
        "unconstrained": "unconstrained:Unconstrained",
        "whole_box": "whole_box:WholeBox",
        "zbl_sum": "sums:ZblSum",
    },
)
"""Forms of potentials; each has ``build(seed)``, ``species`` and ``cutoff``."""

__all__ = ["POTENTIALS"]
