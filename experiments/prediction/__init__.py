"""Answers of a trained surrogate for all rows, frames or samples of a file, in a file of the same kind."""
