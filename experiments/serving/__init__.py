"""A trained surrogate behind HTTP: bodies, batches, limits, metrics and routes."""
