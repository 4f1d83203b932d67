"""What `harness.train` is made of: data, simulated clicks, schedule, checkpoints, the loop."""
