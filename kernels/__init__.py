"""The numbers: pure functions on arrays. No input or output, no clock, no log."""
