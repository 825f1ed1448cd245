"""Label a list of structures outside the loop, with the same store."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ase import Atoms

from ..data import structures
from ..data.frames import group_of
from ..protocols import Labeler
from ..run import interruptible
from .atoms import CONFIGURATIONS, LABELS, AtomsLabel, Configuration
from .audit import write_dataset
from .execution import Pool, label_all, opened
from .label_store import LabelStore, identity


@dataclass(frozen=True)
class Labelled:
    """Result of labelling a list of structures.

    Attributes:
        done: how many have labels.
        reasons: structure number -> why it has none.
        path: the labelled data set.
    """

    done: int
    reasons: dict[int, str]
    path: Path


def read_structures(
    path: Path, tell: Callable[[str], None] = lambda text: None
) -> list[Configuration]:
    """Read all structures of a file.

    Args:
        path: of the file.
        tell: hears what the structures hold that no label depends on.

    Raises:
        InputError: not readable, or empty.
    """
    found = structures.read_structures(path)
    if unused := sorted({name for atoms in found for name in _unused(atoms)}):
        tell(f"{path}: not used: {', '.join(unused)}")
    return [Configuration.of(atoms, group_of(atoms.info)) for atoms in found]


def _unused(atoms: Atoms) -> set[str]:
    """Return what a structure holds besides atoms in a cell and their group."""
    found = structures.named(atoms) - _USED
    return {*found, "constraints"} if atoms.constraints else found


_USED = {"numbers", "positions", "id", "type", "group", "config_type"}


def label_structures(
    samples: Sequence[Configuration],
    labeler: Labeler[Configuration, AtomsLabel],
    out: Path,
    pool: Pool,
    attempts: int = 3,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> Labelled:
    """Label all samples and write ``out/dataset.extxyz``; labels in ``out`` are kept.

    Args:
        samples: structures.
        labeler: the micro-scale model.
        out: folder of the store; calling again asks only for what is missing.
        pool: where labels are computed.
        attempts: failures after which a structure is given up.
        tell: hears how many are done.

    Raises:
        Interrupted: asked to stop; finished labels are kept.
    """
    folder = out / "labels"
    folder.mkdir(parents=True, exist_ok=True)
    store = LabelStore(folder, identity(labeler), CONFIGURATIONS, LABELS)
    with opened(pool) as line, interruptible() as asked:
        label_all(line, store, labeler, samples, attempts, asked, tell)
    dataset, reasons = [], {}
    for number, sample in enumerate(samples):
        key = store.key(sample)
        entry = store.get(key)
        if entry is None:
            reasons[number] = store.failures(key)[-1]
        else:
            dataset.append((sample, entry.label))
    path = out / "dataset.extxyz"
    if dataset:
        write_dataset(path, dataset)
    return Labelled(len(dataset), reasons, path)
