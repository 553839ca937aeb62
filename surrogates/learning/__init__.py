"""What every kind of surrogate shares: the training loop, checkpoints, devices, conformal intervals and metrics."""
