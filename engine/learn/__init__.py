"""Concurrent learning: explore, label, train."""
