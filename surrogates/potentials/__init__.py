"""Interatomic potentials: energies, forces and stresses from geometries."""
