"""The account of a run: its numbers as typed objects, its figures, and one page that holds them."""
