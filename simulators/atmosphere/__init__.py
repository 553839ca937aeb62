"""Simulators of the atmosphere: readers of reanalyses, and dynamical cores."""
