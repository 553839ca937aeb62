"""The atmosphere: reanalysis, and a dynamical core."""
