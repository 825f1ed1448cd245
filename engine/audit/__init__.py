"""Physics certificates of learned modules and gradient certificates."""
