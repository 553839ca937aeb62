"""Surrogates of scalar outputs as functions of scalar parameters."""
