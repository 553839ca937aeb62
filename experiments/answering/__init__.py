"""Cascades for answers: their rungs, their calibration, and a saved one as a simulator."""
