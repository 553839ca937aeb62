"""An interface for programs that act for a person: what there is, what it costs, runs, results, failures."""
