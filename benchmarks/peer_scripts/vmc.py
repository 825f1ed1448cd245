"""Runs one peer of the VMC benchmark in its own environment and prints its course.

FermiNet with kfac-jax 0.0.8 needs a JAX that still has ``device_put_replicated``: not 0.10.

Usage: python vmc.py ferminet SYSTEM SECONDS | netket SITES SECONDS

Both stop after SECONDS of CPU.
The last line is a JSON list of ``[CPU seconds since the start of the process, energy]``,
one entry per step; imports, compilation and pretraining count.
"""

import json
import os
import sys
import time

os.environ["XLA_FLAGS"] = (
    "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)
os.environ["JAX_PLATFORMS"] = "cpu"

SYSTEMS = {
    "He": ([("He", (0.0, 0.0, 0.0))], (1, 1)),
    "Be": ([("Be", (0.0, 0.0, 0.0))], (2, 2)),
    "LiH": ([("Li", (0.0, 0.0, 0.0)), ("H", (0.0, 0.0, 3.015))], (2, 2)),
}


class Over(Exception):
    """The time is up."""


class Course:
    """Takes the place of FermiNet's writer of statistics."""

    def __init__(self, seconds):
        self.seconds, self.rows = seconds, []

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        return False

    def write(self, iteration, *, energy, **others):
        """Note one step.

        Raises:
            Over: it was the last.
        """
        self.rows.append((time.process_time(), float(energy)))
        if self.rows[-1][0] > self.seconds:
            raise Over


def ferminet(name, course):
    """FermiNet of the size of our default network; KFAC as it comes.

    Different from its defaults are the sizes (3 layers of 32 and 16, 8 determinants, 512
    walkers), the first move width and the burn-in (its 0.02 and 100 steps leave walkers
    unequilibrated), and 300 steps of pretraining in place of 1000.
    """
    import tempfile

    from ferminet import base_config, train
    from ferminet.utils import system

    atoms, electrons = SYSTEMS[name]
    cfg = base_config.default()
    cfg.system.molecule = [system.Atom(symbol, where) for symbol, where in atoms]
    cfg.system.electrons = electrons
    cfg.batch_size = 512
    cfg.network.ferminet.hidden_dims = ((32, 16),) * 3
    cfg.network.determinants = 8
    cfg.mcmc.move_width, cfg.mcmc.burn_in = 0.2, 300
    cfg.pretrain.iterations = 300
    cfg.optim.iterations = 100_000
    with tempfile.TemporaryDirectory() as folder:
        cfg.log.save_path, cfg.log.save_frequency = folder, 1e9
        train.train(base_config.resolve(cfg), writer_manager=course)


def netket(sites, course):
    """Transverse-field Ising ring with NetKet's symmetric RBM and natural gradient.

    Density 4 and 1024 samples as ours; the shift falls as in NetKet's tutorials.
    """
    import netket as nk
    import optax

    graph = nk.graph.Chain(sites)
    space = nk.hilbert.Spin(0.5, sites)
    hamiltonian = nk.operator.IsingJax(space, graph, h=1.0, J=-1.0)
    model = nk.models.RBMSymm(
        graph.translation_group(), alpha=4, use_visible_bias=False, param_dtype=float
    )
    sampler = nk.sampler.MetropolisLocal(space, n_chains=1024, sweep_size=sites)
    state = nk.vqs.MCState(
        sampler, model, n_samples=1024, n_discard_per_chain=0, seed=1, sampler_seed=1
    )
    driver = nk.driver.VMC_SR(
        hamiltonian,
        nk.optimizer.Sgd(0.02),
        variational_state=state,
        diag_shift=optax.linear_schedule(1e-2, 1e-4, 200),
    )

    def note(step, log_data, driver):
        course.write(step, energy=log_data["Energy"].mean.real)
        return True

    driver.run(100_000, out=None, show_progress=False, callback=note)


def main():
    """See the module."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    kind, what, seconds = sys.argv[1:]
    course = Course(float(seconds))
    try:
        if kind == "ferminet":
            ferminet(what, course)
        else:
            netket(int(what), course)
    except Over:
        pass
    print(json.dumps(course.rows))


if __name__ == "__main__":
    main()
