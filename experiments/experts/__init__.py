"""Growing a mixture by an expert for new data, and pruning it by distillation."""
