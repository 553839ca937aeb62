"""Files for other programs: records of a store as frames or tables, and networks as StableHLO."""
