"""Molecular dynamics and relaxation with a potential, in batches."""
