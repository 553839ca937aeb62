"""What the stages with a surrogate to apply share with the others: base settings, objectives."""
