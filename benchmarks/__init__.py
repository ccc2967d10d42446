"""What `twinroom bench` runs."""
