"""Active learning of a potential: its own dynamics explores, uncertain frames are labelled, and it is trained again."""
