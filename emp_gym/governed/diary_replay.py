"""Runs an environment again from its diary and compares every column of every decision bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from emp_gym import bounded, trust
from emp_gym.envs.about import about
from emp_gym.envs.wrappers.diary import Labels, named_in, regimes_of
from emp_gym.governance.diary.blocks import MASKED, SETTLED, UNKNOWN_REGIME, Block, fields
from emp_gym.governance.diary.diary import DiaryReader, Run
from emp_gym.governance.diary.recorder import DecisionRecorder
from emp_gym.risk.gates import Gate
from emp_gym.runs.contract import environment_keywords, takes
from emp_gym.types import ConfigError, DataError, Orders, Regime, RequestType, Verdicts, View

COLUMNS = (
    "lane", "step", "decision", "time_ns", "day", "row", "observation", "regime", "action", "orders", "objections",
    "latch", "sent", "fills", "reward", "pnl2", "flags",
)  # fmt: skip
"""What is compared, in the order in which a decision makes it: of several that differ, the first is the cause."""
TABLES = ("orders", "objections", "sent", "fills")
LARGEST = 1 << 53  # of quantities and prices


@dataclass(frozen=True)
class Difference:
    """The first place at which a replay is not what the diary says."""

    step: int
    lane: int
    decision: int
    column: str
    expected: str  # by the diary
    got: str

    def __str__(self) -> str:
        where = f"step {self.step}, lane {self.lane}, decision {self.decision}"
        return f"{where}: {self.column} is {self.got} here, {self.expected} in the diary"


@dataclass(frozen=True)
class Replayed:
    """What a replay has found."""

    run: int
    decisions: int  # that are the same
    difference: Difference | None
    played_back: tuple[str, ...]  # gates whose say was taken from the diary, since it cannot make them again
    whole: bool  # the run has its end; else it was replayed as far as it goes

    @property
    def identical(self) -> bool:
        return self.difference is None


def replay(
    reader: DiaryReader,
    run: int | None = None,
    *,
    data: Any = None,
    threads: int | None = None,
    regime: Labels | None = None,
) -> Replayed:
    """Makes the environment of `run` (None: the last) from its entry, feeds it the recorded actions, compares.

    `data` says where the days lie if not where they lay then; other days are a `DataError`. Regimes are compared only where
    `regime` is given, as to the wrapper. `ConfigError` where the environment cannot be made again.
    """
    told = reader.run(run)
    env = _environment(told, data, threads)
    known = about(env)
    player = _Player(env.unwrapped, [gate["name"] for gate in told.about["gates"][len(env.unwrapped.gates) :]])
    regimes = regimes_of(known.days, regime)
    recorder = env.unwrapped.attach(DecisionRecorder(told.lanes, known.requests, told.about["levers"], run=told.leaf, regimes=regimes))
    same, difference = 0, None
    try:
        for block in reader.blocks(told):
            if regime is None:
                block.decisions["regime"] = UNKNOWN_REGIME
            _run_again(env, told, recorder, player, block, reader.path.parent / "artefacts")
            difference, equal = _compare(block, recorder.take())
            same += equal
            if difference is not None:
                break
    finally:
        env.close()
    return Replayed(told.number, same, difference, tuple(player.names), told.end is not None)


def _environment(told: Run, data: Any, threads: int | None) -> Any:
    """The environment of a run, with the gates that can be made again, up to the first that cannot."""
    run, where = told.about, f"run {told.number} of the diary"
    named = named_in(run, where)
    trust.ask("diary", named, where)
    if data is None:
        if not run["data"]["given"]:
            raise ConfigError(f"run {told.number} was given its days as objects: say where they lie (data=, --data)")
        data = bounded.loads(run["data"]["given"], where)
    gates = named["gates"][: next((at for at, gate in enumerate(run["gates"]) if not gate["made_by"]), len(run["gates"]))]
    keywords = environment_keywords(run["env"])
    for key in named["kwargs"]:
        if not takes(keywords, key):
            raise DataError(f"{where}: {run['env']} takes no {key!r}")
    arguments = {**named["kwargs"], "data": data, "gates": gates, "threads": threads}
    if run["face"] == "scalar":
        env: Any = gym.make(run["env"], disable_env_checker=True, **(arguments | {"threads": 1}))
    else:
        env = gym.make_vec(run["env"], num_envs=told.lanes, **arguments)
    if env.unwrapped.tape_set.hash != run["data"]["hash"]:
        env.close()
        raise DataError(
            f"run {told.number} was on days with hash {run['data']['hash'][:16]}… ({', '.join(run['data']['days'][:3])}"
            f"{', …' if len(run['data']['days']) > 3 else ''}), got {env.unwrapped.tape_set.hash[:16]}…; give the same days"
        )
    return env


def _run_again(env: Any, told: Run, recorder: DecisionRecorder, player: _Player, block: Block, artefacts: Path) -> None:
    """Takes the steps up to the end of `block`, with the resets between."""
    _stop_if_out_of_bounds(block, env)
    n, steps = told.lanes, block.decisions["step"]
    for step in range(recorder.step, block.first_step + block.steps):
        for before, seed, options in told.resets:
            if before == step:
                env.reset(seed=seed, options=_where_it_is(options, artefacts))
        low, high = np.searchsorted(steps, [step, step + 1])
        actions = np.zeros((n, *block.actions.shape[1:]), block.actions.dtype)
        actions[block.decisions["lane"][low:high]] = block.actions[low:high]
        player.turn_to(block, int(low), int(high))
        env.step(actions if told.about["face"] == "vector" else actions[0])


def _stop_if_out_of_bounds(block: Block, env: Any) -> None:
    """`DataError` where a block holds what no market can be told: another slot, kind, side, instrument, or action."""
    known, days = about(env), len(env.unwrapped.tape_set.info)
    bounds = {
        "slot": (0, known.requests - 1), "kind": (0, max(RequestType)), "side": (-1, 1), "instrument": (0, 0), "day": (0, days - 1),
        "latch": (0, 127), "quantity": (-LARGEST, LARGEST), "price": (-LARGEST, LARGEST), "before": (-LARGEST, LARGEST),
        "after": (-LARGEST, LARGEST), "regime": (UNKNOWN_REGIME, max(Regime)),
    }  # fmt: skip
    for name, table in (("decisions", block.decisions), *block.tables()):
        for column in bounds.keys() & set(table.dtype.names or ()):
            low, high = bounds[column]
            wrong = (table[column] < low) | (table[column] > high)
            if wrong.any():
                at = int(np.argmax(wrong))
                _refuse(block, f"{name}.{column}, entry {at}: expected {low} to {high}, got {table[column][at]}")
    menu, levers, actions = len(known.menu), env.unwrapped.action_space.shape[-1:], block.actions
    if actions.ndim != (1 if menu else 2) or actions.dtype.kind != ("i" if menu else "f"):
        _refuse(block, f"actions: expected {'numbers of a menu' if menu else 'levers'}, got {actions.dtype} of shape {actions.shape}")
    if not menu and actions.shape[1:] != levers:
        _refuse(block, f"actions: expected {levers[0]} levers, got {actions.shape[1]}")


def _refuse(block: Block, why: str) -> None:
    raise DataError(f"the diary's block from step {block.first_step} on: {why}; it is damaged, or of another environment")


def _where_it_is(options: Any, artefacts: Path) -> Any:
    """A state of lanes that a reset began from lies among the artefacts beside the diary, wherever the folder is now."""
    if not options or "state" not in options:
        return options
    here = artefacts / Path(options["state"]).name
    return {**options, "state": str(here)} if here.is_file() else options


class _Player:
    """Gives the recorded say of gates that cannot be made again: the first of them the orders, each its objections."""

    def __init__(self, env: Any, names: list[str]) -> None:
        self.names, self._env, self._at = names, env, (0, 0)
        self._block: Block | None = None
        self.latch = np.zeros(len(env.mask), np.int64)
        for _ in names:
            env.install(_PlayedBack(self, len(env.gates)))

    def turn_to(self, block: Block, low: int, high: int) -> None:
        """The next step is that of decisions [low, high) of `block`."""
        if not self.names:
            return
        self._block, self._at = block, (low, high)
        rows, chosen = block.decisions[low:high], block.actions[low:high]
        self.latch[:] = 0
        self.latch[rows["lane"]] = rows["latch"]
        if about(self._env).menu:  # a gate that is not there cannot narrow the mask: what was masked is masked
            masked = (rows["flags"] & MASKED) != 0
            self._env.mask[rows["lane"][masked], chosen[masked]] = False

    def entries(self, table: str) -> Iterator[tuple[int, np.void]]:
        """(lane, entry) of the step's entries of `table`."""
        if self._block is not None:
            entries = getattr(self._block, table)
            for entry in entries[slice(*np.searchsorted(entries["at"], self._at))]:
                yield int(self._block.decisions["lane"][entry["at"]]), entry


class _PlayedBack(Gate):
    def __init__(self, player: _Player, number: int) -> None:
        self._player, self._number = player, number

    @property
    def latch(self) -> np.ndarray:
        return self._player.latch

    def __call__(self, view: View, orders: Orders) -> tuple[Orders, Verdicts]:
        sent = orders
        changes = list(self._player.entries("sent"))
        if changes:
            sent = orders.copy()
        for lane, entry in changes:
            sent.kind[lane, entry["slot"]] = entry["kind"]
            if entry["kind"] != RequestType.NONE:
                for name in ("price", "quantity", "id", "target", "instrument", "side"):
                    sent.records[name][lane, entry["slot"]] = entry[name]
        verdicts = Verdicts(np.zeros(orders.kind.shape, np.uint64), orders.quantity.copy(), sent.quantity.copy())
        for lane, entry in self._player.entries("objections"):
            if entry["gate"] == self._number:
                at = lane, entry["slot"]
                verdicts.reason[at] = entry["reason"]
                verdicts.quantity_before[at], verdicts.quantity_after[at] = entry["before"], entry["after"]
        return sent, verdicts


# --------------------------------------------------------------------------------------------------------- comparison


def _compare(expected: Block, got: Block) -> tuple[Difference | None, int]:
    """(the first difference, decisions before it)."""
    _forget_outcomes(got, (expected.decisions["flags"] & SETTLED) == 0)
    count = min(len(expected.decisions), len(got.decisions))
    places: dict[str, int] = {}
    for name in COLUMNS:
        a, b = _column(expected, name), _column(got, name)
        at = _first(a, b, name in TABLES)
        if at < count:
            places[name] = at
    if not places:
        longer = expected if len(expected.decisions) > count else got
        if len(longer.decisions) == count:
            return None, count
        row = longer.decisions[count]
        texts = ("a decision", "none") if longer is expected else ("none", "a decision")
        return Difference(int(row["step"]), int(row["lane"]), int(row["decision"]), "decision", *texts), count
    at = min(places.values())
    name = next(column for column in COLUMNS if places.get(column) == at)
    row = expected.decisions[at]
    texts = (_text(expected, name, at), _text(got, name, at))
    return Difference(int(row["step"]), int(row["lane"]), int(row["decision"]), name, *texts), at


def _forget_outcomes(block: Block, unknown: np.ndarray) -> None:
    """Of decisions whose outcome the diary does not have (the process died), the replay's is not compared."""
    unknown = np.flatnonzero(unknown[: len(block.decisions)])
    if len(unknown):
        block.decisions["flags"][unknown] &= MASKED
        block.decisions["reward"][unknown] = block.decisions["pnl2"][unknown] = 0
        block.fills = block.fills[~np.isin(block.fills["at"], unknown)]


def _column(block: Block, name: str) -> np.ndarray:
    if name in TABLES:
        return getattr(block, name)
    values = block.actions if name == "action" else block.decisions[name]
    bits = {4: np.uint32, 8: np.uint64}
    return np.ascontiguousarray(values).view(bits[values.dtype.itemsize]) if values.dtype.kind == "f" else values


def _first(a: np.ndarray, b: np.ndarray, table: bool) -> int:
    """Place of the decision at which two columns first differ; beyond all of them if they do not."""
    count = min(len(a), len(b))
    differs = a[:count] != b[:count]
    differs = differs.any(axis=1) if differs.ndim > 1 else differs
    at = int(np.argmax(differs)) if differs.any() else count
    if not table:
        return at if at < count else 1 << 62
    return min([int(entries["at"][at]) for entries in (a, b) if at < len(entries)], default=1 << 62)


def _text(block: Block, name: str, at: int) -> str:
    if name in TABLES:
        return "; ".join(_entry(entry) for entry in block.of(name, at)) or "none"
    if name == "action":
        return str(block.actions[at].tolist())
    value = block.decisions[name][at]
    return f"{int(value):016x}" if name == "observation" else repr(value.item())


def _entry(entry: Any) -> str:
    return " ".join(f"{name} {entry[name].item()}" for name in fields(entry.dtype))
