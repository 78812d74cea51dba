"""A search agent that is paid for breaching controls, against emp-lob-v0 behind the gate: it must earn nothing.

The cross-entropy method over tables of logits (what is held x what is open -> action), one candidate a lane. What reached
the market (``lanes.sent``) and what was known when it was sent are counted again here, without the layer's own numbers.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

import emp_gym  # noqa: F401
from emp_gym.types import RequestType

ROOT = Path(__file__).resolve().parents[2]
MAX_POSITION, MAX_QUANTITY, MAX_OPEN, MAX_NOTIONAL, COLLAR_BPS, SUBMITS = 230, 90, 4, 50_000, 30, 20
LIMITS = {
    "order": {
        "max_quantity": MAX_QUANTITY,
        "max_notional": MAX_NOTIONAL,
        "collar_bps": COLLAR_BPS,
        "self_trade": "allow",
    },
    "instrument": {"max_position": MAX_POSITION},
    "portfolio": {"max_open_orders": MAX_OPEN},
    "window": {"submit": {"count": SUBMITS, "window_ms": 1000}},
}
LANES, DECISIONS, STATES, ELITE = 128, 32, 9, 16


class Recount:
    """What was known before a step, and what the market was then sent."""

    def __init__(self, view) -> None:
        self.position, self.mid2 = view.position[:, 0].copy(), view.mid2[:, 0].copy()
        self.side, self.open = view.order_side.copy(), np.where(view.order_id != 0, view.order_quantity, 0)
        self.count, self.time_ns, self.unit = (view.order_id != 0).sum(axis=1), view.time_ns.copy(), int(view.price_to_cash[0, 0])

    def breaches(self, sent) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(breaches, largest worst-case position, new orders), each [N]."""
        new = (sent.kind != RequestType.NONE) & (sent.kind != RequestType.CANCEL)
        lots, side, price = np.where(new, sent.quantity, 0), sent.side, np.where(new, sent.price, 0)
        long = self.position + (self.open * (self.side > 0)).sum(axis=1) + (lots * (side > 0)).sum(axis=1)
        short = -self.position + (self.open * (self.side < 0)).sum(axis=1) + (lots * (side < 0)).sum(axis=1)
        sends_buys, sends_sells = (new & (side > 0)).any(axis=1), (new & (side < 0)).any(axis=1)
        found = (sends_buys & (long > MAX_POSITION)).astype(int) + (sends_sells & (short > MAX_POSITION))
        found += (lots > MAX_QUANTITY).sum(axis=1) + (new & (lots <= 0)).sum(axis=1)
        found += (new.sum(axis=1) > 0) & (self.count + new.sum(axis=1) > MAX_OPEN)
        limit = new & (sent.kind != RequestType.MARKET)
        far = np.abs(2 * price - self.mid2[:, None]) * 10_000 > COLLAR_BPS * self.mid2[:, None]
        worth = lots * np.maximum(price, self.mid2[:, None] // 2) * self.unit
        found += (limit & far).sum(axis=1) + (new & (worth > MAX_NOTIONAL * 10**8)).sum(axis=1)
        return found, np.maximum(np.where(sends_buys, long, 0), np.where(sends_sells, short, 0)), new.sum(axis=1)


def attack(steps: int, seed: int, latency_ns: int) -> dict[str, int]:
    """Searches for `steps` env-steps; returns what it found."""
    env = gym.make_vec(
        "emp-lob-v0", num_envs=LANES, max_position=1_000_000, latency_ns=latency_ns, episode=f"{DECISIONS} decisions",
        gates=[{"gate": "risk", "limits": LIMITS}], autoreset_mode="Disabled", threads=1,
    )  # fmt: skip
    random, lanes = np.random.default_rng(seed), env.unwrapped.lanes
    shape = (STATES, env.single_action_space.n)
    mean, spread = np.zeros(shape), np.full(shape, 2.0)
    told = {"env_steps": 0, "breaches": 0, "largest_worst_case": 0, "orders": 0, "touched": 0}
    env.reset(seed=seed)
    while told["env_steps"] < steps:
        tables = mean + spread * random.standard_normal((LANES, *shape))
        paid, times = np.zeros(LANES), []
        env.reset()
        for _ in range(DECISIONS):
            view, before = env.unwrapped.view, Recount(env.unwrapped.view)
            state = 3 * (1 + np.sign(before.position)) + np.minimum(before.count, 2)
            logits = tables[np.arange(LANES), state] + random.gumbel(size=(LANES, shape[1]))
            logits = np.where(lanes.mask, logits, -np.inf)
            _, _, _, _, info = env.step(logits.argmax(axis=1))
            found, worst, new = before.breaches(lanes.sent)
            times.append((before.time_ns, new))
            recent = sum(count * (at > before.time_ns - 10**9) for at, count in times)
            found = found + (recent > 2 * SUBMITS) + (np.abs(view.position[:, 0]) > MAX_POSITION)
            paid += 1000 * found + worst / MAX_POSITION + 0.1 * new
            told["breaches"] += int(found.sum())
            told["largest_worst_case"] = max(told["largest_worst_case"], int(worst.max()))
            told["orders"], told["touched"] = told["orders"] + int(new.sum()), told["touched"] + int(info["cost"].sum())
            told["env_steps"] += LANES
        elite = tables[np.argsort(paid)[-ELITE:]]
        mean, spread = elite.mean(axis=0), elite.std(axis=0) + 0.2
    return told


@pytest.mark.parametrize("latency_ns", [0, 2_000_000_000])
def test_a_search_agent_paid_for_breaches_finds_none(latency_ns):
    told = attack(25_000, seed=1, latency_ns=latency_ns)
    assert told["breaches"] == 0
    assert told["largest_worst_case"] == MAX_POSITION, "it leans on the limit"
    assert told["touched"] > 1000 and told["orders"] > 1000


def test_the_recount_finds_a_breach_when_there_is_one():
    env = gym.make_vec("emp-lob-v0", num_envs=2, max_position=1_000_000)
    env.reset(seed=0)
    total = 0
    for _ in range(4):
        before = Recount(env.unwrapped.view)
        env.step(np.full(2, 7))
        total += before.breaches(env.unwrapped.lanes.sent)[0].sum()
    assert total > 0, "100 lots are more than 90, and 300 more than 230"


@pytest.mark.long
@pytest.mark.timeout(0)
def test_a_search_agent_finds_no_breach_in_a_million_steps():
    steps = int(os.environ.get("EMP_RISK_STEPS", 1_000_000))
    runs = [attack(steps // 2, seed=100 + i, latency_ns=latency) for i, latency in enumerate((0, 2_000_000_000))]
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    evidence = {
        "what": "control breaches found by a cross-entropy search paid for them, emp-lob-v0", "tier": "long", "commit": commit,
        "command": "pytest -m long -n 0 tests/risk/test_adversary.py", "seed": 100, "latency_ns": [0, 2_000_000_000],
        "n": sum(run["env_steps"] for run in runs), "breaches": sum(run["breaches"] for run in runs), "runs": runs,
    }  # fmt: skip
    (ROOT / "docs/evidence/risk_adversary.json").write_text(json.dumps(evidence, indent=1) + "\n")
    assert evidence["breaches"] == 0
