"""Training and scoring of each kind of surrogate: read, split, fit, score."""
