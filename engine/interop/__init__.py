"""Doors to other programs: ASE, i-PI, exporters, the stepping API."""
