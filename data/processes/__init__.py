"""Processes that parse foreign files and may die of it, and the processor time of processes."""
