"""The steps of `understudy pipeline`: candidates, labels, held-out scores and the re-check."""
