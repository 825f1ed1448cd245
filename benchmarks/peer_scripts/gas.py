"""Runs one peer of the gas races in its own environment, on one thread.

Prints the seconds of CPU time of a whole run and its error (or the density itself):
    python gas.py vortex N clawpack COURANT
    python gas.py vortex N sharpclaw COURANT SSP33|SSP104 [waves]
    python gas.py wave NX NV
"""

import json
import sys
import time


def vortex(n, program, courant, integrator="", waves=""):
    """Once across the box, with the step that the program chooses at a Courant number.

    Classic: second order, transverse waves, van Leer's limiter. SharpClaw: WENO5 of the
    components or of the ``waves``, by one of its integrators. The start and the exact end
    are means over the cells (three Gauss points an axis).
    """
    import numpy as np
    from clawpack import pyclaw, riemann

    if program == "sharpclaw":
        solver = pyclaw.SharpClawSolver2D(riemann.euler_4wave_2D)
        solver.weno_order, solver.time_integrator = 5, integrator
        solver.char_decomp = int(waves == "waves")
    else:
        solver = pyclaw.ClawSolver2D(riemann.euler_4wave_2D)
        solver.limiters = pyclaw.limiters.tvd.vanleer
    solver.cfl_desired, solver.cfl_max = float(courant), 1.05 * float(courant)
    solver.all_bcs = pyclaw.BC.periodic
    domain = pyclaw.Domain([-5.0, -5.0], [5.0, 5.0], [n, n])
    state = pyclaw.State(domain, solver.num_eqn)
    gamma = 1.4
    state.problem_data["gamma"] = gamma
    x, y = state.grid.p_centers
    mean = 0.0
    points, weights = np.polynomial.legendre.leggauss(3)
    h = 5.0 / n
    for a, wa in zip(points, weights, strict=True):
        for b, wb in zip(points, weights, strict=True):
            mean = mean + 0.25 * wa * wb * _vortex(x + a * h, y + b * h, gamma)
    state.q[:] = mean
    solution = pyclaw.Solution(state, domain)
    solver.dt_initial, solver.max_steps = 0.1 * 10.0 / n, 10**6
    solver.setup(solution)
    begun = time.process_time()
    solver.evolve_to_time(solution, 10.0)
    seconds = time.process_time() - begun
    return seconds, float(np.abs(state.q[0] - mean[0]).mean())


def _vortex(x, y, gamma):
    """The isentropic vortex of strength 5 in a stream (1, 1); conserved variables."""
    import numpy as np

    turn = 5.0 / (2 * np.pi) * np.exp(0.5 * (1.0 - x * x - y * y))
    rho = (1.0 - 0.5 * (gamma - 1.0) / gamma * turn * turn) ** (1.0 / (gamma - 1.0))
    u, v, p = 1.0 - y * turn, 1.0 + x * turn, rho**gamma
    energy = p / (gamma - 1.0) + 0.5 * rho * (u * u + v * v)
    return np.stack([rho, rho * u, rho * v, energy])


def wave(nx, nv):
    """A wave of a rarefied gas to t = 0.1 at Kn 0.1; prints density means of 50 cells."""
    import torch
    from bte.dvm.solver import BGKSolver

    torch.set_num_threads(1)
    solver = BGKSolver(-0.5, 0.5, nx, -8.0, 8.0, nv, BC_type="periodic").double()
    x = (torch.arange(nx, dtype=torch.float64)[None, :, None] + 0.5) / nx - 0.5
    v = torch.linspace(-8, 8, nv, dtype=torch.float64)
    rho = 1 + 0.5 * torch.sin(2 * torch.pi * x)
    t = 1 + 0.5 * torch.sin(2 * torch.pi * x + 0.2)
    f = rho * torch.exp(-v * v / (2 * t)) / (2 * torch.pi * t) ** 0.5
    solver.set_initial(0.1, f.contiguous())
    steps = -(-0.1 // (0.9 / nx / 8.0))
    steps = int(steps)
    begun = time.process_time()
    with torch.no_grad():
        for _ in range(steps):
            solver.step(0.1 / steps)
    seconds = time.process_time() - begun
    density = solver.dis.f.sum(-1).flatten() * float(v[1] - v[0])
    return seconds, density.reshape(50, -1).mean(1).tolist()


if __name__ == "__main__":
    name, *sizes = sys.argv[1:]
    if name == "vortex":
        print(*vortex(int(sizes[0]), *sizes[1:]))
    else:
        print(json.dumps(wave(*(int(s) for s in sizes))))
