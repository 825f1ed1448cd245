"""Variational Monte Carlo."""
