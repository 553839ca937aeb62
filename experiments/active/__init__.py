"""Active learning of a potential: explore with its own dynamics, label what it is unsure of, learn, and again."""
