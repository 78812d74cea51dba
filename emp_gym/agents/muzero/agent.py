"""MuZero-lite: learns a small model of what may happen next, and plans in it before every decision.

Gumbel MuZero (Danihelka et al. 2022) with chance nodes (Antonoglou et al. 2022). The search is in `search`, the networks in
`networks`, what follows by accounting alone in `accounts`, the two kinds of actions in `actions`, what is learned from in
`replay` and `loss`, the course of training in `learning`. See docs/muzero.md.

A model is ``model.json`` and ``model.safetensors``; a checkpoint adds ``training.json`` (counters, generator) and
``training.safetensors`` (replay, target network, Adam's moments).
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces

from emp_gym import bounded
from emp_gym.agents.base import Arrays, BaseAgent, Callback, read_arrays, read_json, write_arrays
from emp_gym.agents.muzero.actions import actions_of
from emp_gym.agents.muzero.known_dynamics import account_of
from emp_gym.agents.muzero.learning import Trainer
from emp_gym.agents.muzero.loss import Weights
from emp_gym.agents.muzero.networks import Networks, Shape
from emp_gym.agents.muzero.planning import Planner
from emp_gym.agents.muzero.search import Edge, SearchConfig
from emp_gym.types import F32, Bool, ConfigError, MakeEnv


@dataclass(frozen=True)
class MuZeroConfig:
    """Parameters of `MuZero`. Steps count over all lanes."""

    num_envs: int = 16  # lanes
    simulations: int = 16  # of a search, besides the look at every root action and code; 0: that look alone
    least_chance: float = 0.0  # codes less likely than this are left out of that look
    max_considered: int = 16  # actions that a search begins with
    q_floor: float = 0.1  # differences of value below this are taken for noise; in units of the size of returns
    gamma: float = 0.997
    td_steps: int = 10  # rewards in a value target, before what the state after them is worth
    search_values: bool = False  # which is what the search found there, perhaps long ago, or else the target network's value
    num_unroll_steps: int = 5  # steps that the model is rolled out for
    batch_size: int = 256
    updates_per_step: float = 0.25  # of the networks
    warmup: int = 1000  # steps before the first update
    learning_rate: float = 1e-3
    final_learning_rate: float = 1e-4  # reached linearly at the end of training
    weight_decay: float = 1e-4
    chance_decay: float = 1e-4  # the same, of what bends the odds of outcomes beyond a linear function of the action
    max_grad_norm: float = 10.0
    replay_size: int = 100_000  # steps
    priority_alpha: float = 0.6  # 0: every step is equally likely to be drawn
    priority_beta: float = 0.4
    reanalyze_ratio: float = 0.5  # share of a batch whose first state is searched again
    only_fresh: bool = False  # policy and value learn from these only (the model from all)
    target_update_interval: int = 100  # updates after which the target network is renewed
    weight_average: int = 0  # updates that the weights that act are means over; 0: they are the last
    num_chance_codes: int = 8  # learned codes, where no account names outcomes; 1: nothing is left to chance
    latent: int = 64
    hidden: int = 128
    depth: int = 1  # hidden layers
    degree: int = 1  # of the splines that rewards and values are learned as; 3: smooth, where tops are flat
    samples: int = 16  # candidates of a search among continuous actions
    eval_samples: int = 16  # the same, where nothing is explored: the more, the less the errors of single candidates count
    rounds: int = 1  # searches of one state among continuous actions, each nearer to what the last one found; in play 1
    spread: float = 1.0  # deviation of these candidates in deviations of the policy
    deviation: float = 0.5  # of the policy at first, half the box being 1
    least_deviation: float = 0.1
    policy_weight: float = 1.0
    value_weight: float = 0.25
    after_value_weight: float = 0.25  # 0 where afterstates are never asked for their value: no simulations below the root
    consistency_weight: float = 2.0
    ent_coef: float = 0.0  # weight of the policy's entropy
    iteration: int = 1000  # steps between two reports
    threads: int = 1  # torch threads while learning

    def __post_init__(self) -> None:
        least = {"td_steps": 0, "simulations": 0, "weight_average": 0, **dict.fromkeys(_COUNTS, 1)}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise ConfigError(f"{name}: expected at least {low}, got {getattr(self, name)}")
        for name in ("reanalyze_ratio", "priority_beta", "gamma"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name}: expected a number in [0, 1], got {getattr(self, name)}")
        for name in ("learning_rate", "final_learning_rate", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name}: expected 0 or more, got {getattr(self, name)}")
        if self.td_steps == 0 and not self.search_values:
            raise ConfigError("td_steps: expected at least 1, got 0; the target would be the network itself (or search_values)")
        if not 0 < self.least_deviation < self.deviation < 1 + self.least_deviation:
            raise ConfigError(
                f"deviation: expected a number between least_deviation and 1 + least_deviation, got {self.deviation} "
                f"with least_deviation {self.least_deviation}"
            )

    @property
    def weights(self) -> Weights:
        return Weights(
            policy=self.policy_weight, value=self.value_weight, after_value=self.after_value_weight,
            consistency=self.consistency_weight, entropy=self.ent_coef,
        )


_COUNTS = (
    "num_envs", "max_considered", "num_unroll_steps", "batch_size", "replay_size", "target_update_interval", "num_chance_codes", "latent",
    "hidden", "depth", "degree", "samples", "eval_samples", "rounds", "iteration", "threads", "warmup",
)  # fmt: skip


class MuZero(BaseAgent):
    """MuZero for `Discrete` and `Box` actions. State: none.

    `edge`, a function of the search, may correct reward and value of every imagined outcome; it is not saved.
    """

    Config: ClassVar[type | None] = MuZeroConfig
    config: MuZeroConfig

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        spec: Any = None,
        seed: int = 0,
        **config: Any,
    ) -> None:
        super().__init__(observation_space, action_space, spec, seed, **config)
        if not isinstance(observation_space, spaces.Box) or not _plannable(action_space):
            raise ConfigError(
                f"MuZero takes Box observations and Discrete or bounded Box actions, got {observation_space} and "
                f"{action_space}; flatten or rescale them with a gymnasium wrapper"
            )
        c = self.config
        self.edge: Edge | None = None
        self.actions = actions_of(action_space, c.samples, c.eval_samples, c.spread, c.least_deviation, c.deviation)
        account = account_of(spec)
        shape = Shape(
            int(np.prod(observation_space.shape)), self.actions.size, self.actions.policy, account.codes or c.num_chance_codes,
            c.latent, c.hidden, c.depth, c.degree,
        )  # fmt: skip
        with torch.random.fork_rng(devices=[]):  # weights are drawn from torch's global generator, left as it was found
            torch.manual_seed(seed)
            self.networks = Networks(shape, account, learned_codes=not account.codes and c.num_chance_codes > 1)
        self.num_timesteps = 0
        self._learner: Trainer | None = None

    def search_config(self, networks: Networks) -> SearchConfig:
        """How the search is to be done with values of the size that `networks` gives."""
        c = self.config
        floor = max(c.q_floor * float(networks.value_scale.size), 1e-8)
        return SearchConfig(
            simulations=c.simulations, q_floor=floor, max_considered=c.max_considered, least_chance=c.least_chance
        )

    # ---- acting

    def act(self, observation: F32, state: Any, mask: Bool | None = None) -> tuple[np.ndarray, Any]:
        rows = torch.from_numpy(np.array(observation, np.float32).reshape(len(observation), -1))
        self.actions.draw(None)
        planner = Planner(self.networks, self.actions, self.config.gamma)
        result, policy = planner.plan(rows, self.search_config(self.networks), mask, None, self.edge, self.config.rounds)
        return self.actions.played(self.actions.best(policy, result)), state

    # ---- learning

    def learn(self, make_env: MakeEnv, total_timesteps: int, callback: Callback | None = None) -> None:
        """Trains until `total_timesteps` steps (summed over lanes) have been seen since the very first call.

        Training that was resumed goes on as if never stopped, to the bit, where the environment's first reset goes on in
        the middle of episodes (its info says ``continued``); elsewhere lanes begin new episodes.
        """
        env = make_env(num_envs=self.config.num_envs)
        if env.num_envs != self.config.num_envs:
            self.config = replace(self.config, num_envs=env.num_envs)
        learner = self._learner = self._learner or Trainer(self)
        threads = torch.get_num_threads()
        torch.set_num_threads(self.config.threads)
        try:
            learner.begin(env, int(np.random.SeedSequence([self.seed, self.num_timesteps]).generate_state(1)[0]))
            self._iterate(learner, total_timesteps, callback)
        finally:
            env.close()
            torch.set_num_threads(threads)

    def _iterate(self, learner: Trainer, total: int, callback: Callback | None) -> None:
        while self.num_timesteps < total:
            due = min(self.num_timesteps + self.config.iteration, total)
            while self.num_timesteps < due:
                learner.play()
                self.num_timesteps += learner.lanes
                learner.learn(max(0.0, 1 - self.num_timesteps / total))
            if callback is not None and callback(self.num_timesteps, learner.scalars()) is False:
                return

    # ---- files

    def arrays(self) -> Arrays:
        return {name: tensor.numpy() for name, tensor in self.networks.state_dict().items()}

    def restore(self, arrays: Arrays) -> None:
        self.networks.load_state_dict({name: torch.from_numpy(value) for name, value in arrays.items()})

    def checkpoint(self, folder: Path) -> None:
        """`save`, and what training needs to go on from here."""
        if self._learner is None:
            raise ConfigError("nothing to checkpoint: learn() has not been called")
        self.save(folder)
        write_arrays(folder / "training.safetensors", self._learner.arrays())
        state = {
            "num_timesteps": self.num_timesteps, "num_envs": self._learner.replay.lanes, "updates": self._learner.updates,
            "owed": self._learner.owed, "random": self._learner.random.bit_generator.state,
        }  # fmt: skip
        bounded.write(folder / "training.json", json.dumps(state, indent=2) + "\n")

    def resume(self, folder: Path) -> None:
        """Reads a checkpoint; the next `learn` goes on from there."""
        self.load(folder)
        state = read_json(folder / "training.json")
        self.num_timesteps = int(state["num_timesteps"])
        self.config = replace(self.config, num_envs=int(state["num_envs"]))
        learner = self._learner = Trainer(self)
        learner.restore(read_arrays(folder / "training.safetensors"))
        learner.updates, learner.owed = int(state["updates"]), float(state["owed"])
        learner.random.bit_generator.state = state["random"]


def _plannable(space: spaces.Space) -> bool:
    return isinstance(space, spaces.Discrete) or (isinstance(space, spaces.Box) and bool(np.isfinite([space.low, space.high]).all()))


__all__ = ["MuZero", "MuZeroConfig"]
