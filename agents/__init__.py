"""Who reacts: deterministic steps over ordered streams."""
