"""Neural operators: surrogates of fields on uniform grids."""
