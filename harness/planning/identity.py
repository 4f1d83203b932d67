"""What decides that two results are the same: version numbers of the records."""

SCHEMA = 1
"""Version of the records of a cell; another one means that its rows are not read."""
