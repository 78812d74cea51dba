"""The networks as the search sees them: rows of numbers, and two functions over them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from emp_gym.agents.muzero.actions import Actions
from emp_gym.agents.muzero.networks import Networks
from emp_gym.agents.muzero.search import Edge, Floats, Integers, Root, SearchConfig, SearchResult, search
from emp_gym.types import Bool


class Planner:
    """Searches with `networks`. A latent row of the search is ``[state | policy]``, so that the candidates of a state can
    be told from its row."""

    def __init__(self, networks: Networks, actions: Actions, gamma: float) -> None:
        self.networks, self.actions, self.gamma = networks, actions, gamma
        self._state = networks.private + networks.market

    @property
    def codes(self) -> int:
        return self.networks.shape.codes

    @torch.inference_mode()
    def plan(
        self,
        observation: Tensor,
        config: SearchConfig,
        mask: Bool | None = None,
        gumbel: Floats | None = None,
        edge: Edge | None = None,
        rounds: int = 1,
    ) -> tuple[SearchResult, Tensor]:
        """What the search finds at observations [B, D], and what the policy there is made of [B, O].

        Among continuous actions the search is done `rounds` times, each around what the last one found and over half the distance:
        where a value falls off faster on one side, the mean of what was found leans to the other, by the square of the distance.
        """
        row, logits, value = self._row(self.networks.represent(observation))
        result = search(Root(logits, value, row, mask), self, config, gumbel, edge)
        for _ in range(1, rounds):
            policy = self.actions.nearer(row[:, self._state :], result)
            if policy is None:
                break
            row = torch.cat((row[:, : self._state], policy), -1)
            result = search(Root(logits, value, row, mask), self, config, None, edge)
        return result, row[:, self._state :]

    def _row(self, state: Tensor) -> tuple[Tensor, Floats, Floats]:
        policy, value = self.networks.predict(state)
        logits = self.actions.logits(policy)
        return torch.cat((state, policy), -1), logits.numpy(), self.networks.value_of(value).numpy()

    @torch.inference_mode()
    def afterstate(self, latent: Tensor, action: Integers) -> tuple[Tensor, Floats | None, Floats | None]:
        """See `search.Model`."""
        state, policy = latent[:, : self._state], latent[:, self._state :]
        after = self.networks.afterstate(state, self.actions.encode(policy, torch.from_numpy(action)))
        if self.codes == 1:
            return after, None, None
        chance, value = self.networks.chance(after)
        return after, self.networks.value_of(value).numpy(), chance.softmax(-1).numpy()

    @torch.inference_mode()
    def outcome(self, after: Tensor, code: Integers) -> tuple[Any, Floats, Floats, Floats, Floats]:
        """See `search.Model`."""
        networks, number = self.networks, torch.from_numpy(code)
        weights = F.one_hot(number, self.codes).float()
        market, reward, end = networks.outcome(after, weights)
        state = torch.cat((networks.account_after(after, number), market), -1)
        row, logits, value = self._row(state)
        discount = self.gamma * torch.sigmoid(-end)
        return row, networks.reward_of(reward).numpy(), discount.numpy(), logits, value
