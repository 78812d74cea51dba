"""Layer = judge, on orders and views drawn with malice: what is sent, every reason bit, every latch."""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from emp_gym.risk.gate import RiskGate
from emp_gym.risk.limits import load
from emp_gym.risk.reasons import Check
from emp_gym.types import RequestType
from tests.risk.reference_lane import entries_of, lanes_of
from tests.risk.reference_risk import Judge, same
from tests.risk.worlds import PRICE_TO_CASH, Adversary, random_limits

ROOT = Path(__file__).resolve().parents[2]
MODES = ("project", "project", "reject", "observe")
LANES, SLOTS, OPEN_SLOTS, STEPS = 8, 6, 4, 40
FIRST_LONG_SEED = 1_000_000


def play(seed: int, seen_bits: Counter, passed_bits: Counter) -> tuple[int, list[str]]:
    """One world of 8 lanes and 40 decisions. Returns (orders judged, mismatches)."""
    rng = random.Random(seed)
    instruments, mode = rng.choice([1, 1, 3]), rng.choice(MODES)
    limits = load(ROOT / f"configs/limits/{rng.choice(['default', 'strict'])}.yaml")
    if rng.random() < 0.85:
        limits = random_limits(rng, instruments)
    gate = RiskGate(limits, mode=mode)
    world = Adversary(rng, limits, LANES, instruments, SLOTS, OPEN_SLOTS)
    judges = [Judge(limits, instruments, PRICE_TO_CASH, mode) for _ in range(LANES)]
    cases, wrong = 0, []
    for step in range(STEPS):
        if step:
            world.move()
        if rng.random() < 0.02:
            kill(gate, judges, rng) if step else None
        orders = world.ask()
        before = orders.copy()
        sent, verdicts = gate(world.view, orders)
        assert (orders.kind == before.kind).all() and (orders.records == before.records).all(), "orders were changed"
        for i, (seen, entries) in enumerate(zip(lanes_of(world.view), entries_of(before))):
            judges[i].watch(seen)
            expected, reasons = judges[i].judge(seen, entries)
            for k, (entry, reason) in enumerate(zip(expected, reasons)):
                asked = int(before.kind[i, k])
                if asked == RequestType.NONE:
                    continue
                cases += 1
                got = int(verdicts.reason[i, k])
                if got != reason or not same(entry, int(sent.kind[i, k]), sent.records[i, k]):
                    where = f"seed {seed} step {step} lane {i} slot {k} {mode}: {entries[k]}"
                    wrong.append(f"{where} -> {entry} {bits(reason)}, got {sent.records[i, k]} {bits(got)}")
                for bit in range(24):
                    (seen_bits if reason >> bit & 1 else passed_bits)[bit] += 1
            if int(gate.state.lane["latch"][i]) != judges[i].memory.latch:
                wrong.append(
                    f"seed {seed} step {step} lane {i}: latch {judges[i].memory.latch}, got {gate.state.lane[i]}"
                )
        if wrong:
            break
    return cases, wrong


def bits(reason: int) -> list[str]:
    return [check.name for check in Check if reason >> check & 1]


def kill(gate: RiskGate, judges: list[Judge], rng: random.Random) -> None:
    lane = rng.randrange(len(judges))
    judges[lane].killed = not judges[lane].killed
    gate.state.lane["killed"][lane] = judges[lane].killed


def duel(first_seed: int, cases: int) -> tuple[int, list[str], Counter, Counter]:
    """Worlds from `first_seed` on until `cases` orders were judged, or a mismatch is found."""
    done, seed, seen_bits, passed_bits = 0, first_seed, Counter(), Counter()
    while done < cases:
        n, wrong = play(seed, seen_bits, passed_bits)
        done, seed = done + n, seed + 1
        if wrong:
            return done, wrong, seen_bits, passed_bits
    return done, [], seen_bits, passed_bits


def test_the_layer_equals_the_judge_on_20_000_adversarial_orders_and_every_bit_is_set_and_cleared():
    cases, wrong, seen_bits, passed_bits = duel(0, 20_000)
    assert not wrong, wrong[0]
    assert cases >= 20_000
    assert [check.name for check in Check if not seen_bits[check]] == [], "a bit that no case sets"
    assert [check.name for check in Check if not passed_bits[check]] == [], "a bit that every case sets"


@pytest.mark.long
@pytest.mark.timeout(0)
def test_the_layer_equals_the_judge_on_ten_million_adversarial_orders():
    wanted, seed = int(os.environ.get("EMP_RISK_CASES", 10_000_000)), FIRST_LONG_SEED
    cases, wrong, seen_bits, passed_bits = 0, [], Counter(), Counter()
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    while cases < wanted and not wrong:
        judged, wrong = play(seed, seen_bits, passed_bits)
        cases, seed = cases + judged, seed + 1
        if seed % 500 == 0 or cases >= wanted or wrong:
            keep(commit, seed - FIRST_LONG_SEED, cases, len(wrong), seen_bits)
    assert not wrong, wrong[0]


def keep(commit: str, worlds: int, cases: int, mismatches: int, seen_bits: Counter) -> None:
    """Writes the evidence so far."""
    evidence = {
        "what": "orders judged alike by the risk layer and by tests/risk/reference_risk.py", "tier": "long",
        "command": "pytest -m long -n 0 tests/risk/test_differential.py", "commit": commit, "seed": FIRST_LONG_SEED,
        "worlds": worlds, "n": cases, "mismatches": mismatches,
        "objections": {check.name.lower(): seen_bits[check] for check in Check},
    }  # fmt: skip
    (ROOT / "docs/evidence/risk_differential.json").write_text(json.dumps(evidence, indent=1) + "\n")
