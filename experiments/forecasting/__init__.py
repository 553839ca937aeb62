"""Forecasts scored, compared and shown: references, stability, costs, figures and the page."""
