"""Architectures of interatomic potentials."""
