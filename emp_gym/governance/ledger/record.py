"""What the ledger's entries say, as values: days, trials, versions, evaluations; and the shape that each entry must have.

Whoever holds the log's key can append anything, so nothing here trusts a payload: another shape is `Refused`, by name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from emp_gym.evaluation.assumptions import Fees
from emp_gym.governance.log.canonical import canonical
from emp_gym.governance.log.reader import Entry
from emp_gym.governance.log.writer import HASH
from emp_gym.governance.promotion.guard import Performance
from emp_gym.types import F64, I64, NS, Regime

DAY_NS = 86_400 * NS
VALID_NS = 90 * DAY_NS
"""How long an evaluation is evidence."""
STAGES = ("experiment", "paper", "pilot", "live")
CASH = 10**8  # units of P&L in the record, 1e-8 currency


class Refused(Exception):
    """An entry that the rules do not allow; the text says why."""


class Sha(str):
    """In a shape: text that is a SHA-256 in lower-case hex."""


class Maybe(str):
    """In a shape: a key that entries of earlier versions have not."""


ANY = "*"  # in a shape: any keys
LARGEST = 2**53  # of an integer in a payload
FEES = {"maker_bps_e4": int, "maker_lot_e8": int, "taker_bps_e4": int, "taker_lot_e8": int}  # 1e-4 bp; 1e-8 currency a lot
DAY = {
    "content": Sha, Maybe("currency"): str, "date": str, Maybe("fees"): FEES, "files": [Sha], Maybe("price_e8"): int, Maybe("rows"): Sha,
    "symbol": str, "synthetic": bool,
}  # fmt: skip
COSTS = {
    "feed_latency_ns": int, "fees": str, Maybe("half_life_ns"): int, "impact": str, Maybe("maker_fee_bps_e4"): int,
    "order_latency_ns": int, Maybe("taker_fee_bps_e4"): int,
}  # fmt: skip
POLICY = {"breaches": int, "decisions": [int], "name": str, "pnl_e8": [int], "reasons": {ANY: int}, "role": str}
APPROVALS = [{"signature": str, "signer": str}]
SHAPES: Mapping[str, Mapping[str, Any]] = {
    "signer": {"approvals": APPROVALS, "name": str, "public_key": Sha, "roles": [str]},
    "revoke": {"approvals": APPROVALS, "ends": [str], "name": str, "reason": str},
    "trial": {
        "agent": str, "config": Sha, "days": [DAY], "seed": int, "setting": str, "steps": int,
    },
    "register": {
        "agent": str, "commit": str, "files": {ANY: Sha}, "name": str, "parent": str, "setting": str, "trial": int,
        "version": Sha,
    },
    "evaluation": {
        "commit": str, "config": Sha, "data": str, "days": [DAY], "labeller": str, "lock": Sha, "policies": [POLICY],
        "seed": int, "setting": str, "split": str, "version": Sha,
        "windows": {"day": [int], "regime": [int], "start": [int]},
    },
    "promote": {
        "approvals": APPROVALS, Maybe("costs"): COSTS, "evaluations": [int], "findings": [str], "from": str, "since": int,
        "to": str, "version": Sha,
    },
    "demote": {"from": str, "reason": str, "to": str, "version": Sha},
    "alias": {"alias": str, "version": Sha},
}  # fmt: skip
"""Payloads by kind: exactly these keys, those that are `Maybe` or not."""


def payload_of(entry: Entry) -> dict[str, Any]:
    """The payload of an entry whose kind has a shape; `Refused` where it has another."""
    value = json_of(entry)
    _fits(value, SHAPES[entry.kind], entry.kind)
    return value


def json_of(entry: Entry) -> Any:
    """The payload as a JSON value; `Refused` where it is none."""
    try:
        return entry.value
    except (ValueError, RecursionError):
        raise Refused("the payload is not JSON") from None


def _fits(value: Any, shape: Any, where: str) -> None:
    if isinstance(shape, list):
        _must(isinstance(value, list), where, "a list", value)
        for i, item in enumerate(value):
            _fits(item, shape[0], f"{where}[{i}]")
    elif isinstance(shape, Mapping):
        _must(isinstance(value, dict), where, "an object", value)
        needed = {name for name in shape if not isinstance(name, Maybe)}
        whole = ANY in shape or needed <= set(value) <= set(shape)
        _must(whole, where, f"an object with {', '.join(shape)}", list(value))
        for name, part in value.items():
            _fits(name, str, f"a key of {where}")
            _fits(part, shape.get(name, shape.get(ANY)), f"{where}.{name}")
    elif shape is Sha:
        _must(isinstance(value, str) and HASH.fullmatch(value) is not None, where, "a SHA-256 in lower-case hex", value)
    else:
        _must(type(value) is shape, where, f"of type {shape.__name__}", value)
        _must(shape is not int or abs(value) <= LARGEST, where, f"within ±{LARGEST}", value)
        _must(shape is not str or value.isprintable() or value.isascii(), where, "plain text", value)


def _must(holds: bool, where: str, expected: str, got: Any) -> None:
    if not holds:
        raise Refused(f"{where} must be {expected}, got {got!a:.80}")


def setting(env_id: str, keywords: Mapping[str, Any]) -> str:
    """The canonical text of an environment and its keywords, data left out: what makes two evaluations comparable. A keyword that
    came later is left out where it is the default, so that settings of earlier versions stay what they are."""
    kept = {name: value for name, value in keywords.items() if name != "data" and (name, value) != ("hidden_prints", "ignore")}
    return json.dumps({"env": env_id, "kwargs": kept}, sort_keys=True, separators=(",", ":"))


def read_setting(text: str) -> tuple[str, dict[str, Any]]:
    """Environment id and keywords of a setting; `Refused` where it is none."""
    try:
        value = json.loads(text)
        if setting(value["env"], value["kwargs"]) == text and isinstance(value["env"], str):
            return value["env"], value["kwargs"]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        pass
    raise Refused(f"setting must be the canonical text of an environment and its keywords, got {text!r:.80}")


def digest(value: Any) -> str:
    """SHA-256 of the canonical bytes of `value`, in hex."""
    return hashlib.sha256(canonical(value)).hexdigest()


def number(text: str) -> int:
    """A number of 60 bits for `text`: equal for equal texts, for columns that count different things."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:15], 16)


@dataclass(frozen=True)
class Day:
    """One day of data. Its `key` is what makes two days the same: symbol and date for a recorded day, so that a changed
    byte does not make another day of it; the content for a synthetic one, whose date means nothing."""

    symbol: str
    date: str
    content: str  # of the arrays that were replayed
    files: tuple[str, ...]  # of the files that they were made from
    synthetic: bool
    rows: str = ""  # of messages and book alone, whatever instrument they are said to be of; "" where it was not noted
    currency: str = ""  # "" where it was not noted
    fees: Fees | None = None  # the instrument's own, with the price of the day; None where they were not noted

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Day:
        fees = value.get("fees")
        return cls(
            value["symbol"], value["date"], value["content"], tuple(value["files"]), value["synthetic"], value.get("rows", ""),
            value.get("currency", ""), None if fees is None else replace(fees_of(fees), price=value.get("price_e8", 0) / CASH),
        )  # fmt: skip

    @property
    def key(self) -> str:
        return self.content if self.synthetic else f"{self.symbol} {self.date}"

    @property
    def block(self) -> str:
        """What counts as one independent session: the date of a recorded day, since all symbols of a date share its market; a
        synthetic day is one by itself."""
        return self.content if self.synthetic else self.date

    @property
    def session(self) -> Session:
        return self.date, self.block


Session = tuple[str, str]
"""Date and block of a day: sorts by time."""


def fees_of(value: Mapping[str, int]) -> Fees:
    """The fees of an instrument as an entry has them."""
    return Fees(
        value["maker_bps_e4"] / 1e4, value["taker_bps_e4"] / 1e4, value["maker_lot_e8"] / CASH, value["taker_lot_e8"] / CASH
    )  # fmt: skip


def fees_payload(fees: Fees) -> dict[str, int]:
    """The same as integers, for an entry."""
    return {
        "maker_bps_e4": round(fees.maker_bps * 1e4), "taker_bps_e4": round(fees.taker_bps * 1e4),
        "maker_lot_e8": round(fees.maker_per_lot * CASH), "taker_lot_e8": round(fees.taker_per_lot * CASH),
    }  # fmt: skip


@dataclass(frozen=True)
class Trial:
    """One governed training run, noted before it began."""

    seq: int
    ts_ns: int
    agent: str
    setting: str  # canonical text of environment id and keywords, data left out
    seed: int
    days: tuple[Day, ...]  # that it may train on

    @classmethod
    def of(cls, entry: Entry, p: Mapping[str, Any]) -> Trial:
        days = tuple(map(Day.of, p["days"]))
        read_setting(p["setting"])
        return cls(entry.seq, entry.ts_ns, p["agent"], p["setting"], p["seed"], days)


@dataclass(frozen=True)
class Policy:
    """What one policy did in an evaluation."""

    name: str  # a version, or the name of a baseline
    role: str  # candidate, champion, baseline
    pnl_e8: tuple[int, ...]  # net, 1e-8 currency, one an episode
    decisions: tuple[int, ...]
    breaches: int  # control limits broken by an order that was sent


@dataclass(frozen=True)
class Evaluation:
    """One executed evaluation of a version: the table of its episodes, and of others on the same ones."""

    seq: int
    ts_ns: int
    payload_hash: str
    version: str
    setting: str
    seed: int
    days: tuple[Day, ...]
    day: tuple[int, ...]  # of each episode, a place in `days`
    start: tuple[int, ...]  # row
    regime: tuple[int, ...]
    policies: Mapping[str, Policy]

    @classmethod
    def of(cls, entry: Entry, p: Mapping[str, Any]) -> Evaluation:
        """From an entry; `Refused` where columns do not fit one another."""
        windows, days = p["windows"], tuple(map(Day.of, p["days"]))
        read_setting(p["setting"])
        count = len(windows["day"])
        policies = {
            q["name"]: Policy(q["name"], q["role"], tuple(q["pnl_e8"]), tuple(q["decisions"]), q["breaches"])
            for q in p["policies"]
        }
        columns = [*windows.values(), *(c for q in policies.values() for c in (q.pnl_e8, q.decisions))]
        if not count or any(len(column) != count for column in columns):
            raise Refused(f"columns must have one length above 0, got {sorted({len(c) for c in columns})}")
        if not all(0 <= day < len(days) for day in windows["day"]):
            raise Refused(f"windows.day must be a place in days (0 to {len(days) - 1})")
        if not set(windows["regime"]) <= set(map(int, Regime)):
            raise Refused(f"windows.regime must be {min(Regime)} to {max(Regime)}")
        if len(policies) != len(p["policies"]) or p["version"] not in policies:
            raise Refused("policies must have different names, the version's own among them")
        if min(q.breaches for q in policies.values()) < 0 or min(policies[p["version"]].decisions) < 0:
            raise Refused("breaches and decisions count something: expected 0 or more")
        if len({(days[day].key, start) for day, start in zip(windows["day"], windows["start"])}) != count:
            raise Refused("an episode is listed twice")
        return cls(
            entry.seq, entry.ts_ns, entry.payload_hash, p["version"], p["setting"], p["seed"], days,
            tuple(windows["day"]), tuple(windows["start"]), tuple(windows["regime"]), policies,
        )  # fmt: skip

    @cached_property
    def sessions(self) -> I64:
        """Number of each episode's session [E]."""
        blocks = [number(day.block) for day in self.days]
        return np.array([blocks[day] for day in self.day], np.int64)

    def totals(self, name: str) -> dict[Day, int]:
        """P&L of `name` by day, 1e-8 currency."""
        sums: dict[Day, int] = {}
        for place, pnl in zip(self.day, self.policies[name].pnl_e8):
            day = self.days[place]
            sums[day] = sums.get(day, 0) + pnl
        return sums

    def performance(self, name: str) -> Performance:
        """The table of `name` as the guard reads it."""
        policy = self.policies[name]
        keys = [self.days[day].key for day in self.day]
        episode = [number(f"{key} {start} {self.seed}") for key, start in zip(keys, self.start)]
        return Performance(
            name, np.array(episode, np.int64), self.sessions, np.array(self.regime, np.int8),
            np.array(policy.pnl_e8, np.float64) / CASH, np.array(policy.decisions, np.int64),
        )  # fmt: skip


@dataclass
class Version:
    """A registered policy and where it stands. What is registered never changes; the last three do."""

    version: str  # SHA-256 of its files and commit
    seq: int
    ts_ns: int
    name: str
    agent: str
    trial: int  # seq of the trial that made it
    parent: str  # version that it was made from, "" for none
    files: Mapping[str, str]  # name -> SHA-256
    setting: str
    commit: str
    evaluations: tuple[Evaluation, ...] = ()
    moves: tuple[Move, ...] = ()
    until_ns: int = 0  # when the evidence of its stage expires

    @property
    def since(self) -> int:
        """The entry that last moved it: its registration, or the last promotion or demotion."""
        return self.moves[-1].seq if self.moves else self.seq

    def stage(self, now: int) -> str:
        """Its stage at time `now` (ns): one step down when its evidence expires, and one for each 90 days more."""
        level = STAGES.index(self.moves[-1].to) if self.moves else 0
        late = now - self.until_ns
        return STAGES[level] if late < 0 or not level else STAGES[max(level - 1 - late // VALID_NS, 0)]

    def expires(self, now: int) -> int:
        """When it will next fall a step, if it is not renewed (ns); 0 in the first stage."""
        if self.stage(now) == STAGES[0]:
            return 0
        late = now - self.until_ns
        return self.until_ns if late < 0 else self.until_ns + (1 + late // VALID_NS) * VALID_NS


@dataclass(frozen=True)
class Move:
    """One change of stage."""

    seq: int
    ts_ns: int
    origin: str
    to: str
    why: str


def identity(files: Mapping[str, str], commit: str) -> str:
    """The version of these files made by this code: a hash, so that it cannot be anything else."""
    return digest({"commit": commit, "files": dict(files)})


def joined(parts: Sequence[Performance]) -> Performance:
    """One table of at least one part; of an episode that was played more than once the first counts."""
    names = ("episode", "session", "regime", "pnl", "decisions")
    columns = [np.concatenate([getattr(part, name) for part in parts]) for name in names]
    _, first = np.unique(columns[0], return_index=True)
    return Performance(parts[0].name, *(column[first] for column in columns))


def pnl_table(rows: Sequence[Mapping[Session, int] | None]) -> F64 | None:
    """Net P&L [T, N] on the sessions that all rows have, in order of time; a row None is a trial that broke off: zeros."""
    known = [row for row in rows if row is not None]
    common = sorted(set.intersection(*(set(row) for row in known))) if known else []
    if not common:
        return None
    table = np.array([[0 if row is None else row[s] for row in rows] for s in common], np.float64)
    return table / CASH
