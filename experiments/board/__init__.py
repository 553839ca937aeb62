"""The board: one page of the runs below a folder, which follows those under way and compares chosen ones."""
