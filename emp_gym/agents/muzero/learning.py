"""Training: play with the search, keep what happened, think again about some of it, learn from all of it."""

from __future__ import annotations

import copy
from collections import defaultdict
from typing import Any, Protocol

import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from torch import Tensor, nn

from emp_gym.agents.base import Arrays
from emp_gym.agents.muzero.actions import DiscreteActions
from emp_gym.agents.muzero.loss import loss, tensors
from emp_gym.agents.muzero.networks import Networks
from emp_gym.agents.muzero.planning import Planner
from emp_gym.agents.muzero.replay import CUT, FINISHED, Replay
from emp_gym.agents.muzero.search import Edge, SearchConfig
from emp_gym.types import F32, I64, Bool, ConfigError


class Searching(Protocol):
    """What is asked of the agent: `emp_gym.agents.muzero.agent.MuZero`."""

    config: Any
    actions: Any
    networks: Networks
    seed: int
    edge: Edge | None

    def search_config(self, networks: Networks) -> SearchConfig: ...


class Trainer:
    """What training needs besides the networks. All randomness is from one generator."""

    def __init__(self, agent: Searching) -> None:
        self.agent, c = agent, agent.config
        self.actions, self.mean = agent.actions, agent.networks  # what acts; with `average` what learns is known here only
        self.networks = copy.deepcopy(agent.networks) if c.weight_average else agent.networks
        self.target = copy.deepcopy(agent.networks).requires_grad_(False)
        self.optimiser = torch.optim.AdamW(self._groups(), c.learning_rate, fused=True)
        self.random = np.random.default_rng(np.random.SeedSequence([agent.seed, 1]))
        shape = self.networks.shape
        self.replay = Replay(
            -(-c.replay_size // c.num_envs), c.num_envs, observation=shape.observation, action=shape.action,
            policy=self.actions.target, menu=self.actions.candidates if isinstance(self.actions, DiscreteActions) else 0,
        )  # fmt: skip
        self.returns = np.zeros(c.num_envs)  # discounted, of the episodes under way
        self.updates, self.owed = 0, 0.0
        self._notes: dict[str, list[float]] = defaultdict(list)

    def _groups(self) -> list[dict[str, Any]]:
        """All that learns, by how fast it is forgotten."""
        c, of = self.agent.config, {True: list[nn.Parameter](), False: list[nn.Parameter]()}
        for name, weight in self.networks.named_parameters():
            of[name.startswith("psi.")].append(weight)
        return [{"params": of[True], "weight_decay": c.chance_decay}, {"params": of[False], "weight_decay": c.weight_decay}]

    # ---- playing

    def begin(self, env: Any, seed: int) -> None:
        """New episodes in every lane, or those that the environment goes on with."""
        if env.metadata.get("autoreset_mode") is not AutoresetMode.SAME_STEP:
            raise ConfigError(
                f"MuZero needs an environment that resets in the same step, got autoreset_mode "
                f'{env.metadata.get("autoreset_mode")}; make it with autoreset_mode="SameStep"'
            )
        observation, info = env.reset(seed=seed, options={"stagger": True})
        self.env, self.lanes = env, env.num_envs
        if self.lanes != self.replay.lanes:
            raise ConfigError(f"num_envs: MuZero was set up for {self.replay.lanes} lanes, the environment has {self.lanes}")
        if not np.all(info.get("continued", False)):
            self.replay.cut()
            self.returns[:] = 0.0
        self._observation, self._mask = self.flat(observation), info.get("action_mask")

    def flat(self, observation: np.ndarray) -> F32:
        """Observations as rows [N, D]."""
        return np.array(observation, np.float32).reshape(len(observation), -1)

    def play(self) -> None:
        """One step of every lane."""
        before, mask = self._observation, self._mask
        planner = Planner(self.networks, self.actions, self.agent.config.gamma)
        action, policy, value = self._explore(planner, before, mask)
        observation, reward, terminated, truncated, info = self.env.step(self.actions.played(action))
        self._observation, self._mask = self.flat(observation), info.get("action_mask")
        following, done = self._observation, terminated | truncated
        if done.any():
            following = following.copy()
            for lane in np.flatnonzero(done):
                following[lane] = np.asarray(info["final_obs"][lane], np.float32).reshape(-1)
        self._measure(before, following, np.asarray(reward, np.float64), done)
        self.replay.add(
            observation=before, following=following, action=action.numpy(), policy=policy.numpy(), value=value, mask=mask,
            reward=reward, end=np.where(terminated, FINISHED, np.where(truncated, CUT, 0)),
            code=self.networks.account.code(before, action.numpy(), following),
        )  # fmt: skip

    def _explore(self, planner: Planner, observation: F32, mask: Bool | None) -> tuple[Tensor, Tensor, F32]:
        """Encoded actions, what the search found, and the values that it gives."""
        self.actions.draw(self.random)
        gumbel = self.random.gumbel(size=(self.lanes, self.actions.candidates)).astype(np.float32)
        config = self.agent.search_config(self.networks)
        result, policy = planner.plan(torch.from_numpy(observation), config, mask, gumbel, self.agent.edge)
        chosen = self.actions.encode(policy, torch.from_numpy(result.action))
        return chosen, self.actions.found(policy, result), result.value

    def _measure(self, before: F32, following: F32, reward: np.ndarray, done: Bool) -> None:
        """Statistics that everything is scaled by."""
        networks = self.networks
        networks.account.watch(before, following)
        networks.normalise.absorb(torch.from_numpy(following))
        self.returns = self.agent.config.gamma * self.returns + reward
        networks.reward_scale.absorb(torch.from_numpy(reward))
        networks.value_scale.absorb(torch.from_numpy(self.returns))
        self.returns[done] = 0.0

    # ---- learning

    def learn(self, left: float) -> None:
        """The updates that are owed for the last step; `left`: share of training that is still to come."""
        c = self.agent.config
        if len(self.replay) < c.warmup:
            return
        self.owed += c.updates_per_step * self.lanes
        for group in self.optimiser.param_groups:
            group["lr"] = c.final_learning_rate + left * (c.learning_rate - c.final_learning_rate)
        while self.owed >= 1:
            self.owed -= 1
            self._update()

    def _update(self) -> None:
        c = self.agent.config
        row, lane, weight = self.replay.draw(c.batch_size, self.random, c.priority_alpha, c.priority_beta)
        again = round(c.reanalyze_ratio * len(row))
        if again:
            self._think_again(row[:again], lane[:again])
        judge = None if c.search_values else self._worth
        batch = tensors(self.replay.batch(row, lane, weight, c.num_unroll_steps, c.td_steps, c.gamma, judge))
        batch["share"] = torch.ones(len(row))
        if again and c.only_fresh:
            batch["share"] = (torch.arange(len(row)) < again) * (len(row) / again)
        total, parts, error = loss(self.networks, self.actions, batch, c.gamma, c.weights)
        self.optimiser.zero_grad()
        total.backward()
        size = nn.utils.clip_grad_norm_(self.networks.parameters(), c.max_grad_norm)
        self.optimiser.step()
        self.replay.surprise(row, lane, error.numpy())
        self.updates += 1
        if self.updates % c.target_update_interval == 0:
            self.target.load_state_dict(self.networks.state_dict())
        if c.weight_average:
            self._average(max(1 / c.weight_average, 1 / self.updates))
        for name, part in {**parts, "gradient": float(size), "error": float(error.mean())}.items():
            self._notes[f"train/{name}"].append(part)

    @torch.no_grad()
    def _average(self, share: float) -> None:
        """Moves the weights that act towards those that learn; statistics are taken over as they are."""
        for weight, learned in zip(self.mean.parameters(), self.networks.parameters()):
            weight.lerp_(learned, share)
        for mean, last in zip(self.mean.buffers(), self.networks.buffers()):
            mean.copy_(last)

    @torch.inference_mode()
    def _worth(self, observation: F32) -> F32:
        """What the target network makes of observations [..., D]."""
        _, value = self.target.predict(self.target.represent(torch.from_numpy(observation)))
        return self.target.value_of(value).numpy()

    def _think_again(self, row: I64, lane: I64) -> None:
        """Searches places of the past with the target network, and keeps what it finds there."""
        observation, mask = self.replay.seen(row, lane)
        self.actions.draw(self.random)
        gumbel = self.random.gumbel(size=(len(row), self.actions.candidates)).astype(np.float32)
        planner = Planner(self.target, self.actions, self.agent.config.gamma)
        config = self.agent.search_config(self.target)
        rounds = self.agent.config.rounds
        result, policy = planner.plan(torch.from_numpy(observation), config, mask, gumbel, self.agent.edge, rounds)
        self.replay.revise(row, lane, self.actions.found(policy, result).numpy(), result.value)

    def scalars(self) -> dict[str, float]:
        """Means of the updates since the last call."""
        notes, self._notes = self._notes, defaultdict(list)
        means = {name: float(np.mean(values)) for name, values in notes.items()}
        return means | {
            "train/updates": float(self.updates), "train/replay": float(len(self.replay)),
            "train/value_scale": float(self.networks.value_scale.size),
        }  # fmt: skip

    # ---- files

    def _others(self) -> dict[str, Networks]:
        """The networks that are not the agent's."""
        return {"target": self.target} | ({"last": self.networks} if self.networks is not self.mean else {})

    def arrays(self) -> Arrays:
        """The replay, networks that are not the agent's, Adam's moments, returns under way."""
        arrays: Arrays = {f"replay.{name}": array for name, array in self.replay.arrays().items()}
        for kind, networks in self._others().items():
            arrays |= {f"{kind}.{name}": value.detach().numpy() for name, value in networks.state_dict().items()}
        for index, state in self.optimiser.state_dict()["state"].items():
            arrays |= {f"adam.{index}.{name}": value.numpy() for name, value in state.items()}
        return arrays | {"returns": self.returns.copy()}

    def restore(self, arrays: Arrays) -> None:
        """Takes over what `arrays` gave."""
        of: dict[str, Arrays] = defaultdict(dict)
        for key, value in arrays.items():
            kind, _, name = key.partition(".")
            of[kind][name] = value
        self.replay.restore(of["replay"])
        for kind, networks in self._others().items():
            networks.load_state_dict({name: torch.from_numpy(value) for name, value in of[kind].items()})
        self.returns = arrays["returns"].copy()
        state: dict[int, dict[str, Tensor]] = defaultdict(dict)
        for key, value in of["adam"].items():
            index, _, name = key.partition(".")
            state[int(index)][name] = torch.from_numpy(value)
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": dict(state), "param_groups": groups})
