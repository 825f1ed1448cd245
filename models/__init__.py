"""Learned modules in plain torch; imports nothing of the engine."""
