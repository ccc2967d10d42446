"""What moves batches to the agents."""
