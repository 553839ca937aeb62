"""Flows: solvers of partial differential equations on grids and meshes."""
