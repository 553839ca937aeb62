"""OpenFOAM cases: packaged ones, and any case directory with parameters."""
