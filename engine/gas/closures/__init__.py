"""How learned closures stand in moment equations: ensembles, several axes."""
