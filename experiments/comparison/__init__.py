"""A solver and its surrogates compared so that the answer can be trusted: at equal error, or at equal cost.

After McGreivy and Hakim, Nature Machine Intelligence 2024 (arXiv:2407.07218): compare at equal accuracy or equal run
time, and with an efficient solver. The solver runs in batches, on a ladder of coarser grids and longer steps; the
reference is first compared with its own refinement; nothing is extrapolated; and where the solver is better, the table
and the page say so.
"""
