"""What machine this is, its peaks, its roof."""
