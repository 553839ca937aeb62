"""Benchmarks beside other programs: each module prints a table and writes `runs/bench/<name>.json`."""
