"""Published numbers and what they may be compared with."""
