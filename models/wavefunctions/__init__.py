"""Neural wavefunctions."""

from ..parts import Family

WAVEFUNCTIONS = Family(
    "wavefunction",
    __name__,
    {
        "determinant": "determinant:DeterminantForm",
        "attention": "attention:AttentionForm",
        "slater_jastrow": "slater:SlaterJastrowForm",
        "deepwf": "deepwf:DeepWfForm",
        "rbm": "rbm:RbmForm",
    },
)
"""Forms of wavefunctions. Each has ``build(system, seed)``, which returns the module, and
``space``, which is ``continuum`` or ``lattice`` as that of the systems it describes."""

__all__ = ["WAVEFUNCTIONS"]
