"""Gymnasium's face of the house: the table of environment ids."""

from __future__ import annotations

from typing import Any

ENVIRONMENTS: dict[str, dict[str, Any]] = {
    "emp-lob-v0": {"task": "trade"},
    "emp-lob-market-making-v0": {"task": "make"},
    "emp-lob-execution-v0": {"task": "execute"},
}
"""Environment id -> its fixed arguments. A new environment is a new line here; the conformance suite then tests it."""


def register_all() -> None:
    """Registers every id with Gymnasium (strings only, so that nothing heavy is loaded)."""
    import gymnasium as gym

    for name, arguments in ENVIRONMENTS.items():
        if name not in gym.registry:
            gym.register(
                name,
                entry_point="emp_gym.envs.trading:TradingEnv",
                vector_entry_point="emp_gym.envs.trading:TradingVectorEnv",
                kwargs=arguments,
            )
