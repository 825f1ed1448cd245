"""Jobs of variational Monte Carlo."""

import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import runtime
from ..errors import InputError
from ..protocols import Job
from ..run import Simulation
from ..rundir import RunFolder
from ..schema.base import Common, locate, of_a_record
from ..schema.vmc import SamplingSection, VmcScanScenario, VmcScenario
from ..vmc.batch import Batch, Curve
from ..vmc.batch import headline as batch_headline
from ..vmc.electrons import MOVES, Electrons, needed_bytes
from ..vmc.excited import Lifted, Lower
from ..vmc.hamiltonian import Continuous, Molecule, molecule
from ..vmc.hartree_fock import BASIS
from ..vmc.parameters import Flat
from ..vmc.results import Finish, Reference, headline
from ..vmc.scan import Scan
from ..vmc.solve import START_STREAM, Solver
from ..vmc.spins import Spins, lattice_bytes
from ..vmc.verdicts import mean_field
from ..vmc.world import Problem, Vmc

LATTICE_MOVES = 10
"""Proposals for every site in a sweep of a lattice."""
LOWER_STREAM = 1 << 43
"""Random stream of the samples of lower states."""


def assemble(scenario: VmcScenario | VmcScanScenario, base: Path) -> Job:
    """Return the job of one system, or of a scan.

    Raises:
        InputError: impossible charge or spin, coinciding nuclei, unknown elements, a
            wavefunction that does not fit, no such core potential, more electrons than the
            memory holds, no such device, or Hartree-Fock orbitals without PySCF or in a
            basis that it lacks.
    """
    need_device(scenario)
    if isinstance(scenario, VmcScanScenario):
        return _scan(scenario)
    problem, sampling = make_problem(scenario), scenario.sampling
    if scenario.excited is not None:
        problem = _lifted(problem, scenario, base)
    asked, seed = scenario.evaluation, scenario.seed
    world = Vmc(
        problem, scenario.optimiser, sampling.walkers, scenario.seed, sampling.burn_in
    )

    def initial() -> Any:
        return world.init(runtime.generator(seed, START_STREAM))

    return Simulation(
        world=world,
        initial=initial,
        steps=scenario.iterations,
        time_step=1.0,
        report_every=1,
        checkpoint_every=scenario.checkpoint_every,
        headline=headline(problem),
        finish=Finish(
            problem,
            seed,
            asked.sweeps,
            asked.forces,
            asked.spin,
            asked.density,
            asked.tolerance,
            _reference(problem, scenario.wavefunction),
            _basis(scenario.wavefunction),
        ),
    )


def need_device(scenario: Common) -> None:
    """Refuse a device that is not here, and take the threads of the process.

    Raises:
        InputError: cuda is asked for and not available.
    """
    if scenario.device == "cuda" and not torch.cuda.is_available():
        raise InputError("device: cuda is not available here; allowed: cpu")
    torch.set_num_threads(runtime.threads())


def _reference(problem: Problem, form: Any) -> Reference | None:
    """Return the Hartree-Fock energy, or None where there is none."""
    found = mean_field(problem, _basis(form))
    if found is None:
        return None  # a form that needs it has refused already
    begins = hasattr(form, "basis") and getattr(form, "orbitals", "") != "none"
    return Reference(*found, begins)


def _basis(form: Any) -> str:
    """Return the basis of Hartree-Fock: that of the wavefunction, if it has one."""
    return getattr(form, "basis", BASIS)


def _scan(scenario: VmcScanScenario) -> Job:
    sampling, asked = scenario.sampling, scenario.evaluation

    def make(molecule: Molecule) -> Electrons:
        where = (scenario.precision, scenario.seed, scenario.device)
        return electrons(molecule, scenario.wavefunction, sampling, *where)

    solver = Solver(
        make, scenario.optimiser, sampling.walkers, scenario.seed,
        scenario.first_iterations, scenario.iterations,
        asked.sweeps, asked.forces, sampling.burn_in,
    )  # fmt: skip
    points = scenario.points
    common = (scenario.charge, scenario.spin, scenario.core)
    molecules = [molecule(scenario.symbols, point.positions, *common) for point in points]
    for each in molecules:
        make(each)  # refuses what cannot be built
    scan = Scan(
        solver,
        molecules,
        [point.coordinate for point in points],
        scenario.axis,
        [math.nan if point.reference is None else point.reference for point in points],
        [math.nan if point.ccsd_t is None else point.ccsd_t for point in points],
        scenario.differences,
        _basis(scenario.wavefunction),
    )
    return _together(scan, scenario) if scenario.together else scan


def _together(scan: Scan, scenario: VmcScanScenario) -> Job:
    """Return the job that solves all geometries of a scan at once.

    Raises:
        InputError: the walkers of all need more memory than the device has.
    """
    sampling, seed = scenario.sampling, scenario.seed
    every = {"walkers": len(scan.molecules) * sampling.walkers}
    _check_memory(
        scan.molecules[0],
        scenario.wavefunction,
        sampling.model_copy(update=every),
        scenario.precision,
        scenario.device,
    )
    batch = Batch(
        [scan.solver.make(molecule) for molecule in scan.molecules],
        scenario.optimiser,
        sampling.walkers,
        seed,
        sampling.burn_in,
    )
    return Simulation(
        world=batch,
        initial=lambda: batch.init(runtime.generator(seed, START_STREAM)),
        steps=scenario.first_iterations,
        time_step=1.0,
        report_every=1,
        checkpoint_every=100,
        headline=batch_headline,
        finish=Curve(scan, batch),
    )


def make_problem(scenario: VmcScenario) -> Problem:
    """Return Hamiltonian and wavefunction of a scenario.

    An excited state has other first weights than those below it have with the same seed:
    at one of them it would stay.

    Raises:
        InputError: as :func:`assemble`.
    """
    form, sampling, system = scenario.wavefunction, scenario.sampling, scenario.system
    hamiltonian = system.hamiltonian()
    below = len(scenario.excited.above) if scenario.excited else 0
    where = (scenario.precision, scenario.seed + below, scenario.device)
    if system.space == "continuum":
        return electrons(hamiltonian, form, sampling, *where)
    moves = LATTICE_MOVES if sampling.moves is None else sampling.moves
    chunk = sampling.chunk or Spins.chunk
    if _counts(form):
        sites = math.prod(hamiltonian.shape)
        needed = lattice_bytes(
            sites, getattr(form, "alpha", 1) * sites, form.parameter_count(hamiltonian),
            sampling.walkers, moves, chunk, runtime.dtype_of(scenario.precision).itemsize,
        )  # fmt: skip
        what = f"{sites} spins with {sampling.walkers} walkers"
        _refuse_beyond(needed, what, scenario.device)
    return Spins(hamiltonian, _built(form, hamiltonian, *where), moves, chunk)


def _lifted(problem: Problem, scenario: VmcScenario, base: Path) -> Lifted:
    """Return a problem above the states of finished runs.

    Raises:
        InputError: a folder holds no run of this system that was finished.
    """
    assert isinstance(problem, Electrons)
    assert scenario.excited is not None
    lower = []
    folders = [locate(path, base).resolve() for path in scenario.excited.above]
    for number, (path, folder) in enumerate(
        zip(scenario.excited.above, folders, strict=True)
    ):
        if folder in folders[:number]:
            raise InputError(f"excited.above: {path} is named twice; every state once")
        known, state, asked = _finished(folder)
        if asked.system != scenario.system:
            raise InputError(
                f"excited.above: {path} is the run of another system; every state needs "
                "the same nuclei and electrons"
            )
        rng = runtime.generator(
            scenario.seed, LOWER_STREAM + number, state["walkers"].device
        )
        lower.append(Lower.sampled(known, state["walkers"], state["width"], rng))
    own = {each.name: getattr(problem, each.name) for each in fields(Electrons)}
    return Lifted(**own, lower=tuple(lower), penalty=scenario.excited.penalty)


def electrons(
    hamiltonian: Continuous,
    form: Any,
    sampling: SamplingSection,
    precision: str,
    seed: int,
    device: str = "cpu",
) -> Electrons:
    """Return a continuous problem.

    Args:
        hamiltonian: what is solved.
        form: of the wavefunction (a part of the family ``wavefunction``).
        sampling: how walkers move.
        precision: ``f32`` or ``f64``.
        seed: of the first weights.
        device: where it runs.

    Raises:
        InputError: it needs more memory than the machine has, or does not fit the form.
    """
    _check_memory(hamiltonian, form, sampling, precision, device)
    flat = _built(form, hamiltonian, precision, seed, device)
    moves = MOVES if sampling.moves is None else sampling.moves
    chunk = _chunk(hamiltonian, form, sampling)
    return Electrons(hamiltonian, flat, moves, sampling.exchange, chunk=chunk)


PASS = 2**20
"""Numbers of one array of features of a pass of jets, so that it stays in the cache; with
fewer the host is busy with calls."""


def _chunk(hamiltonian: Continuous, form: Any, sampling: SamplingSection) -> int:
    """Return how many walkers pass the network at once."""
    if sampling.chunk is not None:
        return sampling.chunk
    count, dim = hamiltonian.electrons, hamiltonian.dim
    one = (count * dim + 2) * count * getattr(form, "width", 8)
    return min(max(PASS // one, 128), 512)


def _check_memory(
    hamiltonian: Continuous,
    form: Any,
    sampling: SamplingSection,
    precision: str,
    device: str,
) -> None:
    """Refuse a step that the device cannot hold, before Hartree-Fock is solved.

    Raises:
        InputError: it needs more memory than the device has, or does not fit the form.
    """
    count, dim = hamiltonian.electrons, hamiltonian.dim
    try:
        size = form.parameter_count(hamiltonian) if _counts(form) else 0
    except ValueError as error:
        raise InputError(f"wavefunction: {error}") from error
    pairs = form.pair_numbers(count, dim) if hasattr(form, "pair_numbers") else dim + 2
    side_by_side = 1 if device == "cuda" else runtime.threads()
    chunk = min(_chunk(hamiltonian, form, sampling) * side_by_side, sampling.walkers)
    needed = needed_bytes(
        count, dim, sampling.walkers, chunk, size, getattr(form, "width", 8), pairs,
        getattr(form, "layers", 0), getattr(form, "determinants", 1),
        runtime.dtype_of(precision).itemsize,
    )  # fmt: skip
    what = f"{hamiltonian.electrons} electrons with {sampling.walkers} walkers"
    _refuse_beyond(needed, what, device)


def _refuse_beyond(needed: int, what: str, device: str) -> None:
    """Refuse what needs more bytes than the device has.

    Raises:
        InputError: it does.
    """
    if device == "cuda":
        present, where = torch.cuda.get_device_properties(0).total_memory, "the device"
    else:
        present = runtime.available_memory()
        where = "this machine"
    if needed > present:
        raise InputError(
            f"system: {what} need about {needed / 2**30:.1f} GiB, {where} has "
            f"{present / 2**30:.1f}; lower sampling.walkers, sampling.chunk or the size of "
            "system and wavefunction"
        )


def _counts(form: Any) -> bool:
    return callable(getattr(form, "parameter_count", None))


def _built(form: Any, system: Any, precision: str, seed: int, device: str) -> Flat:
    try:
        module = form.build(system, seed)
    except ValueError as error:
        raise InputError(f"wavefunction: {error}") from error
    return Flat(module.to(device, runtime.dtype_of(precision)))


def trained_wavefunction(folder: Path) -> Electrons:
    """Return the problem of a finished run of kind ``vmc`` with its averaged parameters.

    Raises:
        InputError: not such a run, or it holds no checkpoint.
        DamagedFileError: the checkpoint does not match its hash.
    """
    return _finished(folder)[0]


def _finished(folder: Path) -> tuple[Electrons, dict[str, Tensor], VmcScenario]:
    """Return the wavefunction of a run, the state of its checkpoint, and its scenario."""
    from ..scenario import parse

    with RunFolder.open(folder) as opened:
        with of_a_record():
            scenario = parse(opened.resolved["scenario"], str(folder / "resolved.json"))
        checkpoint = opened.newest_checkpoint()
    if not isinstance(scenario, VmcScenario) or checkpoint is None:
        raise InputError(f"{folder}: no run of kind vmc with a checkpoint")
    problem = make_problem(scenario)
    if not isinstance(problem, Electrons):
        raise InputError(
            f"{folder}: only wavefunctions of electrons, not spins on a lattice"
        )
    state = {
        name.removeprefix("state/"): value for name, value in checkpoint.tensors.items()
    }
    return problem.at(state["average"]), state, scenario


__all__ = ["assemble", "electrons", "make_problem", "need_device", "trained_wavefunction"]
