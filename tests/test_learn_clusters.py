"""Clusters are sampled the same every time, labelled once, and split by walks."""

import ase.io
import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.emt import EMT

from scalebridge.engine.errors import InputError
from scalebridge.engine.jobs import assemble
from scalebridge.engine.learn.clusters import ClusterWalks, LabelJob, split_walks
from scalebridge.engine.learn.execution import Serial
from scalebridge.engine.learn.labelers.quantum import AseLabeler
from scalebridge.engine.run import Reporter
from scalebridge.engine.rundir import RunFolder
from scalebridge.engine.scenario import parse


def walks(frames=(4, 5), seed=1):
    return ClusterWalks(
        molecule("H2O"), frames, 3, (100.0, 200.0), 3.0, 5, 3, 0.5, 0.05, EMT, seed
    )


def test_samples_are_what_was_asked_for():
    frames = walks().sample()
    assert sorted(len(frame) for frame in frames) == [3] * 4 + [6] * 5
    again, other = walks().sample(), walks(seed=2).sample()
    assert all(
        np.array_equal(a.positions, b.positions) for a, b in zip(frames, again, strict=True)
    )
    assert not np.array_equal(frames[0].positions, other[0].positions)
    # sizes in turn: half of the list holds half of each size
    assert sorted(len(frame) for frame in frames[:5]) in ([3, 3, 6, 6, 6], [3, 3, 3, 6, 6])
    held = {frame.info["group"] for frame in frames if frame.info["held"]}
    assert held == {"1 molecules, walk 2", "2 molecules, walk 2"}


def test_labels_are_kept_and_the_last_walks_held_back(tmp_path):
    asked = []

    class Counting(EMT):
        def calculate(self, *args, **more):
            asked.append(1)
            super().calculate(*args, **more)

    job = LabelJob(walks(), AseLabeler(Counting, "counted"), Serial())
    with RunFolder.create(tmp_path / "run", "", {}) as folder:
        outcome = job.run(folder, Reporter(quiet=True))
        labelled = len(asked)
        job.run(folder, Reporter(quiet=True))
    assert len(asked) == labelled
    assert outcome.figures["frames"].value == 9
    train, test = split_walks(tmp_path / "run" / "dataset.extxyz", 3)
    groups = [{frame.info["group"] for frame in part} for part in (train, test)]
    assert len(train) + len(test) == 9
    assert not groups[0] & groups[1]
    assert len(ase.io.read(tmp_path / "run" / "test.extxyz", index=":")) == len(test)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"molecule": "H2Ox"}, "not in ASE's collection"),
        ({"frames": [0, 0]}, "at least one frame"),
    ],
)
def test_refusals(tmp_path, changes, sentence):
    data = {
        "version": 1, "kind": "label", "clusters": {"frames": [2]} | changes,
        "labeler": {"kind": "tblite"},
    }  # fmt: skip
    with pytest.raises(InputError, match=sentence):
        assemble(parse(data), tmp_path)
