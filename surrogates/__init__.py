"""The learned stand-ins: JAX, Flax NNX and Optax."""
