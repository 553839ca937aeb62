"""Forecasts of the atmosphere: what they are scored by, what they are held against, and the page that shows it."""
