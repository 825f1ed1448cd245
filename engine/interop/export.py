"""Export of learned potentials: metatomic, plain TorchScript, a program of torch.export.

A metatomic model is TorchScript that LAMMPS, i-PI, GROMACS, ASE and torch-sim load without
any code of ours. The program that loads it finds the neighbours and differentiates. A
program of ``torch.export``, the successor of TorchScript, takes rows of neighbours.
"""

import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from ase.data import atomic_numbers
from torch import Tensor, nn

from ..errors import EngineError, InputError
from ..md.learned import load_module
from ..runtime import dtype_of


class AtomicEnergies(nn.Module):
    """Energies of the atoms from a list of pairs, mean over the members of a committee.

    The forward pass is TorchScript: pairs are put into rows of slots, one row for each
    atom, and the traced potential evaluates the rows.
    """

    atomic_numbers: Tensor

    def __init__(self, potential: nn.Module) -> None:
        super().__init__()
        numbers = [atomic_numbers[symbol] for symbol in potential.species]  # type: ignore[union-attr]
        self.cutoff: float = float(potential.cutoff)  # type: ignore[arg-type]
        self.rows = _traced(potential)
        table = torch.full((max(atomic_numbers.values()) + 1,), -1, dtype=torch.int64)
        table[numbers] = torch.arange(len(numbers))
        self.register_buffer("atomic_numbers", table)

    def forward(
        self, displacements: Tensor, centres: Tensor, neighbours: Tensor, numbers: Tensor
    ) -> Tensor:
        """Return the energy of every atom.

        Args:
            displacements: ``[pairs, 3]`` angstrom, neighbour minus centre; every pair in
                both directions, pairs beyond the cutoff allowed.
            centres: ``[pairs]`` int64 atom in the centre.
            neighbours: ``[pairs]`` int64 neighbour atom.
            numbers: ``[atoms]`` int64 atomic numbers.

        Returns:
            ``[atoms]`` eV, f64.
        """
        near = displacements.detach().square().sum(1) < self.cutoff**2
        displacements = displacements[near]
        centres, neighbours = centres[near], neighbours[near]
        order = torch.argsort(centres, stable=True)
        centres, neighbours = centres[order], neighbours[order]
        atoms = numbers.shape[0]
        counts = torch.bincount(centres, minlength=atoms)
        first = torch.cumsum(counts, 0) - counts
        column = torch.arange(centres.shape[0], device=centres.device) - first[centres]
        # two slots at least, so that a trace made with several stays valid
        slots = max(int(counts.max()), 2) if atoms > 0 else 2
        species = self.atomic_numbers[numbers]
        vectors = displacements.new_zeros((atoms, slots, 3))
        vectors = vectors.index_put((centres, column), displacements[order])
        kinds = torch.zeros((atoms, slots), dtype=torch.int64, device=centres.device)
        kinds = kinds.index_put((centres, column), species[neighbours])
        mask = torch.zeros((atoms, slots), dtype=torch.bool, device=centres.device)
        mask = mask.index_put((centres, column), torch.ones_like(centres, dtype=torch.bool))
        return self.rows(vectors, kinds, mask, species)


class _Rows(nn.Module):
    """Mean over the committee, as one function of tensors to be traced."""

    def __init__(self, potential: nn.Module) -> None:
        super().__init__()
        self.potential = potential

    def forward(
        self, displacements: Tensor, kinds: Tensor, mask: Tensor, species: Tensor
    ) -> Tensor:
        return self.potential(displacements, kinds, mask, species).mean(0)


def _example(potential: nn.Module, atoms: int, slots: int) -> tuple[Tensor, ...]:
    """Return rows of neighbours in which every species stands, some slots empty."""
    count, precision = len(potential.species), next(potential.parameters()).dtype  # type: ignore[arg-type]
    generator, shape = torch.Generator().manual_seed(atoms), (atoms, slots)
    d = torch.randn(*shape, 3, generator=generator, dtype=torch.float64).to(precision)
    kinds = torch.arange(atoms * slots).reshape(shape) % count
    mask = kinds.new_tensor(range(slots)) < slots - 1 - kinds % 2
    return d, kinds, mask, torch.arange(atoms) % count


def _traced(potential: nn.Module) -> Any:
    """Trace the potential with rows in which every species stands."""
    count = len(potential.species)  # type: ignore[arg-type]
    single = next(potential.parameters()).dtype == torch.float32
    with torch.no_grad(), warnings.catch_warnings():
        # the branches that it warns of depend on shapes of weights, which are constants
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        return torch.jit.trace(
            _Rows(potential).eval(),
            _example(potential, 2 * count + 3, count + 4),
            check_inputs=[_example(potential, 1, 2)],
            check_tolerance=1e-4 if single else 1e-10,
        )


def to_program(potential: nn.Module) -> torch.export.ExportedProgram:
    """Return a potential as a program of ``torch.export``, for any number of atoms.

    It takes ``displacements [atoms, slots, 3]`` angstrom (neighbour minus centre), ``kinds
    [atoms, slots]`` and ``species [atoms]`` (int64 places in the potential's species) and
    ``mask [atoms, slots]`` (which slots are taken), with two atoms and slots or more, and
    returns the energy of each atom, ``[atoms]`` eV, mean over a committee. Its module is
    differentiable: forces are gradients by ``displacements``.

    Raises:
        InputError: the form is written in a way that torch.export does not take.
    """
    count = len(potential.species)  # type: ignore[arg-type]
    # without a largest size the symbolic bounds overflow where sizes are added
    atoms, slots = (torch.export.Dim(n, min=2, max=1 << 30) for n in ("atoms", "slots"))
    rows = {0: atoms, 1: slots}
    shapes = (rows, rows, rows, {0: atoms})
    example = _example(potential, 2 * count + 3, count + 4)
    model = _Rows(potential).eval()
    try:
        # what a form cannot be exported for is one line, not the tracer's whole graph
        with redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()), _unlogged():
            return torch.export.export(model, example, dynamic_shapes=shapes)
    except Exception as error:  # it raises whatever its tracer meets
        said = str(error).splitlines()[0]
        name = type(potential).__name__
        raise InputError(f"{name}: torch.export does not take it: {said}") from error


@contextmanager
def _unlogged() -> Iterator[None]:
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        yield
    finally:
        logging.disable(before)


def to_torchscript(potential: nn.Module) -> torch.jit.ScriptModule:
    """Return :class:`AtomicEnergies` of a potential as TorchScript."""
    return torch.jit.script(AtomicEnergies(potential).eval())


def to_metatomic(potential: nn.Module, card: Mapping[str, Any]) -> Any:
    """Return a potential as a metatomic ``AtomisticModel`` with the output ``energy``.

    Args:
        potential: of ``models.potentials``; its precision becomes the model's.
        card: of the model; title, units and sources enter the metadata.

    Raises:
        EngineError: the optional packages are not installed.
    """
    try:
        from . import metatomic_model
    except ImportError as error:
        raise EngineError(
            "metatomic is not installed: pip install 'scalebridge[export]'"
        ) from error
    precision = next(potential.parameters()).dtype
    return metatomic_model.wrap(to_torchscript(potential), potential, precision, card)


FORMS: Mapping[str, str] = {"metatomic": ".pt", "torchscript": ".pt", "program": ".pt2"}
"""Form -> suffix of its files."""


def export(model: Path, to: str, target: Path, precision: str = "f64") -> Path:
    """Write a saved potential in another form.

    Args:
        model: path of the weights.
        to: ``metatomic``, ``torchscript`` or ``program`` (of ``torch.export``).
        target: file to write; the suffix ``.pt``, or ``.pt2`` of a program, is put where
            there is none.
        precision: ``f32`` or ``f64``.

    Returns:
        The file.

    Raises:
        InputError: the model is no potential, or the form is unknown.
        DamagedFileError: the model's content does not match its hash.
    """
    from ...models.card import read_card

    if to not in FORMS:
        raise InputError(f"--to {to}: allowed are {', '.join(FORMS)}")
    module = load_module(model, precision)
    if not hasattr(module, "species"):
        raise InputError(f"{model}: is no potential, so it cannot be exported")
    module = module.to(dtype_of(precision))
    target = target if target.suffix else target.with_suffix(FORMS[to])
    if to == "metatomic":
        to_metatomic(module, read_card(model)).save(str(target))
    elif to == "program":
        torch.export.save(to_program(module), target)
    else:
        to_torchscript(module).save(str(target))
    return target


__all__ = [
    "FORMS",
    "AtomicEnergies",
    "export",
    "to_metatomic",
    "to_program",
    "to_torchscript",
]
