"""The data of a pre-training: molecules of a table, and geometries of them in thermal motion."""
