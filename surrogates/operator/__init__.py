"""Neural operators between fields on grids, and the surrogates of solvers that use them."""
