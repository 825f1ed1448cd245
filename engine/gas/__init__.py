"""Gas dynamics: kinetic and moment solvers on one grid with one vocabulary.

Everything is non-dimensional: a reference density, temperature ``T0`` and length ``L``; the
unit of velocity is ``sqrt(R T0)``, so that ``p = rho T``. A state carries a batch of
independent problems on its leading axis, each with its own initial condition and its own
Knudsen number. ``D`` is the number of velocity dimensions of the gas; it fixes
``gamma = (D + 2) / D``.

====================  =======================================================
``grid``              :class:`~.grid.Grid`, cells of a box in 1, 2 or 3 dimensions
``boundaries``        periodic, open, inflow, wall (specular to diffuse, moving)
``material``          :class:`~.material.Gas`: D, viscosity law, Prandtl number
``initial``           initial conditions, one part each
``problem``           :class:`~.problem.Problem`: what all models of a flow share
``kinetic.world``     :class:`~.kinetic.world.KineticWorld`: discrete velocities, BGK family
``kinetic.boltzmann`` Maxwell molecules by the fast spectral method
``equations``         what is advanced: Hermite and Grad-13 moments, recurrence
                      coefficients; :mod:`.equations.fluid`: Euler, Navier-Stokes-Fourier
``scheme``            :class:`~.scheme.finite_volume.MomentWorld`: moment equations on a
                      grid, any closure, any boundary; the positivity fallback
``closures``          ensembles of learned closures, and closures of several axes
``exact``             solutions known in closed form or by one quadrature
``references``        what the result of a problem is compared with
``observe``           the shared names of what is measured, guards
====================  =======================================================
"""
