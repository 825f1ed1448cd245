"""Moment and fluid solvers: Euler, Navier-Stokes-Fourier, Grad, HME, learned."""
