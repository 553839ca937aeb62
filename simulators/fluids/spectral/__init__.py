"""Equations on periodic boxes, by the spectral solvers of exponax."""
