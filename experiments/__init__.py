"""Hydra configurations and the `understudy` command."""
