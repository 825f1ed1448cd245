"""Simulators, the learning loop and the command line."""

import os

# Threads of torch that wait by spinning take the cores from the kernels' own threads
# (thirty times slower on a busy machine); read when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
