"""Gas dynamics: kinetic and moment solvers on one grid with one vocabulary."""
