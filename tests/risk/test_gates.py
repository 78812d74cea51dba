"""Gates sit between task and market: they see the orders, may shrink them, never enlarge them."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

import emp_gym  # noqa: F401
from emp_gym.risk.gates import CAPPED, AllowAll, CapQuantity, resolve
from emp_gym.types import ConfigError, OrderKind, Orders


def orders_of(quantities: list[int], kind: OrderKind = OrderKind.LIMIT) -> Orders:
    orders = Orders.empty(1, len(quantities))
    orders.kind[:] = kind
    orders.quantity[0] = quantities
    return orders


def test_cap_cuts_only_what_is_too_large_and_says_so():
    orders = orders_of([50, 100, 101, 900])
    cut, verdicts = CapQuantity(100)(None, orders)
    assert cut.quantity.tolist() == [[50, 100, 100, 100]]
    assert verdicts.reason.tolist() == [[0, 0, int(CAPPED), int(CAPPED)]]
    assert verdicts.quantity_before.tolist() == [[50, 100, 101, 900]]
    assert orders.quantity.tolist() == [[50, 100, 101, 900]], "the task's own orders stay as they were"


def test_the_cap_is_100_lots_unless_said_and_at_least_1():
    assert CapQuantity().largest == 100 and CapQuantity(1).largest == 1
    with pytest.raises(ConfigError, match="largest must be > 0 lots, got 0"):
        CapQuantity(0)


def test_cap_lets_cancels_pass():
    cut, verdicts = CapQuantity(1)(None, orders_of([900], OrderKind.CANCEL))
    assert cut.quantity.tolist() == [[900]] and not verdicts.reason.any()


def test_gates_are_found_by_name_mapping_and_module():
    by_name, by_mapping, by_module = resolve(
        ["allow-all", {"gate": "cap-quantity", "largest": 7}, "emp_gym.risk.gates:AllowAll"]
    )
    assert isinstance(by_name, AllowAll) and isinstance(by_module, AllowAll)
    assert isinstance(by_mapping, CapQuantity) and by_mapping.largest == 7
    assert resolve(None) == ()


def test_unknown_gate_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'cap-quantity'"):
        resolve("cap-quantiti")


@pytest.mark.parametrize("lanes", [1, 3])
def test_a_gate_in_the_environment_changes_what_reaches_the_market(lanes):
    env = gym.make_vec("emp-lob-v0", num_envs=lanes, gates=[{"gate": "cap-quantity", "largest": 10}])
    env.reset(seed=1)
    _, _, _, _, info = env.step(np.full(lanes, 7))
    assert (env.unwrapped.view.position[:, 0] == 10).all(), "a clip of 100 was cut to 10"
    assert (info["cost"] == 1).all() and (info["reason"] == CAPPED).all()


def test_a_slack_gate_changes_no_byte():
    free, gated = (gym.make("emp-lob-v0", gates=gates) for gates in (None, ["allow-all"]))
    seen = []
    for env in (free, gated):
        observation, _ = env.reset(seed=4)
        env.action_space.seed(4)
        trace = [observation.tobytes()]
        for _ in range(300):
            observation, reward, end, cut, _ = env.step(env.action_space.sample())
            trace.append(observation.tobytes() + np.float64(reward).tobytes())
            if end or cut:
                env.reset()
        seen.append(trace)
    assert seen[0] == seen[1]
