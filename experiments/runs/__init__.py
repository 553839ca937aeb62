"""Runs as they lie on the disk: their state while they are under way, and tables of them."""
