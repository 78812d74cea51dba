"""Kernel of the rewards that we bring (`rewards`); any other is an object that is called."""

from __future__ import annotations

from emp_gym.jit import hot

PNL, INVENTORY, DAMPED, SHORTFALL, OUTSIDE = range(5)


@hot
def _reward(lane, quote, episode, setup):
    to_cash, position, mid2 = quote["price_to_cash"], quote["position"], quote["mid2"]
    kind, tick = setup["reward"], episode["tick"]
    if kind == SHORTFALL:
        arrival2 = episode["arrival2"]
        value2 = 2 * lane["cash"] + position * arrival2 * to_cash
        reward = 1e4 * (value2 - episode["equity2"]) / (arrival2 * to_cash * setup["parent"])
        episode["equity2"] = value2
        return reward
    value2 = 2 * lane["cash"] + position * mid2 * to_cash
    unit = 2.0 * to_cash * tick * setup["clip"]
    reward = (value2 - episode["equity2"]) / unit
    if kind == INVENTORY:
        reward -= setup["inventory_penalty"] * abs(position) / setup["clip"]
    elif kind == DAMPED:
        drift = episode["position"] * (mid2 - episode["mid2"]) / (2.0 * tick * setup["clip"])
        reward -= setup["damping"] * max(drift, 0.0)
    episode["equity2"], episode["mid2"], episode["position"] = value2, mid2, position
    return reward


@hot
def settle(i, state, quotes, episodes, active, rewards, setup):
    """Reward of lane i for the step that just ended; 0 if it did not move, or where somebody else says it."""
    rewards[i] = 0.0
    if active[i]:
        if setup["reward"] != OUTSIDE:
            rewards[i] = _reward(state[i], quotes[i, 0], episodes[i], setup)
            episodes[i]["return_"] += rewards[i]
        episodes[i]["steps"] += 1
