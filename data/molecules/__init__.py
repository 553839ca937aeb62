"""Molecules: readers and writers of their files, graphs, batches and prepared libraries."""
