"""Screening a library of any size: sources, chunks, workers, results and their ledger."""
