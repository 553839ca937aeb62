"""Surrogates of flows on unstructured meshes."""
