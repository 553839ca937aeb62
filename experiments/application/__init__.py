"""What every command shares: the Hydra application, checked settings, run directories and their errors."""
