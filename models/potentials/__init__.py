"""Learned interatomic potentials."""
