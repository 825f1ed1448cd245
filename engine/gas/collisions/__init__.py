"""Collisions of two atoms: potentials, scattering, transport coefficients, molecules."""
