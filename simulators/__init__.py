"""Simulators: adapters of expensive programs and libraries, one per file, with one common protocol."""
