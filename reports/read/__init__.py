"""A run's folder or server, read into frames."""
