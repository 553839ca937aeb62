"""Geometries with energies and forces: readers of frames, batches, neighbours and trajectories."""
