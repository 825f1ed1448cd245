"""Comparisons and sensitivities that use the engine and are no part of it.

Each is a variant of the scenario kind ``study``, named by the key ``study``.
"""

from .schema import StudyScenario

__all__ = ["StudyScenario"]
