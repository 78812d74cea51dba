"""Kills at random moments: nothing new is sent after the call returns, everything open is cancelled, a restart remembers."""

from __future__ import annotations

import functools
import itertools
import os
import random
import threading
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from governance.views import asking, view_of

import emp_gym  # noqa: F401
from emp_gym.governance.kill_switch import state
from emp_gym.governance.kill_switch.gate import KillGate
from emp_gym.governance.kill_switch.safe_orders import OWN_ID
from emp_gym.governance.kill_switch.switch import KillSwitch
from emp_gym.risk.gates import passed
from emp_gym.types import RequestType, TruncationReason

QUOTE, BUY, SELL = 1, 7, 8
KILLS = [50, pytest.param(1000, marks=pytest.mark.long)]


class Wire:
    """The market as it was, with a note of what reaches it and when."""

    def __init__(self, market) -> None:
        self._advance, self.sent = market.advance, []
        market.advance = self

    def __call__(self, orders) -> None:
        began = time.perf_counter()
        asked = orders.kind != RequestType.NONE
        if asked.any():
            new = asked & (orders.kind != RequestType.CANCEL) & (orders.id < OWN_ID)  # not the gate's way to flat
            self.sent.append((began, int(new.sum())))
        self._advance(orders)


class Trader(threading.Thread):
    """Trades until it is told to stop."""

    def __init__(self, env, seed: int) -> None:
        super().__init__(daemon=True)
        self.env, self.rng, self.wire = env, random.Random(seed), Wire(env.unwrapped.lanes.market)
        self.halt, self.ended, self.steps, self.over = threading.Event(), threading.Event(), 0, 0

    def run(self) -> None:
        while not self.halt.is_set():
            *_, truncated, info = self.env.step(np.full(self.env.num_envs, self.rng.choice((QUOTE, BUY, SELL, 2))))
            self.steps += 1
            if self.over == 0 and truncated.all() and (info["final_info"]["truncated_by"] > 0).all():
                self.over = self.steps
                self.ended.set()


def wait_for(condition) -> None:
    until = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < until, "waited for two minutes"
        time.sleep(0)


def spin(seconds: float) -> None:
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


@pytest.mark.parametrize("kills", KILLS)
def test_no_new_order_reaches_the_market_after_kill_has_returned(kills, tmp_path, evidence):
    """A thread trades; this one closes the switch at a random moment, by a call or through the file."""
    rng, late, to_last_ms, steps_after = random.Random(7), 0, [], []
    env = gym.make_vec("emp-lob-v0", num_envs=4, gates=None, autoreset_mode="SameStep", episode="50 decisions")
    for number in range(kills):
        folder = tmp_path / str(number)
        env.unwrapped.lanes.gates = (KillGate(folder, flatten=bool(number % 2)),)
        env.reset(seed=number)
        trader = Trader(env, number)
        trader.start()
        wait_for(lambda trader=trader: trader.steps > 0)
        spin(rng.random() * 2e-3)
        by_file, called = number % 5 == 4, time.perf_counter()
        if by_file:
            (folder / "kill").write_text("stop")
        else:
            KillSwitch.at(folder).trip("test", "random moment")
        returned, at_step = time.perf_counter(), trader.steps
        assert trader.ended.wait(120)
        trader.halt.set()
        trader.join()
        env.unwrapped.lanes.market.advance = trader.wire._advance
        if by_file:
            steps_after.append(trader.over - at_step)
        else:
            late += sum(new for began, new in trader.wire.sent if began > returned)
            to_last_ms.append(max(trader.wire.sent[-1][0] - called, 0.0) * 1e3)
        assert not (env.unwrapped.view.order_id > 0).any(), "nothing is left open"
        KillSwitch._all.pop(folder.resolve()).finish()
        assert KillSwitch.seen(folder).cause is (TruncationReason.FILE if by_file else TruncationReason.CALL)
    assert late == 0
    assert max(steps_after) <= 2, "the step under way when the file was written, and the next one"
    evidence("kill_switch_random_moments", n=kills, seed=7, late_orders=late, by_file=len(steps_after),
             most_steps_after_file=max(steps_after), call_to_last_send_ms={"median": round(float(np.median(to_last_ms)), 3),
             "p99": round(float(np.percentile(to_last_ms, 99)), 3), "max": round(max(to_last_ms), 3)})  # fmt: skip


def test_a_kill_returns_only_when_the_step_under_way_has_sent_its_orders(tmp_path, caplog):
    env = gym.make("emp-lob-v0", gates=[KillGate(tmp_path)])
    env.reset(seed=0)
    env.step(QUOTE)
    market, sending, go_on = env.unwrapped.lanes.market, threading.Event(), threading.Event()
    advance = market.advance

    def slowly(orders) -> None:
        sending.set()
        assert go_on.wait(60)
        advance(orders)

    market.advance = slowly
    trader = threading.Thread(target=env.step, args=(QUOTE,), daemon=True)
    trader.start()
    assert sending.wait(60)
    arguments = {"who": "test", "reason": "why", "patience_s": 60}
    killer = threading.Thread(target=KillSwitch.at(tmp_path).trip, kwargs=arguments, daemon=True)
    killer.start()
    killer.join(0.2)
    assert killer.is_alive(), "orders that had passed are still on their way"
    go_on.set()
    killer.join(60)
    trader.join(60)
    assert not killer.is_alive() and not trader.is_alive() and "has not ended" not in caplog.text


def test_a_kill_between_two_steps_waits_for_nobody(tmp_path, caplog):
    env = gym.make("emp-lob-v0", gates=[KillGate(tmp_path)])
    env.reset(seed=0)
    env.step(QUOTE)
    KillSwitch.at(tmp_path).trip("test", "why", patience_s=5)
    assert "has not ended" not in caplog.text


@pytest.mark.parametrize("kills", KILLS)
def test_a_kill_that_has_returned_survives_the_process(kills, tmp_path, evidence):
    """A child closes the switch, says so, and is killed (SIGKILL) at a random moment before or after."""
    rng, said, unsaid_closed = random.Random(11), 0, 0
    for number in range(kills):
        folder = tmp_path / str(number)
        state.found(folder / "kill")
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            KillSwitch._all.clear()
            switch = KillSwitch.at(folder)
            os.write(writing, b"r")
            switch.trip("child", "why")
            os.write(writing, b"k")
            signal_wait()
        os.close(writing)
        assert os.read(reading, 1) == b"r"
        if number % 2:
            spin(rng.random() * 1e-3)
        else:
            assert os.read(reading, 1) == b"k"
        os.kill(child, 9)
        os.waitpid(child, 0)
        told = number % 2 == 0 or os.read(reading, 1) == b"k"
        os.close(reading)
        closed = KillSwitch.seen(folder) is not None
        assert closed or not told, f"kill {number} had returned and is forgotten"
        said, unsaid_closed = said + told, unsaid_closed + (closed and not told)
        assert KillSwitch.at(folder).check() == closed
    assert said >= kills // 2
    evidence("kill_switch_survives", n=kills, seed=11, returned=said, forgotten=0, closed_before_return=unsaid_closed)


def signal_wait() -> None:
    """Until somebody kills this process."""
    while True:
        threading.Event().wait(60)


def test_a_thousand_open_orders_are_cancelled_within_a_quarter_of_a_second(tmp_path, evidence):
    took = {}
    for name, lanes, slots in (("one_lane", 1, 1000), ("lanes_125", 125, 8)):
        view = view_of(lanes, slots=slots, order_id=np.arange(1, slots + 1)[None])
        orders, told = asking(RequestType.LIMIT, *[0] * 9, lanes=lanes), []
        for number in range(9):
            gate = KillGate(tmp_path / f"{name}-{number}")
            gate(view, orders)
            gate.after_market(view)
            began = time.perf_counter()
            gate.switch.trip_within("a rule", TruncationReason.RATE)
            sent, _ = gate(view, orders)
            told.append((time.perf_counter() - began) * 1e3)
            assert (sent.kind == RequestType.CANCEL).sum() == 1000 and not np.isin(sent.kind, (1, 2, 4)).any()
            gate.switch.finish()
        took[name] = {"median": round(float(np.median(told)), 3), "max": round(max(told), 3)}
    assert max(figures["median"] for figures in took.values()) < 250, took  # one alone may meet a machine that sleeps
    evidence("kill_switch_thousand_cancels_ms", n=9, **took)


def test_the_planted_fault_is_found(tmp_path, monkeypatch):
    """A gate that looks at the switch only now and then lets new orders out after the kill: the harness must see it."""
    look, calls = KillGate.__call__, itertools.count(1)

    @functools.wraps(look)
    def now_and_then(gate, view, orders):
        return look(gate, view, orders) if next(calls) % 64 == 0 else (orders, passed(orders))

    monkeypatch.setattr(KillGate, "__call__", now_and_then)
    monkeypatch.setattr(KillGate, "stopped", None)
    env = gym.make_vec("emp-lob-v0", num_envs=4, autoreset_mode="SameStep", gates=[KillGate(Path(tmp_path))])
    env.reset(seed=0)
    trader = Trader(env, 0)
    trader.start()
    wait_for(lambda: trader.steps > 5)
    KillSwitch.at(tmp_path).trip("test", "why")
    returned, at_step = time.perf_counter(), trader.steps
    wait_for(lambda: trader.steps > at_step + 20)
    trader.halt.set()
    trader.join()
    assert sum(new for began, new in trader.wire.sent if began > returned) > 0
