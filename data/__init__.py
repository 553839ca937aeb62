"""Stores, readers of files, splits and batches of fixed shape: all that lies between a file and a typed sample."""
