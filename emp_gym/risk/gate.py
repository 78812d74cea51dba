"""The risk layer as a gate: limits, a mode, and the state of every lane."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from emp_gym.data.array_bounds import MOST, Arrays, Bounds, typed
from emp_gym.risk import checks
from emp_gym.risk.audit import AuditRing
from emp_gym.risk.checks import OBJECTIONS, CheckBuffers
from emp_gym.risk.compiled_limits import Rules, bind
from emp_gym.risk.gates import Gate
from emp_gym.risk.limits import Limits, load
from emp_gym.risk.reasons import Check, Latch, Mode
from emp_gym.risk.state import FULL_SCALE, MISSING, RiskState
from emp_gym.types import CASH_UNITS, F64, I64, Bool, ConfigError, Orders, Verdicts, View


class RiskGate(Gate):
    """Checks orders against `limits` (a YAML file, a mapping or `Limits`); see `checks` for what is checked.

    `mode` is "project" (cut to what is allowed), "reject" (drop whole) or "observe" (report only). With `masks` the action
    mask of a discrete task leaves only what would pass untouched. `audit` is how many touched orders to remember (see
    `emp_gym.risk.audit`). One gate belongs to one environment, and uses as many threads as that does. The orders and verdicts
    that it gives back are valid until the next call.
    """

    name = "risk"
    reason_names = tuple(check.name.lower().replace("_", "-") for check in Check)
    counts_money = "currency and price unit"  # of which its limits are: an environment refuses it where its days have several

    def __init__(
        self, limits: str | Path | Mapping[str, Any] | Limits | None = None, mode: str = "project", masks: bool = False,
        audit: int | None = None,
    ) -> None:  # fmt: skip
        if limits is None:
            raise ConfigError(
                "the risk gate needs limits: a YAML file such as configs/limits/default.yaml, or a mapping"
            )
        if not isinstance(mode, str) or mode.upper() not in Mode.__members__:
            raise ConfigError(f"mode must be one of {[entry.name.lower() for entry in Mode]}, got {mode!r}")
        self.limits, self.mode, self.masks = load(limits), Mode[mode.upper()], bool(masks)
        self.audit = None if audit is None else AuditRing(audit)
        self.last_latch: I64 = np.zeros(0, np.int64)  # `latch` [N] of each lane when its last episode had ended
        self.last_overshoot: F64 = np.zeros(0, np.float64)  # `overshoot` [N] likewise
        self._threads = 1
        self._digest = self.limits.digest
        self._state: RiskState | None = None
        self._rules: Rules | None = None
        self._desk: CheckBuffers | None = None

    def __call__(self, view: View, orders: Orders) -> tuple[Orders, Verdicts]:
        state, rules, desk = self._ready(view, orders.kind.shape[1])
        sent, verdicts = checks.check(view, orders, state, rules, mode=self.mode, desk=desk)
        if self.audit is not None and verdicts.touched:
            self.audit.note(view, orders, sent, verdicts, self._digest)
        if self.mode is Mode.OBSERVE:
            return orders, Verdicts(verdicts.reason, orders.quantity, orders.quantity, verdicts.touched)
        return sent, verdicts

    def observe(self, view: View) -> None:
        """Brings the state up to `view`, so that a limit that was passed in a step is known in the same step."""
        state, rules, desk = self._ready(view, self._desk.slots if self._desk else 1)
        checks.observe(view, state, rules, desk=desk)

    def allowed(self, view: View, candidates: Orders, *, observed: bool = False) -> Bool:
        """[N, A] which of the candidates [N, A, K] would pass untouched. No token is taken; `view` is observed first,
        unless the caller says that it has been."""
        state, rules, desk = self._ready(view, max(candidates.kind.shape[2], self._desk.slots if self._desk else 1))
        if not observed:
            checks.observe(view, state, rules, desk=desk)
        if self.mode is Mode.OBSERVE:
            return np.ones(candidates.kind.shape[:2], np.bool_)
        return checks.allowed(view, candidates, state, rules, desk=desk)

    def _ready(self, view: View, slots: int) -> tuple[RiskState, Rules, CheckBuffers]:
        lanes, instruments = view.position.shape
        if self._rules is None:
            self._rules = bind(self.limits, instruments, _one_unit(view))
        if self._state is None:
            self._state = RiskState.empty(lanes, instruments)
        if self._state.instrument.shape != (lanes, instruments):
            raise ConfigError(
                f"this gate keeps the state of {self._state.instrument.shape} (lanes, instruments), got a view of "
                f"{(lanes, instruments)}; give each environment a gate of its own"
            )
        if self._desk is None or (self._desk.slots, self._desk.threads) != (slots, self._threads):
            before, self._desk = self._desk, CheckBuffers.of(view, slots, self._threads)
            if before is not None:
                self._desk.objections[0] = before.objections.sum(axis=0)
        return self._state, self._rules, self._desk

    # ------------------------------------------------------------------------------------------- what its environment says

    def use_threads(self, threads: int) -> None:
        """How many threads to use, 1 without a word; an environment says its own when the gate is put into it."""
        self._threads = threads

    def before_episode(self, view: View, lanes: I64) -> None:
        """Looks once more at `lanes` [n], whose episodes have ended: the marks of the last step count too."""
        state, rules, desk = self._ready(view, self._desk.slots if self._desk else 1)
        checks.observe(view, state, rules, lanes=lanes, desk=desk)
        if len(self.last_latch) != len(state.lane):
            self.last_latch, self.last_overshoot = np.zeros(len(state.lane), np.int64), np.zeros(len(state.lane))
        ended = state.lane[lanes]
        self.last_latch[lanes], self.last_overshoot[lanes] = _latch(ended), self._overshoot(ended)

    # ------------------------------------------------------------------------------------------------- what people may do

    @property
    def state(self) -> RiskState:
        """The state of every lane; there is none before the first call."""
        if self._state is None:
            raise ConfigError("the risk gate has no state before its first call: step or observe first")
        return self._state

    def begin(self, lanes: I64) -> None:
        """Forgets the episodes of `lanes` [n]; the kill latch and position scales stay."""
        self.state.lane["begun"][lanes] = 0

    def kill(self, lanes: I64 | slice = slice(None)) -> None:
        """Closes the kill latch: only cancels pass until `rearm`, in later episodes too."""
        self.state.lane["killed"][lanes] = 1

    def rearm(self, lanes: I64 | slice = slice(None)) -> None:
        """Opens the kill latch and the latches of losses and executions; losses are counted from here."""
        lane = self.state.lane
        lane["killed"][lanes] = lane["latch"][lanes] = lane["latch_bits"][lanes] = lane["executed_ns"][lanes] = 0
        lane["start2"][lanes] = lane["peak2"][lanes] = MISSING
        lane["budget_bps"][lanes] = FULL_SCALE

    def hold_to(self, limits: str | Path | Mapping[str, Any] | Limits) -> None:
        """Other limits from the next decision on; what is remembered of each lane stays."""
        self.limits, self._rules = load(limits), None
        self._digest = self.limits.digest

    def scale(self, scale_bps: np.ndarray) -> None:
        """Scales the position limits, basis points [N, M] or what broadcasts to it; never above the limit itself."""
        wanted = np.asarray(scale_bps)
        if wanted.dtype.kind not in "iu" or wanted.min() < 0 or wanted.max() > FULL_SCALE:
            raise ConfigError(f"scales must be integers in [0, {FULL_SCALE}] basis points, got {wanted.dtype} {wanted}")
        self.state.instrument["scale_bps"] = wanted

    # --------------------------------------------------------------------------------------------------------- what they see

    @property
    def latch(self) -> I64:
        """Latch [N]; a closed kill latch is HALTED."""
        return _latch(self.state.lane)

    @property
    def latch_bits(self) -> np.ndarray:
        """Checks [N] that closed the latches."""
        return self.state.lane["latch_bits"] | (self.state.lane["killed"] != 0)

    @property
    def latched(self) -> float:
        """Share of lanes whose latch is closed; 0 before the first call."""
        return 0.0 if self._state is None else float((self.latch > 0).mean())

    @property
    def overshoot(self) -> F64:
        """How far [N] a loss was beyond its limit when its latch closed, in currency."""
        return self._overshoot(self.state.lane)

    def _overshoot(self, lane: np.ndarray) -> F64:
        unit = 0 if self._rules is None else int(self._rules.portfolio[0]["price_to_cash"])
        return lane["overshoot2"] * (unit / (2.0 * CASH_UNITS))

    def counters(self) -> dict[str, int]:
        """Orders that each check has objected to so far."""
        counts = self._desk.objections.sum(axis=0) if self._desk else np.zeros(len(Check), np.int64)
        return {name: int(counts[check]) for name, check in zip(self.reason_names, Check, strict=True)}

    def described(self) -> dict[str, Any]:
        """Whoever installed it, with its limits as they are."""
        limits = self.limits.model_dump(mode="json")
        return {"gate": self.name, "limits": limits, "mode": self.mode.name.lower(), "masks": self.masks}

    # ----------------------------------------------------------------------------------------------------------- to be kept

    def arrays(self) -> dict[str, np.ndarray]:
        if self._state is None or self._desk is None:
            return {}
        return {**vars(self._state), "objections": self._desk.objections.sum(axis=0)}

    def checked(self, saved: Arrays, view: View, where: str) -> dict[str, np.ndarray]:
        own = vars(RiskState.empty(*view.position.shape)) | {"objections": np.zeros(OBJECTIONS, np.int64)}
        found = typed(own, saved, where)
        _stop_if_out_of_bounds(found, Bounds(where))
        return found

    def restore(self, saved: Arrays, view: View) -> None:
        self._state = RiskState(saved["lane"], saved["instrument"], saved["ring"])
        *_, desk = self._ready(view, self._desk.slots if self._desk else 1)
        desk.objections[...] = 0  # a row a thread; this machine may have others
        desk.objections[0] = saved["objections"]


def _stop_if_out_of_bounds(saved: Arrays, bounds: Bounds) -> None:
    """`DataError` where a gate could not have remembered `saved`."""
    lane, instrument, ring = saved["lane"], saved["instrument"], saved["ring"]
    for name, high in (
        ("begun", 1), ("killed", 1), ("latch", max(Latch)), ("budget_bps", FULL_SCALE), ("messages", MOST), ("executions", MOST),
        ("highest_id", MOST), ("sent", 1 << 40), ("touched", MOST),
    ):  # fmt: skip
        bounds.within(f"gate: lane.{name}", lane[name], 0, high)
    for name in ("cash2", "equity2", "start2", "peak2", "overshoot2", "day", "time_ns", "submitted_ns", "messaged_ns", "executed_ns"):
        bounds.within(f"gate: lane.{name}", lane[name], -MOST, MOST)
    for name in instrument.dtype.names or ():
        low = 0 if name.endswith(("size", "bps")) else -MOST
        bounds.within(f"gate: instrument.{name}", instrument[name], low, MOST)
    bounds.within("gate: objections", saved["objections"], 0, MOST)
    for name in ring.dtype.names or ():
        bounds.within(f"gate: ring.{name}", ring[name], -MOST, MOST)


def _one_unit(view: View) -> int:
    """Cash of a price unit and lot, which amounts of money are bound to."""
    unit = int(view.price_to_cash[0, 0])
    if (view.price_to_cash != unit).any():
        raise ConfigError(
            "the limits of a risk gate are money of one kind, but the instruments of this view count prices in several units "
            f"(cash of one: {sorted(set(view.price_to_cash.ravel().tolist()))}); make an environment for the days of each"
        )
    return unit


def _latch(lane: np.ndarray) -> I64:
    """`Latch` of each LANE_STATE; a closed kill latch is HALTED."""
    return np.where(lane["killed"] != 0, int(Latch.HALTED), lane["latch"])
