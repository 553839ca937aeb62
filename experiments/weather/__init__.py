"""Evaluation of weather forecasts: scores, reference forecasts, long runs, costs, and the page that shows them."""
