"""Kafka and Redis on one machine without containers: for a small site, for the tests, for chaos."""
