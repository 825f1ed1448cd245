"""Trainers: fit a learned module to labels."""
