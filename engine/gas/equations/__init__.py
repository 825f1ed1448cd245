"""What is advanced: fluxes, what cannot be written as one, relaxation, speeds, walls."""
