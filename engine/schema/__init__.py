"""What may stand in a scenario file, one module per kind."""
