"""Simulators of flows: solvers of partial differential equations on grids and meshes."""
