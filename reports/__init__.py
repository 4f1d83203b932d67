"""Tables, plots and pages from a finished sweep; computes nothing new about models."""
