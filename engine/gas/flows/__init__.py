"""Random and standard flows that train and test closures."""
