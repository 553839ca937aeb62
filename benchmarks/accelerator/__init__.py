"""One prepared run for an accelerator: correctness, rates, precisions, scaling with the batch, and whole commands."""
