"""States of the atmosphere: names, units, windows of states in the order of time, and their statistics."""
