"""Simulators, the learning loop and the command line."""
