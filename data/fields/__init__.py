"""Fields on uniform grids: readers of files and stores, checks, and batches."""
