"""Graph networks over molecules, in two dimensions and in three."""
