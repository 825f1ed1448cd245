"""Physics certificates: what a learned module must obey, measured with one vocabulary."""
