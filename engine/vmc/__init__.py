"""Variational Monte Carlo: systems, sampling, optimisation, evaluation."""

from ...models.parts import Family

SYSTEMS = Family(
    "system",
    __name__,
    {
        "molecule": "hamiltonian:Nuclei",
        "trap": "hamiltonian:Trap",
        "electron_gas": "electron_gas:ElectronGas",
        "ising": "lattice:Ising",
        "heisenberg": "lattice:Heisenberg",
    },
)
"""What can be solved. Each has ``hamiltonian()``, and ``space``, which is ``continuum`` or
``lattice``."""

OPTIMISERS = Family(
    "optimiser", __name__, {"spring": "optimiser:Spring", "adam": "optimiser:Adam"}
)
"""How parameters change (:class:`~.optimiser.Optimiser`)."""

__all__ = ["OPTIMISERS", "SYSTEMS"]
