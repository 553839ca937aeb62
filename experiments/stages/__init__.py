"""The commands, one file each; no stage imports another."""
