"""The benchmarks run and say what they promise; how fast is no matter of tests."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace

import numpy as np
import pytest

from emp_gym.benchmarks import days, peers, replay
from emp_gym.benchmarks.figures import SMALL, Figures
from emp_gym.cli import benchmark
from emp_gym.data.tape.replay import replayed_book
from emp_gym.market.public import CANCEL, NONE

COLUMNS = {"median", "min", "max", "unit"}
needs_peer = pytest.mark.skipif(importlib.util.find_spec("hftbacktest") is None, reason="hftbacktest is not installed")


def figures(capsys, *arguments: str) -> dict[str, dict]:
    assert benchmark.main([*arguments, "--small", "--repeats", "2", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def well_formed(found: dict[str, dict]) -> bool:
    """One flat object: figure -> median, min, max, unit; what could not be measured has no numbers but says why."""
    return all(
        set(value) == COLUMNS
        and isinstance(value["unit"], str)
        and (value["median"] is None or value["min"] <= value["median"] <= value["max"])
        for value in found.values()
    )


@pytest.mark.parametrize(
    ("name", "figure"),
    [
        ("parse", "message file, own byte parser, exact ns, 1 core"),
        ("replay", "replay 16 lanes, 100 messages, 1 core"),
        ("env", "env 16 lanes, 100 messages, 1 core"),
        ("busy", "env 16 lanes, 100 messages, 1 core, beside 1 busy"),
        ("log", "append, ledger profile, durable one at a time, payload of 6 fields"),
        ("risk", "risk strict, 16 lanes, 1 core: gate"),
    ],
)
def test_a_benchmark_prints_one_flat_object_and_nothing_else(name, figure, capsys, monkeypatch):
    monkeypatch.setattr(peers, "measure", lambda *_: None)
    found = figures(capsys, name)
    assert well_formed(found)
    assert found[figure]["median"] > 0


@pytest.mark.slow
def test_the_training_benchmark_runs(capsys):
    found = figures(capsys, "train")
    assert well_formed(found)
    assert len(found) == 1


def test_without_json_a_table_is_shown(capsys, monkeypatch):
    monkeypatch.setattr(replay, "measure", lambda figures, *_: figures.add("a figure", [1.0, 3.0, 2.0], "messages/s"))
    assert benchmark.main(["replay", "--small"]) == 0
    captured = capsys.readouterr()
    assert "a figure" in captured.out
    assert "a figure: 2 messages/s" in captured.err


def test_data_that_is_not_there_is_one_line_and_exit_code_2(capsys):
    assert benchmark.main(["replay", "--small", "--data", "no-such-day"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1


def test_the_quoting_policy_keeps_orders_that_need_not_move():
    run = replay.QuotingLanes(days.tape_set(days.configs("one-tick", SMALL.rows, 1)), 4, 10, 1)
    kept = moved = 0
    for _ in range(100):
        standing = [(lane, slot) for lane in range(4) for slot in run.market.public.open[lane] if slot["id"]]
        before = {(lane, int(slot["id"])): int(slot["price"]) for lane, slot in standing}
        touch = run.market.public.book[:, 0, [0, 2], 0].copy()
        run.step()
        asked, kind = run.orders.records, run.orders.kind
        assert not (kind == CANCEL).any() or (run.market.public.book[:, 0, [1, 3], 0] == 0).any()
        for (lane, order), price in before.items():
            wanted = price in touch[lane]
            targeted = ((asked[lane]["target"] == order) & (kind[lane] != NONE)).any()
            kept += wanted and not targeted
            moved += targeted
            assert wanted != targeted
    assert kept > 100 and moved > 10
    assert run.fills > 0


@needs_peer
@pytest.mark.parametrize("regime", days.REGIMES[1:])
def test_the_price_feed_of_the_peer_holds_every_visible_level(regime):
    from hftbacktest import BUY_EVENT, DEPTH_EVENT

    from emp_gym.benchmarks.hft_events import market_by_price

    tape = days.tape_set(days.configs(regime, SMALL.rows, 1))
    events = market_by_price(tape)
    for row in (10, 1_000, SMALL.rows - 1):
        seen: tuple[dict[int, int], dict[int, int]] = ({}, {})
        for event in events[events["exch_ts"] <= tape.messages["time_ns"][row]]:
            if event["ev"] & 0xFF == DEPTH_EVENT:
                seen[0 if event["ev"] & BUY_EVENT else 1][int(event["px"])] = int(event["qty"])
        last = int(tape.rows["group_end"][row])
        assert tuple({p: q for p, q in side.items() if q > 0} for side in seen) == replayed_book(tape, last)


@needs_peer
def test_the_peer_sees_our_best_prices_and_fills_the_same_orders():
    tape = days.tape_set(days.configs("one-tick", 20_000, 1))
    ours, times = peers.own_quotes(tape)
    theirs, _ = peers._quotes(tape, peers.market_by_order(tape), times, True)
    assert len(ours.fills) > 100
    assert np.array_equal(ours.best, theirs.best)
    untouched = {order for order in ours.fills.keys() | theirs.fills.keys() if order not in ours.through}
    same = sum(ours.fills.get(order) == theirs.fills.get(order) for order in untouched)
    assert same >= 0.98 * len(untouched)


def test_a_missing_peer_says_how_to_install_it(monkeypatch):
    import builtins

    real = builtins.__import__

    def without(name, *rest, **keywords):
        if name.split(".")[0] == "hftbacktest":
            raise ImportError(name)
        return real(name, *rest, **keywords)

    monkeypatch.setattr(builtins, "__import__", without)
    found = Figures()
    peers.measure(found, replace(SMALL), days.tape_set(days.configs("one-tick", SMALL.rows, 1)))
    assert found.values["hftbacktest"]["median"] is None
    assert "pip install" in found.values["hftbacktest"]["unit"]
