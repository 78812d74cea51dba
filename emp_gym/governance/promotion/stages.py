"""What a strategy may do at its stage: where it may trade, how much, and under which limits.

``{"gate": "stage", "policy": "momentum", "folder": LOGDIR, "rules": "configs/stages"}``, or with ``"stage": "paper"`` in the place of
the ledger's word. The ledger says at which stage a policy stands; what that allows stands here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from emp_gym import bounded
from emp_gym.data.array_bounds import Arrays
from emp_gym.governance.kill_switch.safe_orders import REASON_NAMES, stand_down
from emp_gym.governance.kill_switch.state import stamp
from emp_gym.governance.promotion.costs import ASKED, Costs
from emp_gym.market.base import VENUES
from emp_gym.risk.gate import RiskGate
from emp_gym.risk.gates import Gate, passed
from emp_gym.risk.limits import Limits, load
from emp_gym.risk.reasons import Mode
from emp_gym.types import (
    I8,
    I64,
    NS,
    Bool,
    ConfigError,
    DataError,
    EmpGymError,
    Orders,
    TruncationReason,
    Verdicts,
    View,
)

ORDER = ("experiment", "paper", "pilot", "live")  # of what is allowed, least first
AGAIN_NS = 60 * NS  # after which the ledger is asked again though it is the same
DROPPED = np.uint64(1 << 33)  # reason bit: nothing may be sent at this stage here


@dataclass(frozen=True)
class StageRules:
    """What one stage allows. None: no bound of its own."""

    venues: tuple[str, ...]
    max_quantity: int | None = None  # lots of one order
    max_position: int | None = None  # lots of one instrument
    limits: str | None = None  # file of limits, relative to the file that names it
    observe: bool = False  # whether risk may look on without acting
    evidence: Costs = ASKED  # what the evidence that leads here must assume of its own orders

    def __post_init__(self) -> None:
        unknown = sorted(set(self.venues) - set(VENUES))
        if unknown or not self.venues:
            raise ConfigError(f"venues must be some of {list(VENUES)}, got {unknown or 'none'}")
        for name in ("max_quantity", "max_position"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                raise ConfigError(f"{name} must be an integer from 1 up, in lots, got {value!r}")
        if type(self.observe) is not bool or not isinstance(self.limits, str | None):
            raise ConfigError(f"observe must be true or false and limits a file, got {self.observe!r}, {self.limits!r}")

    @property
    def free(self) -> bool:
        """Whether orders are held to nothing."""
        return self.max_quantity is None and self.max_position is None and self.limits is None

    def bound(self) -> Limits:
        """The limits of the profile, none above the stage's own sizes."""
        profile = load({"order": {"self_trade": "allow"}} if self.limits is None else self.limits).model_dump()
        entries = [profile["instrument"], *profile["instruments"].values()]
        for part, name in [(profile["order"], "max_quantity"), *((entry, "max_position") for entry in entries)]:
            part[name] = min((n for n in (part[name], getattr(self, name)) if n is not None), default=None)
        return load(profile)


STAGES: Mapping[str, StageRules] = {
    "experiment": StageRules(("replay", "simulated"), observe=True),
    "paper": StageRules(("replay", "simulated", "paper"), max_quantity=1_000, max_position=5_000),
    "pilot": StageRules(VENUES, max_quantity=100, max_position=200),
    "live": StageRules(VENUES, max_quantity=1_000, max_position=5_000),
}
"""Where no rules are given. A pilot is small on purpose."""


def read_rules(source: str | Path | Mapping[str, Any] | None) -> dict[str, StageRules]:
    """Rules by stage: the defaults, changed by a folder of ``STAGE.yaml`` files or by a mapping {stage: {key: value}}."""
    if source is None:
        return dict(STAGES)
    if isinstance(source, Mapping):
        return {stage: _override(stage, source.get(stage, {}), "rules", Path()) for stage in _known_stages(source)}
    folder = Path(source)
    found = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    if not found:
        raise ConfigError(f"{folder}: no rules of stages; expected files such as {folder / 'paper.yaml'}")
    return {
        stage: _override(stage, _yaml(found[stage]), str(found[stage]), folder) if stage in found else STAGES[stage]
        for stage in _known_stages(found)
    }


def _known_stages(named: Mapping[str, Any]) -> tuple[str, ...]:
    for stage in named:
        known_stage(stage, "rules")
    return ORDER


def known_stage(stage: Any, where: str) -> str:
    """`stage`, if there is such a stage; `ConfigError` names the nearest."""
    if stage in ORDER:
        return stage
    near = get_close_matches(str(stage), ORDER, 1)
    raise ConfigError(f"{where}: stage must be one of {list(ORDER)}, got {stage!r}{_hint(near)}")


def _yaml(path: Path) -> Any:
    try:
        return bounded.read_yaml(path) or {}
    except (OSError, DataError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML ({str(error).splitlines()[0]})") from error


def _override(stage: str, said: Any, where: str, folder: Path) -> StageRules:
    """The rules of `stage`, with what `said` changes."""
    known = [field.name for field in fields(StageRules)]
    if not isinstance(said, Mapping):
        raise ConfigError(f"{where}: expected keys and values for {stage}, got {said!r}")
    for key in said:
        if key not in known:
            raise ConfigError(
                f"{where}: {key} is unknown{_hint(get_close_matches(str(key), known, 1))}; known: {known}"
            )
    changes = dict(said)
    if "venues" in said:
        venues = said["venues"]
        if not isinstance(venues, list | tuple):
            raise ConfigError(f"{where}: venues must be a list of {list(VENUES)}, got {venues!r}")
        changes["venues"] = tuple(map(str, venues))
    if "evidence" in said:
        changes["evidence"] = Costs.read(said["evidence"], where)
    if isinstance(said.get("limits"), str):
        changes["limits"] = str(folder / said["limits"])
    return replace(STAGES[stage], **changes)


def _hint(near: list[str]) -> str:
    return f"; did you mean {near[0]!r}?" if near else ""


class LedgerStage:
    """Asks the ledger of a folder for the stage of a policy; reads it again when the file has changed, and after a minute,
    since evidence expires."""

    def __init__(self, folder: str | Path, policy: str, clock: Callable[[], int] = time.time_ns) -> None:
        self.path, self.policy, self.clock = Path(folder).resolve() / "ledger.log", policy, clock
        self._stamp: tuple[int, ...] | None = None
        self._read_ns = 0
        self._stage = ""

    def __call__(self) -> str:
        now, now_ns = stamp(self.path), self.clock()
        if now is None or now != self._stamp or not 0 <= now_ns - self._read_ns < AGAIN_NS:
            self._stage, self._stamp, self._read_ns = self._read(), now, now_ns
        return self._stage

    def _read(self) -> str:
        from emp_gym.governance.ledger.ledger import Ledger
        from emp_gym.governance.log.reader import LogReader

        with LogReader(self.path) as reader:
            return Ledger(reader, clock=self.clock).stage(self.policy)


class StageGate(Gate):
    """Holds a policy to what its stage allows: a `RiskGate` with the stage's sizes and limits, and a look at the venue.

    `stage` is a name, or a callable that gives one; or `policy` and `folder` name a row of a ledger. It is asked at the
    start and whenever an episode begins. A lower stage holds from then on, for every lane and its orders to come; a higher
    one only after a new start. A stage that cannot be told, or that does not allow the venue any more, stops all lanes
    (cancels pass). `rules`: see `read_rules`. `mode` and `masks` as for `RiskGate`; "observe" where the stage allows it.
    """

    name = "stage"
    counts_money = RiskGate.counts_money
    replayable = False  # the ledger may say something else by then
    reason_names = REASON_NAMES

    def __init__(
        self, stage: str | Callable[[], str] | None = None, *, policy: str | None = None, folder: str | Path | None = None,
        rules: str | Path | Mapping[str, Any] | None = None, mode: str = "project", masks: bool = False,
    ) -> None:  # fmt: skip
        if (stage is None) == (policy is None) or (policy is None) != (folder is None):
            raise ConfigError(
                f"a stage gate needs either a stage, or a policy and the folder of its ledger; got stage={stage!r}, "
                f"policy={policy!r}, folder={folder!r}"
            )
        self._ask = LedgerStage(folder, policy) if policy is not None and folder is not None else stage
        self._table = read_rules(rules)
        self.stage = self._read()
        self.risk = RiskGate(self.rules.bound(), mode, masks)
        self.masks = self.risk.masks
        self.venue = ""
        self.trouble = ""  # why the stage cannot be told
        self._stopped: I8 = np.zeros(0, np.int8)

    def __call__(self, view: View, orders: Orders) -> tuple[Orders, Verdicts]:
        if self.stopped is not None:
            everyone = np.ones(len(view.time_ns), np.bool_)
            return stand_down(view, orders, everyone, flatten=False, bit=DROPPED)
        if self.rules.free:
            return orders, passed(orders)
        return self.risk(view, orders)

    @property
    def rules(self) -> StageRules:
        """What holds now."""
        return self._table[self.stage]

    def before_episode(self, view: View, lanes: I64) -> None:
        """Asks for the stage again."""
        if len(self._stopped) != len(view.time_ns):
            self._stopped = np.full(len(view.time_ns), TruncationReason.STAGE, np.int8)
        try:
            now = self._read()
        except (EmpGymError, OSError) as error:
            self.trouble = str(error)
            return
        self.trouble = ""
        if ORDER.index(now) < ORDER.index(self.stage):
            self.stage = now
            self.risk.hold_to(self.rules.bound())

    def _read(self) -> str:
        return known_stage(self._ask() if callable(self._ask) else self._ask, "stage gate")

    @property
    def stopped(self) -> I8 | None:
        """`TruncationReason` [N] while nothing may be sent."""
        allowed = not self.trouble and (not self.venue or self.venue in self.rules.venues)
        return None if allowed or not len(self._stopped) else self._stopped

    def admit(self, venue: str, gates: tuple[Gate, ...]) -> None:
        """Refuses a venue that the stage does not allow, and risk that only looks on where it must act."""
        if venue not in self.rules.venues:
            raise ConfigError(
                f"stage {self.stage} may trade {list(self.rules.venues)}, not {venue}; promote the policy first"
            )
        observing = [gate for gate in (self.risk, *gates) if isinstance(gate, RiskGate) and gate.mode is Mode.OBSERVE]
        if observing and not self.rules.observe:
            raise ConfigError(f"at stage {self.stage} risk must project or reject, got mode 'observe'")
        self.venue = venue

    # ------------------------------------------------------------------------------------------------ as its risk gate says

    def use_threads(self, threads: int) -> None:
        self.risk.use_threads(threads)

    def observe(self, view: View) -> None:
        self.risk.observe(view)

    def allowed(self, view: View, candidates: Orders, *, observed: bool = False) -> Bool:
        return self.risk.allowed(view, candidates, observed=observed)

    def counters(self) -> dict[str, int]:
        return self.risk.counters()

    @property
    def latched(self) -> float:
        return self.risk.latched

    def arrays(self) -> dict[str, np.ndarray]:
        return self.risk.arrays()

    def checked(self, saved: Arrays, view: View, where: str) -> dict[str, np.ndarray]:
        return self.risk.checked(saved, view, where)

    def restore(self, saved: Arrays, view: View) -> None:
        self.risk.restore(saved, view)
