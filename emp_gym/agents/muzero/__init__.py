"""Gumbel MuZero with chance nodes: a planner that learns its own model of what happens next."""
