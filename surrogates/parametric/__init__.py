"""Surrogates of numbers that are decided by numbers."""
