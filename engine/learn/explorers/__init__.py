"""Explorers: where the next samples come from."""
