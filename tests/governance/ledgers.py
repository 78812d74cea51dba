"""A small ledger for tests: people, trials, versions and evaluations whose numbers are drawn."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from governance.logs import Ticks, create, key

from emp_gym.evaluation.assumptions import HONEST
from emp_gym.governance.ledger.ledger import Ledger, _entry
from emp_gym.governance.ledger.record import DAY_NS, identity, setting
from emp_gym.governance.ledger.signatures import Approver, approvals
from emp_gym.governance.ledger.state import State
from emp_gym.governance.log.canonical import canonical
from emp_gym.governance.log.signed_tree_heads import KeyFile
from emp_gym.governance.log.writer import Log

SETTING = setting("emp-lob-v0", HONEST)
OTHER = setting("emp-lob-v0", {**HONEST, "latency_ns": 300_000})
ROLES = ("paper", "pilot")


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def day(
    number: int, *, symbol: str = "SYN", synthetic: bool = True, content: str = "", date: str = ""
) -> dict[str, Any]:
    when = date or f"2030-{1 + number // 28:02d}-{1 + number % 28:02d}"
    text = content or f"{symbol} {number}"
    return {"symbol": symbol, "date": when, "content": sha(text), "files": [sha("f" + text)], "synthetic": synthetic}


class Desk:
    """A ledger with a hand-wound clock, and everything that a test may want to put into it."""

    def __init__(self, path: Path, people: Sequence[str] = ("alice", "bob")) -> None:
        self.folder, self.clock = path, Ticks()
        self.log: Log = create(path / "ledger.log", clock=self.clock)
        self.ledger = Ledger(self.log, clock=self.clock)
        self.people: dict[str, Approver] = {}
        for name in people:
            self.person(name)

    def person(self, name: str, roles: Sequence[str] = ROLES, vouchers: Sequence[str] = ("alice",)) -> Approver:
        one = self.people.get(name) or Approver(name, KeyFile.generate(self.folder / f"{name}.key"))
        self.ledger.add_signer(one, roles, [self.people[v] for v in vouchers if v in self.people and self.people])
        self.people[name] = one
        return one

    def wait(self, days: float) -> None:
        self.clock.now += int(days * DAY_NS)

    def trial(self, days: Sequence[Mapping[str, Any]] = (), name: str = "ppo") -> int:
        days = list(days or [day(i) for i in range(100, 104)])
        payload = {"agent": name, "config": sha("c"), "days": days, "seed": 0, "setting": SETTING, "steps": 1}
        return self.ledger.note_trial(payload).seq

    def version(self, name: str = "", trial: int | None = None, where: str = SETTING, parent: str = "") -> str:
        trial = self.trial() if trial is None else trial
        name = name or f"ppo-{trial}"
        return self.ledger.register(register(name, trial, where, parent)).version

    def evaluate(self, version: str, **options: Any) -> int:
        return self.ledger.enter(version, lambda found: evaluation(found.version, **options)).seq

    def revoke(self, name: str, *by: str, ends: Sequence[str] = ()) -> int:
        return self.ledger.revoke_signer(name, "key lost", [self.people[one] for one in by], ends).seq

    def promote(self, version: str, to: str, *names: str) -> int:
        return self.ledger.promote(version, to, [self.people[name] for name in names]).seq

    def stage(self, version: str) -> str:
        return self.ledger.stage(version)

    def reread(self) -> Ledger:
        """The same ledger as somebody else opens it."""
        return Ledger(self.log, clock=self.clock)

    def forge(
        self, kind: str, payload: Any, *, subject: str = "", evidence: Sequence[str] = (), ts_ns: int | None = None
    ) -> int:
        """An entry around the ledger's door, by whoever holds the log's key."""
        stored = payload if isinstance(payload, bytes) else canonical(payload)
        return self.log.append(
            "mallory", kind, subject_hash=subject, payload=stored, evidence=evidence, ts_ns=ts_ns
        ).seq

    def with_forged(self, kind: str, payload: Any, *, subject: str = "", evidence: Sequence[str] = ()) -> State:
        """The state after one forged entry more, which is not written: else the first one would spoil the ledger, and
        every later one be refused for that alone."""
        stored = payload if isinstance(payload, bytes) else canonical(payload)
        entry = _entry(self.log, self.ledger.now, "mallory", kind, subject, stored, evidence)
        return self.reread().state.add([entry])

    def wrong_promotion(
        self, version: str, to: str, names: Sequence[str] = ("alice",), **changes: Any
    ) -> tuple[dict[str, Any], str, list[str]]:
        """(payload, subject, evidence) of a promotion that is right in all that can be computed, but for `changes`; the
        people named sign it as it stands."""
        found = self.ledger.find(version)
        case = self.ledger.examine(version, to) if to in ("paper", "pilot", "live") else None
        used = case.used if case else ()
        payload = {
            "version": found.version, "from": found.stage(self.ledger.now), "to": to, "since": found.since,
            "evaluations": [e.seq for e in used], "findings": [],
        } | changes  # fmt: skip
        signed = approvals(self.log.log_id, "promote", payload, [self.people[n] for n in names if n in self.people])
        hashes = [self.log.entry(seq).payload_hash for seq in payload["evaluations"] if 0 <= seq < self.log.size]
        return {"approvals": signed} | payload, found.version, hashes

    def forged_promotion(self, version: str, to: str, names: Sequence[str] = ("alice",), **changes: Any) -> int:
        """The same, written."""
        payload, subject, hashes = self.wrong_promotion(version, to, names, **changes)
        return self.forge("promote", payload, subject=subject, evidence=hashes)


def register(name: str, trial: int, where: str = SETTING, parent: str = "") -> dict[str, Any]:
    files = {"config.json": sha("config " + name), "model.json": sha("model " + name)}
    return {
        "version": identity(files, "abc"), "name": name, "agent": "ppo", "trial": trial, "parent": parent, "files": files,
        "setting": where, "commit": "abc",
    }  # fmt: skip


def evaluation(
    version: str, *, seed: int = 0, sessions: int = 24, edge: float = 2.0, days: Sequence[Mapping[str, Any]] = (),
    breaches: int = 0, where: str = SETTING, champions: Mapping[str, float] | None = None, offset: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """Two episodes a session in four regimes; P&L a session is normal with mean `edge` deviations."""
    rng = np.random.default_rng(seed)
    days = list(days or [day(offset + i) for i in range(sessions)])
    count = 2 * len(days)

    def policy(name: str, role: str, mean: float, broken: int = 0) -> dict[str, Any]:
        pnl = (rng.normal(size=count) * np.sqrt(2) + mean) * 50 * 1e8 if mean is not None else np.zeros(count)
        return {
            "name": name, "role": role, "pnl_e8": [int(x) for x in pnl], "decisions": [256] * count, "breaches": broken,
            "reasons": {},
        }  # fmt: skip

    hold = policy("hold", "baseline", 0.0) | {"pnl_e8": [0] * count}
    return {
        "version": version, "setting": where, "data": "null", "split": "test", "seed": 0, "days": days,
        "windows": {
            "day": [i // 2 for i in range(count)],
            "start": [1000 * (i % 2) for i in range(count)],
            "regime": [(i // 2) % 4 for i in range(count)],
        },
        "policies": [
            policy(version, "candidate", edge, breaches), hold,
            *(policy(name, "champion", mean) for name, mean in (champions or {}).items()),
        ],
        "labeller": "stub", "config": sha("e"), "lock": sha("lock"), "commit": "abc",
    }  # fmt: skip


def findings(desk: Desk, version: str, to: str | None = None) -> dict[str, bool]:
    """Rule -> whether it passes."""
    return {f.rule: f.passed for f in desk.ledger.examine(version, to).findings}


def forward_days(desk: Desk, count: int) -> list[dict[str, Any]]:
    """Lets `count` days pass and names them: sessions that came after what was registered before."""
    found = []
    for i in range(count):
        desk.wait(1)
        found.append(day(500 + i, date=(date(1970, 1, 1) + timedelta(desk.clock.now // DAY_NS)).isoformat()))
    return found


__all__ = ["OTHER", "SETTING", "Desk", "day", "evaluation", "findings", "forward_days", "key", "register", "sha"]
