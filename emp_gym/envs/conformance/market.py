"""Conformance: what every market must show before anybody trusts a result from it. Episodes are short (`market_course.EPISODE`): what a
market does later is not seen.

``market_conformance(MyMarket)`` gives what does not hold. Each check is a function whose docstring is the sentence that it shows
(`check_market_orders`, `check_market_runs`). One that needs what the market does not have (halts, latency) says so and is skipped,
never passed in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from emp_gym.envs.conformance import market_orders as orders
from emp_gym.envs.conformance import market_runs as runs
from emp_gym.envs.conformance.market_driver import MarketSubject
from emp_gym.envs.conformance.suite import CheckResult, Finding, run_check
from emp_gym.market.base import Market

CHECKS: tuple[Callable[[MarketSubject], Iterator[str]], ...] = (
    orders.arrays_are_as_promised,
    orders.money_is_conserved,
    orders.fees_are_the_rules,
    orders.the_door_refuses,
    orders.what_a_mask_allows_is_accepted,
    orders.slots_end,
    orders.cancel_in_every_state,
    orders.replace_is_new,
    orders.fills_fit_their_orders,
    orders.latency_is_kept,
    orders.nothing_trades_in_a_halt,
    orders.answers_come_once,
    runs.time_goes_on,
    runs.lanes_do_not_know_each_other,
    runs.threads_change_nothing,
    runs.same_start_same_bytes,
    runs.copies_continue,
    runs.starts_keep_apart,
    runs.named_are_announced,
    runs.nothing_after_t,
)


def market_conformance(market: str | type[Market], **keywords: Any) -> list[Finding]:
    """What does not hold for `market`, a class or ``"module:Class"``; an empty list means that it conforms. `keywords` are its own."""
    return [finding for outcome in market_outcomes(market, **keywords) for finding in outcome.findings]


def market_outcomes(market: str | type[Market] | MarketSubject, **keywords: Any) -> Iterator[CheckResult]:
    """One `CheckResult` a check, as they finish."""
    subject = market if isinstance(market, MarketSubject) else MarketSubject.of(market, **keywords)
    raised: dict[str, str] = {}
    for check in CHECKS:
        yield run_check(check, subject, raised)
