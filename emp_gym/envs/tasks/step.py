"""Kernels of what a step shows: reward, observation and mask of a lane in one pass over it."""

from __future__ import annotations

from emp_gym.envs.tasks.actions import write_mask
from emp_gym.envs.tasks.settle import settle
from emp_gym.jit import hot
from emp_gym.sensory.lob import finish
from emp_gym.sensory.lob import observe as observe_sets
from emp_gym.threads import region


@hot
def _observe(lane, quote, seen, book, slots, rules, episode, out, mask, raw, transform, conditions, needs, setup):
    """Writes a lane's observation and mask; `raw` is room for its quantities."""
    elapsed = (lane["decision"] + setup["episode"] - episode["length"]) / setup["episode"]
    at = observe_sets(
        raw, setup["sets"], lane, quote, seen, book, slots, rules, setup["levels"], setup["clip"], setup["max_position"], elapsed
    )
    lead = 1
    if setup["relative"]:
        lead = episode["parent_side"]
        left = (setup["parent"] - lead * quote["position"]) / setup["parent"]
        raw[at], raw[at + 1], raw[at + 2] = lead, left, left - (1.0 - elapsed)
    if len(needs) > 0:
        write_mask(mask, lane, quote, slots, book, rules, conditions, needs, setup, lead)
    episode["clipped"] += finish(raw, out[: setup["columns"]], transform)


@hot
def observe(lanes, state, quotes, seen, books, slots, rules, episodes, out, mask, raw, transform, conditions, needs, setup):
    """Writes observation and mask of `lanes`."""
    for i in lanes:
        quote = quotes[i, 0]
        _observe(
            state[i], quote, seen[i, 0], books[i, 0], slots[i], rules[quote["rules"]], episodes[i], out[i], mask[i], raw,
            transform, conditions, needs, setup[0],
        )  # fmt: skip


@region
def settle_and_observe_lanes(
    low, high, place, rewards, out, state, quotes, seen, books, slots, rules, episodes, active, mask, raw, transform, conditions, needs,
    setup,
):  # fmt: skip
    """Writes rewards, observations and masks of lanes [low, high) for the step that just ended; row `place` of `raw` is room."""
    for i in range(low, high):
        settle(i, state, quotes, episodes, active, rewards, setup[0])
        quote = quotes[i, 0]
        _observe(
            state[i], quote, seen[i, 0], books[i, 0], slots[i], rules[quote["rules"]], episodes[i], out[i], mask[i],
            raw[place], transform, conditions, needs, setup[0],
        )  # fmt: skip
