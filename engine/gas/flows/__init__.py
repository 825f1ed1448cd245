"""Random and standard flows that train and test closures."""

HELD_OUT = 20190413
"""Seed of the frozen test flows; no training may use it."""
