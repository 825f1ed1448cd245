"""Labelers: micro-scale models that answer one sample."""
