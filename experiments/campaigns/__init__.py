"""Requests to simulators: the simulator that a command names, what it is asked, and what surrogates stand on."""
