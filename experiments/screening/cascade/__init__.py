"""Screens by a ladder of rungs from cheap to expensive, with a promised share of the hits."""
