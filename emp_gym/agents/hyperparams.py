"""What an agent is recommended for an environment: its budget and parameters, found on other seeds than those of the
README's tables, and kept.

They are defaults under everything that a user says, and the same for every seed. Environments without a line use the
agent's own defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BUDGETS = {
    "emp-almgren-chriss-v0": 2_000_000,
    "emp-obizhaeva-wang-v0": 3_000_000,
    "emp-cartea-jaimungal-v0": 24_000_000,
    "emp-avellaneda-stoikov-v0": 12_000_000,
    "emp-glft-v0": 12_000_000,
    "emp-garleanu-pedersen-v0": 4_000_000,
}
"""Steps of training over all lanes, by environment."""
LADDER, OTHERS = 1_000_000, 4_000_000
MOST = {"muzero": 800_000}
"""No more than this for an agent: one that searches before every step needs longer for it, and should learn from fewer."""

_SMOOTH = {"ent_coef": 0.0, "learning_rate": 1e-3, "deviation": 0.3}
_QUOTES = _SMOOTH | {
    "gamma": 1.0, "gae_lambda": 0.7, "n_steps": 25, "batch_size": 6400, "n_epochs": 2,  # fills are rare: noise, not signal, limits
}  # fmt: skip
_PPO: dict[str, dict[str, Any]] = {
    "emp-almgren-chriss-v0": _SMOOTH | {"gamma": 1.0, "gae_lambda": 0.95, "n_steps": 10},
    "emp-obizhaeva-wang-v0": _SMOOTH | {"gamma": 1.0, "gae_lambda": 0.95, "n_steps": 22},
    "emp-cartea-jaimungal-v0": _QUOTES | {"learning_rate": 5e-4, "final_learning_rate": 1e-5},
    "emp-avellaneda-stoikov-v0": _QUOTES,
    "emp-glft-v0": _QUOTES,
    "emp-garleanu-pedersen-v0": _SMOOTH | {"gamma": 0.98, "gae_lambda": 0.9, "n_steps": 50, "batch_size": 6400},
}
_PLANNED_QUOTES = {
    "num_envs": 256, "gamma": 1.0, "simulations": 0, "samples": 8, "rounds": 3, "q_floor": 1e-4, "td_steps": 20, "num_unroll_steps": 1,
    "batch_size": 1024, "updates_per_step": 0.02, "reanalyze_ratio": 0.25, "only_fresh": True, "target_update_interval": 5,
    "weight_average": 1500,
    "replay_size": 1_000_000, "priority_alpha": 0.0, "warmup": 10_000, "learning_rate": 2e-3, "final_learning_rate": 2e-5,
    "hidden": 64, "depth": 2, "degree": 3, "latent": 32, "policy_weight": 0.3, "value_weight": 1.0, "after_value_weight": 0.0,
    "deviation": 0.7, "least_deviation": 0.35, "eval_samples": 16, "chance_decay": 5.0,
    "iteration": 20_000,
}  # fmt: skip
_SIGNALS = {  # the look at every action (or candidate) and likely outcome is the whole search, so that a step is cheap
    "num_envs": 64, "gamma": 0.95, "simulations": 0, "least_chance": 0.02, "num_unroll_steps": 2, "batch_size": 256,
    "q_floor": 0.5,  # a trade costs at once and pays later: a policy that makes up its mind early never learns of the latter
    "td_steps": 3,  # for the same reason: longer returns are those of a policy that trades at random
    "updates_per_step": 0.02, "reanalyze_ratio": 0.25, "target_update_interval": 20, "weight_average": 200, "replay_size": 200_000,
    "priority_alpha": 0.0, "warmup": 4_000, "learning_rate": 2e-3, "final_learning_rate": 1e-4, "hidden": 64, "latent": 32,
    "value_weight": 1.0, "after_value_weight": 0.0, "iteration": 2_000,
}  # fmt: skip
_RUNGS = _SIGNALS | {"q_floor": 1.0}
_MUZERO: dict[str, dict[str, Any]] = {
    "emp-lob-v0": _SIGNALS, "emp-lob-market-making-v0": _SIGNALS,
    "emp-lob-execution-v0": _SIGNALS | {"gamma": 0.99},  # what is left at the end is paid for then
    "emp-ladder-trend-v0": _RUNGS, "emp-ladder-mean-reversion-v0": _RUNGS, "emp-ladder-order-flow-v0": _RUNGS,
    "emp-ladder-quote-v0": _RUNGS, "emp-ladder-memory-v0": _RUNGS, "emp-ladder-toxic-v0": _RUNGS,
    "emp-ladder-noise-v0": _RUNGS, "emp-ladder-returning-v0": _RUNGS,
    "emp-cartea-jaimungal-v0": _PLANNED_QUOTES,
    "CartPole-v1": {
        "num_envs": 32, "simulations": 8, "hidden": 64, "latent": 32, "batch_size": 128, "updates_per_step": 0.2,
        "reanalyze_ratio": 0.25, "num_chance_codes": 1, "td_steps": 40, "target_update_interval": 50, "value_weight": 1.0, "q_floor": 0.2,
    },
}  # fmt: skip
PRESETS = {"ppo": _PPO, "muzero": _MUZERO}
"""Agent -> environment id -> parameters."""

_RECALL = {
    "num_envs": 256, "n_steps": 64, "batch_size": 4096, "layers": (64,), "ent_coef": 0.1,
    "gamma": 0.5,  # nothing that is done here has an effect later: returns of more steps are noise
}  # fmt: skip
_KEEPS = {"extractor_options": {"keeps": 64}, "shared": True}  # units that forget in a few decisions never hear of the cue
_CURIOUS = {"ent_coef": 0.4}  # a cue moves their output by less: it takes longer until it is found, and till then to hold is best
REMEMBERING: dict[str, dict[str, dict[str, dict[str, Any]]]] = {
    "ppo": {"emp-ladder-memory-v0": {"gru": _RECALL | _KEEPS, "mamba2": _RECALL | _CURIOUS, "mamba3": _RECALL | _CURIOUS}}
}
"""The same, on top, for an extractor with memory: agent -> environment id -> extractor -> parameters."""


def preset(agent_name: str, env_id: str, given: Mapping[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
    """(steps of training, parameters) recommended for `agent_name` on `env_id`; where the user has `given` an extractor with
    memory, those of that extractor."""
    name, given = env_id.rpartition(":")[2], given or {}
    budget = BUDGETS.get(name, LADDER if name.startswith("emp-ladder-") else OTHERS)
    parameters = dict(PRESETS.get(agent_name, {}).get(name, {}))
    parameters |= REMEMBERING.get(agent_name, {}).get(name, {}).get(str(given.get("extractor")), {})
    return min(budget, MOST.get(agent_name, budget)), parameters
