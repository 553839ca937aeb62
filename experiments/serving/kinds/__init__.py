"""How each kind of surrogate reads and answers the rows of requests."""
