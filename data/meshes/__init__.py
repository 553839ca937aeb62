"""Flows on unstructured meshes: the samples, and the mesh as a graph."""
