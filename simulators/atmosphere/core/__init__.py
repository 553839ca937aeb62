"""The dynamical core of the atmosphere, by dinosaur."""
