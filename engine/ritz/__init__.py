"""Partial differential equations by the variational method (deep Ritz)."""
