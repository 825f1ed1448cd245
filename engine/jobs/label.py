"""From a labelling scenario to the job that makes the data set."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.build import molecule
from pydantic import TypeAdapter, ValidationError

from ..errors import InputError
from ..learn.atoms import Configuration
from ..learn.clusters import ClusterWalks, LabelJob
from ..learn.execution import Processes, Serial
from ..learn.labelers import LABELERS, check_labeler
from ..scenario import override
from ..schema.base import choice
from ..schema.label import ClustersSection, LabelScenario


def assemble(scenario: LabelScenario, base: Path) -> LabelJob:
    """Return the job.

    Raises:
        InputError: an unknown molecule, or one that labeler or mover cannot treat, or a
            package is not installed.
    """
    clusters = scenario.clusters
    one = _molecule(clusters)
    sample = [Configuration.of(one, clusters.molecule)]
    check_labeler(scenario.labeler, sample)
    check_labeler(clusters.mover, sample, "clusters.mover")
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
            calculator=clusters.mover.calculator,
            seed=scenario.seed,
        ),
        labeler=scenario.labeler,
        pool=Processes(scenario.workers) if scenario.workers else Serial(),
        attempts=scenario.attempts,
    )


def labeler_of(kind: str, settings: Sequence[str] = ()) -> Any:
    """Return the labeler that a command line asks for.

    Args:
        kind: as in a scenario's ``[labeler]``.
        settings: ``key=value``.

    Raises:
        InputError: unknown kind, key or value (one line each), or its package is not
            installed.
    """
    data = override({"kind": kind}, settings)
    try:
        labeler: Any = TypeAdapter(choice(LABELERS)).validate_python(data)
    except ValidationError as error:
        said = [
            f"labeler {'.'.join(map(str, e['loc'])) or kind}: {e['msg']}"
            for e in error.errors()
        ]
        raise InputError("\n".join(said)) from error
    check_labeler(labeler)
    return labeler


def _molecule(section: ClustersSection) -> Atoms:
    try:
        return molecule(section.molecule)
    except KeyError as error:
        raise InputError(
            f"clusters.molecule: {section.molecule} is not in ASE's collection"
        ) from error
