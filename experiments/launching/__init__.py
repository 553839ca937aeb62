"""Commands whose shards run as jobs of a batch system."""
