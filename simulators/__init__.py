"""Expensive truth: one adapter a file, all answering through one protocol."""
