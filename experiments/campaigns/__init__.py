"""Requests to simulators: the simulator that a command names, what it is asked, and differences to its answers."""
