"""Layers that several kinds of network share, and the settings of a network as JSON."""
