"""Architectures of neural operators."""
