"""Gymnasium's face of the house: the table of environment ids."""

from __future__ import annotations

from typing import Any

ENVIRONMENTS: dict[str, dict[str, Any]] = {
    "emp-lob-v0": {"task": "trade"},
    "emp-lob-market-making-v0": {"task": "make"},
    "emp-lob-execution-v0": {"task": "execute"},
}
"""Environment id -> its fixed arguments. A new environment is a new line here; the conformance suite then tests it."""

CERTIFICATES: dict[str, str] = {
    "emp-almgren-chriss-v0": "almgren-chriss",
    "emp-obizhaeva-wang-v0": "obizhaeva-wang",
    "emp-cartea-jaimungal-v0": "cartea-jaimungal",
    "emp-avellaneda-stoikov-v0": "avellaneda-stoikov",
    "emp-glft-v0": "glft",
    "emp-garleanu-pedersen-v0": "garleanu-pedersen",
    "emp-ladder-trend-v0": "trend",
    "emp-ladder-mean-reversion-v0": "mean-reversion",
    "emp-ladder-order-flow-v0": "order-flow",
    "emp-ladder-quote-v0": "quote",
    "emp-ladder-memory-v0": "memory",
    "emp-ladder-returning-v0": "returning",
    "emp-ladder-toxic-v0": "toxic",
    "emp-ladder-noise-v0": "noise",
}
"""Environment id -> problem whose optimum is known (`emp_gym.evaluation.optimal`)."""


def problem_of(env_id: str) -> str | None:
    """The problem of a certificate, ``"module:id"`` too; None for any other environment."""
    return CERTIFICATES.get(env_id.rpartition(":")[2])


def register_all() -> None:
    """Registers every id with Gymnasium (strings only, so that nothing heavy is loaded)."""
    for name, arguments in ENVIRONMENTS.items():
        _register(name, "emp_gym.envs.trading:Trading", arguments)
    for name, problem in CERTIFICATES.items():
        _register(name, "emp_gym.envs.certificates:Certificate", {"problem": problem})


def _register(name: str, faces: str, arguments: dict[str, Any]) -> None:
    import gymnasium as gym

    if name not in gym.registry:
        gym.register(name, entry_point=f"{faces}Env", vector_entry_point=f"{faces}VectorEnv", kwargs=arguments)
