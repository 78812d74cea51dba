"""A market from outside: a random walk with a constant spread."""
