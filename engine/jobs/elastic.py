"""From a scenario of elastic constants to the job that finds them."""

from pathlib import Path

from ..errors import InputError
from ..interop.elastic import ElasticJob
from ..md.initial import fills_its_cell
from ..md.interactions import Place
from ..md.structure import check_structure, from_atoms
from ..schema.elastic import ElasticScenario


def assemble(scenario: ElasticScenario, base: Path) -> ElasticJob:
    """Read the model, make the crystal, check that they fit.

    Raises:
        InputError: the model is missing, the potential does not know the element, or the
            crystal has unequal edges or a vacuum.
    """
    if len(set(scenario.structure.repeat)) > 1:
        raise InputError("structure.repeat: the same number of cells along every edge")
    potential = scenario.potential.potential(Place(scenario.precision, base=base))
    atoms = scenario.structure.atoms(base, scenario.seed)
    if not fills_its_cell(scenario.structure, atoms):
        raise InputError("structure.vacuum: elastic constants are of a whole crystal")
    check_structure(from_atoms(atoms, potential.species), potential.cutoff, "structure")
    return ElasticJob(
        atoms,
        scenario.structure.repeat[0],
        potential,
        scenario.strain,
        scenario.expected,
        scenario.agreement,
    )
