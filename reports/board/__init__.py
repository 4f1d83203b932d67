"""The board: a static site of a repository of results."""
