"""Sweeps: one run of a stage for each combination of values, here or as jobs of a queue, and their table."""
