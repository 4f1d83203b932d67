"""Templates of the board."""
