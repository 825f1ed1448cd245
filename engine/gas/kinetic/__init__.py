"""Discrete-velocity solvers of the kinetic equation."""
