"""Learned moment closures."""
