"""Steady flow around bodies on unstructured meshes, by NGSolve."""
