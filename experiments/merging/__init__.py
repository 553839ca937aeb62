"""`understudy merge`: one output of all shards of it, equal to that of a command without shards."""
