"""The store of simulation records: append-only, resumable and checked."""
