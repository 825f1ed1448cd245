"""Export: other programs get the forces that we have."""

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from click.testing import CliRunner

from scalebridge.engine.cli import main
from scalebridge.engine.errors import DamagedFileError, InputError
from scalebridge.engine.interop import export
from scalebridge.engine.md.learned import LearnedPotential
from scalebridge.engine.md.neighbours import build_neighbours
from scalebridge.engine.md.structure import from_atoms
from scalebridge.models.card import save_module
from scalebridge.models.potentials.cluster_expansion import ClusterExpansion
from scalebridge.models.potentials.deep_potential import HigherMoments, SmoothEdition

SPECIES = ("Na", "Cl")
FORMS = (
    HigherMoments(SPECIES, cutoff=4.5, members=2),
    SmoothEdition(SPECIES, cutoff=4.5, neurons=(8, 16), axis=4, fitting=(24, 24)),
)


def salt() -> Atoms:
    atoms = bulk("NaCl", "rocksalt", a=5.2, cubic=True) * (2, 1, 1)
    atoms.set_cell(atoms.cell.array + 0.4 * np.eye(3, k=1), scale_atoms=True)
    atoms.rattle(0.2, seed=1)
    return atoms


def native(form, atoms):
    potential = LearnedPotential(form.build(1).double().eval().requires_grad_(False))
    state = from_atoms(atoms, potential.species)
    return potential(state, build_neighbours(state, potential.cutoff, 0.3))


@pytest.fixture(scope="module", params=FORMS, ids=lambda form: type(form).__name__)
def saved(request, tmp_path_factory) -> tuple[object, Path]:
    path = tmp_path_factory.mktemp("model") / "salt.safetensors"
    save_module(path, request.param.build(1).double(), {"name": "salt"})
    return request.param, path


@pytest.fixture(scope="module")
def script(saved):
    return export.to_torchscript(saved[0].build(1).double().eval().requires_grad_(False))


@pytest.mark.parametrize(("precision", "bound"), [("f64", 1e-10), ("f32", 1e-4)])
def test_metatomic_through_its_ase_calculator(saved, tmp_path, precision, bound):
    metatomic_ase = pytest.importorskip("metatomic_ase", reason="extra `export`")
    form, path = saved
    file = export.export(path, "metatomic", tmp_path / "salt.pt", precision)
    atoms = salt()
    atoms.calc = metatomic_ase.MetatomicCalculator(file, device="cpu")
    ours = native(form, atoms)
    assert np.abs(atoms.get_forces() - ours.forces.numpy()).max() < bound
    assert abs(atoms.get_potential_energy() - float(ours.energy)) < bound
    stress = atoms.get_stress(voigt=False) * atoms.get_volume()
    assert np.abs(stress + ours.virial[0].numpy()).max() < 10 * bound
    each = atoms.calc.run_model(
        [atoms],
        {"energy": metatomic_output("atom")},
    )["energy"]
    assert each.block().values.shape == (len(atoms), 1)
    assert abs(float(each.block().values.sum()) - float(ours.energy)) < 10 * bound


def metatomic_output(kind):
    from metatomic.torch import ModelOutput

    return ModelOutput(unit="eV", sample_kind=kind)


def test_torchscript_alone_and_that_a_changed_weight_is_seen(saved, tmp_path):
    """The planted defect: one weight off by 1e-6 breaks the agreement at 1e-10."""
    form, path = saved
    file = export.export(path, "torchscript", tmp_path / "salt")
    script = torch.jit.load(file)
    atoms = salt()
    from ase.neighborlist import neighbor_list

    i, j, d = neighbor_list("ijD", atoms, 6.0)
    pairs = torch.tensor(d), torch.tensor(i), torch.tensor(j)
    numbers = torch.tensor(atoms.numbers, dtype=torch.int64)
    expected = float(native(form, atoms).energy)
    assert abs(float(script(*pairs, numbers).sum()) - expected) < 1e-10
    with torch.no_grad():
        next(iter(script.parameters())).view(-1)[0] += 1e-4
    assert abs(float(script(*pairs, numbers).sum()) - expected) > 1e-9


def test_a_cluster_expansion_is_exported_for_any_number_of_atoms():
    from ase.neighborlist import neighbor_list

    form = ClusterExpansion(SPECIES, cutoff=4.5, degrees=(5.0, 5.0, 4.0))
    module = form.build(1).double().eval().requires_grad_(False)
    module.weights.normal_(generator=torch.Generator().manual_seed(1))
    made, atoms = export.to_torchscript(module), salt()
    i, j, d = neighbor_list("ijD", atoms, 4.5)
    pairs = torch.tensor(d), torch.tensor(i), torch.tensor(j)
    energy = made(*pairs, torch.tensor(atoms.numbers, dtype=torch.int64)).sum()
    state = from_atoms(atoms, SPECIES)
    potential = LearnedPotential(module)
    ours = potential(state, build_neighbours(state, potential.cutoff, 0.3)).energy
    assert abs(float(energy) - float(ours)) < 1e-12 * len(i) + 1e-10 * abs(float(ours))


def test_a_program_of_torch_export_gives_energies_and_forces(saved, tmp_path):
    """For other numbers of atoms and slots than it was made with."""
    form, path = saved
    file = export.export(path, "program", tmp_path / "salt")
    assert file.suffix == ".pt2"
    program = torch.export.load(file).module()
    module = form.build(1).double().eval().requires_grad_(False)
    for atoms, slots in ((3, 9), (11, 2)):
        d, *rest = export._example(module, atoms, slots)
        ours, theirs = d.clone().requires_grad_(), d.clone().requires_grad_()
        expected = module(ours, *rest).mean(0)
        energy = program(theirs, *rest)
        assert energy.shape == (atoms,)
        assert float((energy - expected).abs().max()) < 1e-10
        expected.sum().backward()
        energy.sum().backward()
        assert float((ours.grad - theirs.grad).abs().max()) < 1e-10
    wrong = program(d, *rest[:2], 1 - rest[2])  # the planted defect: species exchanged
    assert float((wrong - expected).abs().max()) > 1e-6


def test_what_torch_export_does_not_take_is_named(capfd):
    class Branching(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.species, self.scale = SPECIES, torch.nn.Parameter(torch.ones(1))

        def forward(self, d, kinds, mask, species):
            return (d.sum((1, 2)) * self.scale)[None] if float(d.sum()) > 0 else d[None]

    with pytest.raises(InputError, match=r"Branching: torch\.export does not"):
        export.to_program(Branching())
    assert "".join(capfd.readouterr()) == ""  # nor is the graph of its tracer shown


@pytest.mark.parametrize("atoms", [Atoms("Na"), Atoms("Cl2", [[0, 0, 0], [0, 0, 2.0]])])
def test_single_atoms_and_absent_species(saved, script, atoms):
    """A trace must not remember how many atoms, slots or species it was made with."""
    form, _ = saved
    from ase.neighborlist import neighbor_list

    i, j, d = neighbor_list("ijD", atoms, 6.0)
    energy = script(
        torch.tensor(d).reshape(-1, 3),
        torch.tensor(i),
        torch.tensor(j),
        torch.tensor(atoms.numbers, dtype=torch.int64),
    )
    atoms.center(10.0)
    assert abs(float(energy.sum()) - float(native(form, atoms).energy)) < 1e-10


def test_the_command(saved, tmp_path):
    _, path = saved
    result = CliRunner().invoke(
        main, ["export", str(path), "--to", "torchscript", "--out", str(tmp_path / "a.pt")]
    )
    assert result.exit_code == 0 and (tmp_path / "a.pt").exists(), result.output
    result = CliRunner().invoke(main, ["export", str(tmp_path / "none.safetensors")])
    assert result.exit_code == 2 and "no card" in result.output


def test_a_damaged_or_unknown_model_is_not_exported(tmp_path):
    path = tmp_path / "salt.safetensors"
    save_module(path, FORMS[0].build(1), {})
    with pytest.raises(InputError, match="allowed are metatomic"):
        export.export(path, "onnx", tmp_path / "x")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedFileError, match="sha256"):
        export.export(path, "torchscript", tmp_path / "x")
