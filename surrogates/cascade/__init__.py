"""Ladders of rungs from cheap to expensive: thresholds that keep a promised share of the hits."""
