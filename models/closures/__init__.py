"""Learned moment closures, one part each; a package from outside adds ``closure.KIND``.

A part has ``build(seed)``, which returns a torch module whose ``config`` is the part. The
class variable ``contract`` says what the module is:

* ``faces``: ``FaceStencil -> ClosureOutput`` (:mod:`.contract`), what the moment solver,
  the audit and the comparisons of flows take; the part has ``order`` and ``length``;
* ``recurrence``: recurrence coefficients of six moments to b_3 (:mod:`.recurrence`);
* ``moments``: Hermite moments to themselves, through fewer numbers (:mod:`.autoencoder`).
"""

from ..parts import Family
from .contract import ClosureOutput, FaceStencil

CLOSURES = Family(
    "closure",
    __name__,
    {
        "local_closure": "local:LocalForm",
        "face_closure": "face:FaceForm",
        "spectral_closure": "spectrum:SpectrumForm",
        "recurrence_closure": "recurrence:RecurrenceForm",
        "entropy_closure": "entropy:EntropyForm",
        "moment_autoencoder": "autoencoder:AutoencoderForm",
    },
)

__all__ = ["CLOSURES", "ClosureOutput", "FaceStencil"]
