"""Runs one peer of the gas benchmark in its own environment and prints seconds per step.

Usage: python gas.py bte NX NV BATCH | clawpack N | sharpclaw N
"""

import sys
import time


def best(step, repeat, inner):
    step(inner)
    times = []
    for _ in range(repeat):
        begun = time.perf_counter()
        step(inner)
        times.append((time.perf_counter() - begun) / inner)
    return min(times)


def bte(nx, nv, batch):
    """Second order in space, its RK2 BGK stepper, simple Kn, f64."""
    import torch
    from bte.dvm.solver import BGKSolver

    solver = BGKSolver(-0.5, 0.5, nx, -8.0, 8.0, nv, BC_type="periodic").double()
    x = torch.linspace(-0.5, 0.5, nx, dtype=torch.float64)[None, :, None]
    v = torch.linspace(-8, 8, nv, dtype=torch.float64)
    rho, t = 1 + 0.5 * torch.sin(6.2832 * x), 1 + 0.5 * torch.sin(6.2832 * x + 0.2)
    f = rho * torch.exp(-v * v / (2 * t)) / (6.2832 * t) ** 0.5
    solver.set_initial(0.1, f.expand(batch, -1, -1).contiguous())
    dt = 0.45 / nx / 8.0

    def run(count):
        with torch.no_grad():
            for _ in range(count):
                solver.step(dt)

    return best(run, 7, 20)


def claw(n, sharp):
    """2D Euler, 4 waves (Roe), as it comes: classic, or WENO5 with SSP-RK."""
    import numpy as np
    from clawpack import pyclaw, riemann

    solver = (pyclaw.SharpClawSolver2D if sharp else pyclaw.ClawSolver2D)(
        riemann.euler_4wave_2D
    )
    solver.all_bcs = pyclaw.BC.periodic
    domain = pyclaw.Domain([0.0, 0.0], [1.0, 1.0], [n, n])
    state = pyclaw.State(domain, solver.num_eqn)
    gamma = 1.4
    state.problem_data["gamma"] = gamma
    x, y = state.grid.p_centers
    rho = 1 + 0.2 * np.sin(2 * np.pi * (x + y))
    state.q[0], state.q[1], state.q[2] = rho, rho, rho
    state.q[3] = 1 / (gamma - 1) + rho
    solution = pyclaw.Solution(state, domain)
    solver.dt_variable, solver.dt_initial = False, 0.3 / n / 2.5
    solver.max_steps = 10**6
    solver.setup(solution)
    solver.dt = solver.dt_initial

    def run(count):
        for _ in range(count):
            solver.step(solution, True, 0.0, 1e9)

    return best(run, 7, 5)


if __name__ == "__main__":
    name, *sizes = sys.argv[1:]
    if name == "bte":
        print(bte(*(int(s) for s in sizes)))
    else:
        print(claw(int(sizes[0]), name == "sharpclaw"))
