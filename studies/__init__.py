"""What runs once and ends: truth, observation models, prepare, figures."""
