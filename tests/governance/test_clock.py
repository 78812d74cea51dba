"""What a ledger believes of a clock: a jump is refused, a clock that is behind is spoken of, and one bad entry moves nothing."""

from __future__ import annotations

import logging

import pytest

from emp_gym.cli import promote
from emp_gym.governance.errors import ClockJumped, LedgerError
from emp_gym.governance.ledger import clock
from emp_gym.governance.ledger.record import DAY_NS, VALID_NS
from emp_gym.governance.verify import verify
from tests.governance.ledgers import Desk, evaluation
from tests.governance.logs import START_NS, Ticks, create

SEVENTY_YEARS = 70 * 365


def test_a_clock_seventy_years_ahead_writes_nothing_and_is_named(desk: Desk) -> None:
    version, size, before = desk.version(), desk.log.size, desk.ledger.state.now
    desk.wait(SEVENTY_YEARS)
    for act in (desk.trial, lambda: desk.evaluate(version), lambda: desk.ledger.set_alias("mine", version)):
        with pytest.raises(ClockJumped, match=rf"25,550 days after entry {size - 1} \(2023-11-14 .*at most 366 days.*--accept-clock"):
            act()
    assert desk.log.size == size and desk.ledger.state.now == before
    desk.wait(-SEVENTY_YEARS)
    desk.evaluate(version)
    assert desk.ledger.now - before < DAY_NS, "set right, it goes on as if nothing had been"


def test_a_year_without_entries_needs_no_word(desk: Desk) -> None:
    desk.wait(365)
    assert desk.trial() == desk.log.size - 1 and desk.ledger.state.ahead == []


def test_a_jump_that_is_meant_is_accepted_in_an_entry_and_lets_evidence_expire(desk: Desk) -> None:
    version = desk.version()
    desk.evaluate(version)
    desk.promote(version, "paper", "alice")
    assert desk.ledger.accept_clock() is None, "there is no jump"
    desk.wait(400)
    receipt = desk.ledger.accept_clock()
    assert receipt is not None and desk.log.entry(receipt.seq).kind == clock.ACCEPTED
    assert desk.stage(version) == "experiment" and desk.reread().state.now == desk.ledger.state.now >= START_NS + 400 * DAY_NS
    assert desk.trial() == receipt.seq + 1
    assert desk.log.head().ts_ns >= START_NS + 400 * DAY_NS
    assert verify(desk.log.path).whole


def test_an_entry_under_a_clock_that_jumped_moves_no_time_for_whoever_reads_it(desk: Desk) -> None:
    version = desk.version()
    desk.evaluate(version)
    desk.promote(version, "paper", "alice")
    seq = desk.forge("note", {"x": 1}, ts_ns=desk.clock.now + SEVENTY_YEARS * DAY_NS)
    state = desk.reread().state
    assert state.ahead == [seq] and state.now < START_NS + DAY_NS
    assert desk.stage(version) == "paper" and desk.trial() == seq + 1
    desk.forge("demote", {"version": version, "from": "paper", "to": "experiment", "reason": "x"}, subject=version,
               ts_ns=desk.clock.now + SEVENTY_YEARS * DAY_NS)  # fmt: skip
    assert desk.ledger.find(version).moves[-1].ts_ns < START_NS + DAY_NS, "what it says holds, when it says it does not"


def test_evidence_from_the_future_is_no_younger_for_it(desk: Desk) -> None:
    version = desk.version()
    desk.wait(100)
    desk.forge("evaluation", evaluation(version), subject=version, ts_ns=desk.clock.now + 400 * DAY_NS)
    (used,) = desk.ledger.find(version).evaluations
    assert used.ts_ns + VALID_NS < desk.ledger.now
    with pytest.raises(LedgerError):
        desk.promote(version, "paper", "alice")


def test_a_clock_that_is_behind_is_spoken_of_once_and_times_never_decrease(desk: Desk, caplog) -> None:
    desk.trial()
    last = desk.ledger.state.now
    desk.wait(-10)
    with caplog.at_level(logging.WARNING, "emp_gym"):
        desk.trial()
        desk.trial()
    (said,) = [record.getMessage() for record in caplog.records if ".log" in record.name]
    assert "the clock is behind" in said and "9 days, 23:59:59" in said and "2023-11-14" in said
    times = [entry.ts_ns for entry in desk.log.entries()]
    assert times == sorted(times) and times[-1] == last
    heads = [head.ts_ns for head in desk.log.heads()]
    assert heads == sorted(heads)


def test_a_kill_is_written_whatever_the_clock_says_and_moves_no_time(tmp_path, caplog) -> None:
    ticks = Ticks()
    with create(tmp_path / "a.log", clock=ticks) as log:
        log.append("a", "k")
        ticks.now += SEVENTY_YEARS * DAY_NS
        with caplog.at_level(logging.WARNING, "emp_gym"):
            receipt = log.append("rule", "kill", payload={"x": 1})
            log.append("rule", "kill", payload={"x": 2})
        assert receipt.ts_ns < START_NS + DAY_NS
        (said,) = [record.getMessage() for record in caplog.records]
        assert "the clock jumped" in said and "25,550 days" in said
        ticks.now -= (SEVENTY_YEARS + 5) * DAY_NS
        assert log.append("a", "k").ts_ns == receipt.ts_ns
        times = [entry.ts_ns for entry in log.entries()]
        assert times == sorted(times)


def test_the_command_says_it_and_accepts_it(desk: Desk, capsys, monkeypatch) -> None:
    desk.wait(500)
    monkeypatch.setattr("emp_gym.cli.promote.GovernanceFolder", None, raising=False)
    args = promote.parser().parse_args([str(desk.folder), "--accept-clock"])
    assert args.accept_clock is True and promote.parser().parse_args([str(desk.folder)]).accept_clock is None
    made = promote.OpenLedger(None, desk.ledger, None)  # type: ignore[arg-type]
    from emp_gym.cli.promotion_view import listing

    listing(desk.ledger, as_json=False)
    assert "the clock jumped" in capsys.readouterr().out
    assert promote._accept_clock(made, args) == 0
    assert "accepted: it is 2025" in capsys.readouterr().out
    assert promote._accept_clock(made, args) == 0
    assert "no jump to accept" in capsys.readouterr().out
    listing(desk.ledger, as_json=False)
    assert "jumped" not in capsys.readouterr().out


@pytest.mark.parametrize("ts_ns", [-(1 << 62), (1 << 63) - 1])
def test_any_time_can_be_said(ts_ns: int) -> None:
    assert clock.said(ts_ns)
    assert "days after x" in clock.ahead((1 << 63) - 1, ts_ns, "x") and clock.behind(ts_ns, (1 << 63) - 1, "x") is not None
