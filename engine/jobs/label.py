"""From a labelling scenario to the job that makes the data set."""

from pathlib import Path

from ase import Atoms
from ase.build import molecule

from ..errors import InputError
from ..learn import execution
from ..learn.atoms import Configuration
from ..learn.clusters import ClusterWalks, LabelJob
from ..schema.label import ClustersSection, LabelScenario
from .learn import labeler_from


def assemble(scenario: LabelScenario, base: Path) -> LabelJob:
    """Return the job.

    Raises:
        InputError: an unknown molecule, or one that the labeler cannot treat, or a package
            is not installed.
    """
    clusters, labeler = scenario.clusters, labeler_from(scenario.labeler)
    mover = labeler_from(clusters.mover)
    one = _molecule(clusters)
    refusal = getattr(labeler, "refusal", lambda sample: "")(Configuration.of(one))
    if refusal:
        raise InputError(f"labeler: cannot treat {clusters.molecule}: {refusal}")
    return LabelJob(
        walks=ClusterWalks(
            molecule=one,
            frames=clusters.frames,
            walks=clusters.walks,
            temperatures=clusters.temperatures,
            spacing=clusters.spacing,
            warm=clusters.warm,
            stride=clusters.stride,
            time_step=clusters.timestep,
            rattle=clusters.rattle,
            calculator=mover.calculator,
            seed=scenario.seed,
        ),
        labeler=labeler,
        pool=execution.processes(scenario.workers)
        if scenario.workers
        else execution.serial,
        attempts=scenario.attempts,
    )


def _molecule(section: ClustersSection) -> Atoms:
    try:
        return molecule(section.molecule)
    except KeyError as error:
        raise InputError(
            f"clusters.molecule: {section.molecule} is not in ASE's collection"
        ) from error
