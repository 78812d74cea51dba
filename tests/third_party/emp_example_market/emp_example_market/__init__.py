"""A market, a task, a reward, two feature sets, a gate and an agent from outside."""
