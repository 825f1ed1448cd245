"""Inverse problems: the forces between atoms from what is measured of many of them."""
