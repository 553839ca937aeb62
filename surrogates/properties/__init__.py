"""Surrogates of molecular properties from the 2D graph."""
