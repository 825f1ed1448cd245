"""Neural wavefunctions."""
