"""Distillation: light surrogates that learn the answers of an expensive one."""
