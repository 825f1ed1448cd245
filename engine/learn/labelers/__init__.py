"""Labelers: answer a sample with the micro-scale model."""
