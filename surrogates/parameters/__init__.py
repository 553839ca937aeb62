"""Surrogates from numbers to numbers, such as the drag of a body."""
