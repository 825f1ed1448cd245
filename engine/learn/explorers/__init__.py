"""Explorers: run the current committee and yield what it meets."""
