"""The click loop, the annotators, and the quality pass."""
