"""Training that begins from a saved model."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_potential_expansion import SMALL, labelled, random_weights

from scalebridge.engine.errors import InputError
from scalebridge.engine.jobs.train import assemble
from scalebridge.engine.learn.trainers.linear import LeastSquares, fit, install
from scalebridge.engine.learn.trainers.tables import TrainingSet
from scalebridge.engine.scenario import parse
from scalebridge.models.card import save_module
from scalebridge.models.potentials.deep_potential import HigherMoments

FORM = replace(SMALL, degrees=(10.0, 9.0, 8.0, 5.0), members=2)


def test_few_labels_change_a_fitted_model_and_do_not_replace_it():
    """Three frames alone teach less than three frames on top of what was known."""
    errors, known = {}, None
    many, few = labelled(24), labelled(3, 300)
    for name, frames in (("old", many), ("start", few), ("new", few)):
        data = TrainingSet.of(frames, ("Si",), FORM.cutoff, torch.float64)
        model = FORM.build().double()
        if name == "start":
            assert known is not None
            model.load_state_dict(known.state_dict())
        *_, (_, _, solution) = fit(model, data, LeastSquares(folds=3), 1)
        install(model, solution.mean, solution.draws)
        errors[name] = solution.held.force_rmse
        known = model if name == "old" else known
    assert errors["start"] < 0.7 * errors["new"]


def test_a_scenario_begins_from_either_form(tmp_path):
    from ase import Atoms
    from ase.io import write

    atoms = []
    for frame in labelled(8):
        each = Atoms(frame.symbols, frame.positions, cell=frame.cell, pbc=True)
        each.info["energy"], each.arrays["forces"] = frame.energy, frame.forces
        atoms.append(each)
    write(tmp_path / "labels.xyz", atoms, columns=["symbols", "positions", "forces"])
    save_module(tmp_path / "linear.safetensors", random_weights(FORM), {})
    network = HigherMoments(("Si",), 4.2, members=1).build(1)
    save_module(tmp_path / "network.safetensors", network, {})

    def job(**keys):
        given = {"version": 1, "kind": "train", "data": "labels.xyz", **keys}
        return assemble(parse({"title": "t", **given}, "test"), tmp_path)

    assert job(start="linear.safetensors").begun.members == 2
    begun = job(start="network.safetensors", steps=1).begun
    assert torch.equal(begun.radial.mix, network.radial.mix)
    for keys, words in (
        ({"start": "linear.safetensors", "steps": 5}, "steps: has no use"),
        ({"start": "network.safetensors", "loss": {"kind": "least_squares"}}, "loss.kind"),
        ({"start": "none.safetensors"}, "none"),
        ({"start": "linear.safetensors", "model": {"kind": "higher_moments"}}, "model"),
    ):
        with pytest.raises(InputError, match=words):
            job(**keys)
    foreign = Atoms("Ge2", [[0, 0, 0], [0, 0, 2.4]], cell=np.eye(3) * 9, pbc=True)
    foreign.info["energy"] = -1.0
    foreign.arrays["forces"] = np.array([[0, 0, 1.0], [0, 0, -1.0]])
    write(tmp_path / "labels.xyz", [foreign] * 8)
    with pytest.raises(InputError, match="Ge is in the data; the model knows Si"):
        job(start="linear.safetensors")
