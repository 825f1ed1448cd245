"""How moment equations are advanced: one scheme for all, and its positivity fallback."""
