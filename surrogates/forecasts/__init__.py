"""Forecasters of the atmosphere: surrogates that step states on the sphere."""
