"""Copies of stores and of runs in buckets, each object verified."""
