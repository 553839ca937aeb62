"""Faults made on purpose: kills, changed bytes and broken files, and what becomes of them."""
