"""Hydra configurations: one YAML a choice."""
