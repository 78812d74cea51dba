"""Conformance: what every environment must show before anybody trusts a result from it.

``conformance("emp-lob-v0")`` checks a registered id, ``conformance(factory)`` any callable that returns an environment,
ours or a third party's. Each check is a small function whose name says what it shows (`scalar`, `vector`, `plugins`).
One that needs what the environment does not have (a native vector face, action masks) says so and is skipped, never
passed in silence.

What an environment may declare on its unwrapped self, all optional: ``features`` (a sequence with ``.name`` per column
of a flat observation, used in messages), ``constant_features`` (names of columns that may stay constant),
``starts`` (how many different first observations there are, where they are few) and ``task.menu`` (names of discrete
actions; a masked action must do what the one called "keep" does, else action 0).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gymnasium as gym

from emp_gym.envs.conformance import plugins
from emp_gym.envs.conformance import scalar as alone
from emp_gym.envs.conformance import vector as lanes
from emp_gym.envs.conformance.subject import Skip, Subject, failure, place

Check = Callable[[Subject], Iterator[str]]

CHECKS: tuple[Check, ...] = (
    alone.gymnasium_accepts,
    alone.sb3_accepts,
    alone.spaces_are_finite,
    alone.outputs_stay_inside,
    alone.seeds_decide_everything,
    alone.starts_are_random,
    alone.features_vary,
    alone.rewards_vary,
    alone.returned_arrays_are_not_shared,
    alone.scribbling_changes_nothing,
    alone.copies_continue_alike,
    plugins.snapshots_continue_alike,
    plugins.plugins_write_nothing_else,
    alone.masks_hold,
    lanes.lanes_equal_their_twins,
    lanes.lanes_do_not_know_each_other,
    lanes.threads_change_nothing,
    lanes.forked_workers_survive,
    lanes.python_threads_do_not_meet,
)


@dataclass(frozen=True)
class Finding:
    """One thing that does not hold: which check, and in one sentence what was seen."""

    check: str
    what: str

    def __str__(self) -> str:
        return f"{self.check}: {self.what}"


@dataclass(frozen=True)
class CheckResult:
    """What one check gave: findings, or the reason why it did not apply."""

    check: str
    shows: str
    findings: tuple[Finding, ...]
    skipped: str = ""
    seconds: float = 0.0


def conformance(env: str | Callable[..., gym.Env] | Subject, **kwargs: Any) -> list[Finding]:
    """What does not hold for `env`; an empty list means that it conforms. `kwargs` go to the environment."""
    return [finding for outcome in outcomes(env, **kwargs) for finding in outcome.findings]


def outcomes(env: str | Callable[..., gym.Env] | Subject, **kwargs: Any) -> Iterator[CheckResult]:
    """One `CheckResult` a check, as they finish."""
    subject = env if isinstance(env, Subject) else Subject.of(env, **kwargs)
    raised: dict[str, str] = {}
    for check in CHECKS:
        yield run_check(check, subject, raised)


def run_check(check: Callable[[Any], Iterator[str]], subject: Any, raised: dict[str, str] | None = None) -> CheckResult:
    """Runs one check. What is checked may fail in any way; whatever it raises is the finding, of the first check that meets it: `raised`
    says which check has met what."""
    name, shows = check.__name__, (check.__doc__ or "").partition("\n")[0]
    start, found, skipped = time.perf_counter(), [], ""
    try:
        found = [Finding(name, what) for what in check(subject)]
    except Skip as reason:
        skipped = str(reason)
    except Exception as error:  # foreign code: any kind of failure is what we came to report
        what = f"{failure(error)} ({place(error)})"
        by = name if raised is None else raised.setdefault(what, name)
        if by == name:
            found.append(Finding(name, what))
        else:
            skipped = f"not run to its end, because of the {type(error).__name__} that {by} has met"
    return CheckResult(name, shows, tuple(found), skipped, time.perf_counter() - start)
