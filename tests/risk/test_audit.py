"""The audit ring: every touched order is in it, and each row follows again from the record by another judge."""

from __future__ import annotations

import random
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

import emp_gym  # noqa: F401
from emp_gym.risk.audit import AUDIT, AuditRing
from emp_gym.risk.gate import RiskGate
from emp_gym.types import ConfigError, RequestType
from tests.risk.reference_lane import entries_of, lanes_of
from tests.risk.reference_risk import Judge
from tests.risk.worlds import PRICE_TO_CASH, Adversary, random_limits

ROOT = Path(__file__).resolve().parents[2]
STRICT = str(ROOT / "configs/limits/strict.yaml")


def test_a_row_is_64_bytes():
    assert AUDIT.itemsize == 64


@pytest.mark.parametrize("seed", range(12))
def test_every_row_is_what_the_slow_judge_finds_again(seed):
    rng = random.Random(seed)
    mode = ("project", "reject")[seed % 2]
    limits = random_limits(rng, 3)
    gate, world = RiskGate(limits, mode=mode, audit=10_000), Adversary(rng, limits, 4, 3, 6, 4)
    judges = [Judge(limits, 3, PRICE_TO_CASH, mode) for _ in range(4)]
    wanted = []
    for step in range(30):
        if step:
            world.move()
        orders = world.ask()
        view = world.view
        gate(view, orders)
        for i, (seen, entries) in enumerate(zip(lanes_of(view), entries_of(orders))):
            judges[i].watch(seen)
            expected, reasons = judges[i].judge(seen, entries)
            for k, (entry, reason) in enumerate(zip(expected, reasons)):
                kind, order = int(orders.kind[i, k]), orders.records[i, k]
                if kind == RequestType.NONE or not reason:
                    continue
                m = int(order["instrument"])
                wanted.append((
                    i, int(view.decision[i]), reason, int(order["price"]), 0 if kind == RequestType.CANCEL else int(order["quantity"]),
                    int(entry.quantity) if entry.kind == kind else 0, int(view.mid2[i, m]) if 0 <= m < 3 else 0,
                    int(limits.digest[:16], 16), m, k, kind, int(order["side"]),
                ))  # fmt: skip
    rows, lost = gate.audit.drain()
    assert lost == 0 and wanted and [tuple(row) for row in rows.tolist()] == wanted
    assert len(gate.audit) == 0 and not len(gate.audit.drain()[0])


def test_a_run_that_is_run_again_leaves_the_same_rows():
    def rows() -> bytes:
        env = gym.make_vec("emp-lob-v0", num_envs=8, gates=[{"gate": "risk", "limits": STRICT, "audit": 100_000}])
        env.reset(seed=5)
        rng = np.random.default_rng(5)
        for _ in range(60):
            env.step(rng.integers(0, 11, 8))
        return env.unwrapped.lanes.gates[0].audit.drain()[0].tobytes()

    assert rows() == rows() != b""


def test_a_full_ring_keeps_the_latest_and_says_how_many_are_lost():
    whole, small = (RiskGate(STRICT, audit=size) for size in (10_000, 5))
    for gate in (whole, small):
        rng = random.Random(3)
        world = Adversary(rng, gate.limits, 4, 1, 6, 4)
        for _ in range(10):
            gate(world.view, world.ask())
            world.move()
    every, (latest, lost) = whole.audit.drain()[0], small.audit.drain()
    assert len(latest) == 5 and (every[-5:] == latest).all() and lost == len(every) - 5
    for wrong in (0, -1, 1.5, True):
        with pytest.raises(ConfigError, match="audit must be"):
            AuditRing(wrong)
