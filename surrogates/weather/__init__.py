"""Forecasts of the atmosphere: networks on the sphere, and surrogates made of them."""
