"""Side-by-side runs against peers: each module prints a table and writes `runs/bench/<name>.json`."""
