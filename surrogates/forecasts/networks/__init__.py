"""Architectures of forecasters."""
