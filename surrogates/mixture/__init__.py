"""Mixtures: several surrogates of one question, each asked where it learned."""
