"""What flows: rows, topics, clock, bus, store, recordings."""
