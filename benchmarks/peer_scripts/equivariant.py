"""Trains MACE by its own program in its own environment, then lets it predict frames.

Usage: python equivariant.py TRAIN TEST EPOCHS STAGE_TWO OPTION...

The frames are extended XYZ; the folder it runs in is filled. EPOCHS and STAGE_TWO say
how many there are and where the second stage begins; OPTIONs are those of
``mace_run_train``. What is found stands in record.json: CPU ``seconds`` from the start of
the training to the end of each epoch, the number of ``parameters``, and ``energies`` (eV)
and ``forces`` (eV/angstrom) of the frames of TEST.
"""

import json
import logging
import sys
import time
from pathlib import Path

NAME = "peer"


class Clock(logging.Handler):
    """Notes the CPU time at which each epoch is reported."""

    def __init__(self):
        super().__init__()
        self.times = []

    def emit(self, record):
        """Look at one message; the first is of the weights before the first epoch."""
        if record.getMessage().startswith(("Initial", "Epoch")):
            self.times.append(time.process_time())


def main():
    """See the module."""
    import ase.io
    import torch
    from mace import tools
    from mace.calculators import MACECalculator
    from mace.cli.run_train import run

    torch.set_num_threads(1)
    train, test, epochs, stage_two, *options = sys.argv[1:]
    clock = Clock()
    logging.getLogger().addHandler(clock)
    given = [
        f"--name={NAME}", f"--train_file={train}", "--energy_key=energy",
        "--forces_key=forces", f"--max_num_epochs={epochs}", "--stage_two",
        f"--start_stage_two={stage_two}", "--device=cpu", "--plot=False", *options,
    ]  # fmt: skip
    run(tools.build_default_arg_parser().parse_args(given))
    path = f"{NAME}_stagetwo.model"
    precision = next(o.split("=")[1] for o in options if o.startswith("--default_dtype"))
    calculator = MACECalculator(model_paths=path, device="cpu", default_dtype=precision)
    energies, forces = [], []
    for atoms in ase.io.read(test, index=":"):
        atoms.calc = calculator
        energies.append(float(atoms.get_potential_energy()))
        forces.append(atoms.get_forces().tolist())
    begun, *ends = clock.times
    record = {
        "seconds": [end - begun for end in ends],
        "parameters": sum(p.numel() for p in calculator.models[0].parameters()),
        "energies": energies,
        "forces": forces,
    }
    Path("record.json").write_text(json.dumps(record))


if __name__ == "__main__":
    main()
