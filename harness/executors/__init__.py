"""Where the quality pass runs."""
