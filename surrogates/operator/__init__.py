"""Operators between fields on grids: what they are made of, and surrogates of solvers made of them."""
