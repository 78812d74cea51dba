"""Episodic memory: rows of (situation, action, what came of it), recalled by likeness.

A row holds its raw window, its key, the action, mean and variance of the n-step returns that followed, how many they were,
their evidence (the same count, halved every half-life) and a strength. All of this moves in simulated time: `now` is
an integer that never goes back, in whatever unit `half_life` is (ns of the market, decisions).

- **Merge**: an outcome whose key is within `merge` of a row with the same action joins that row.
- **Decay**: strength and evidence halve every `half_life`. A merged mean is therefore one of the recent past.
- **Reinforcement**: rows that made a prediction better, by leave-one-out, gain the size of what was to be predicted.
- **Eviction**: above `capacity` the weakest go, a `LUMP`-th of it at a time; among equals the oldest.
- **Floor**: rows of extreme episodes (`protect`) do not sink below `floor`, for at most `floor_share` of the capacity.
- **Re-embedding**: another encoder embeds all raw windows anew; until that is done the old keys stand.

A batch is defined as: decay to `now`, find for every outcome the row it may join among those that were there before, then, in
the order of the batch, join or be a new row (which later ones of the batch may join), then evict. The same calls give the
same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from emp_gym.memory.encoder import KeyEncoder
from emp_gym.memory.index import BACKENDS, NOBODY, FlatIndex
from emp_gym.types import F32, F64, I64, ConfigError, DataError

LUMP = 64
SAME_ACTION = 0.05
"""Actions that differ by no more in any component are the same; menus are whole numbers."""
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class MemoryRules:
    """How a memory keeps and forgets. Distances are in units of the encoder."""

    backend: str = "faiss"  # or "numpy": the same answers
    capacity: int = 10_000  # rows
    neighbours: int = 32  # rows that one recall looks at
    bandwidth: float = 0.5  # distance at which a row counts a quarter
    merge: float = 0.2  # distance within which outcomes of the same action are one row
    half_life: int = 20_000  # of strength and evidence, in the unit of `now`
    prior: float = 4.0  # outcomes that the prior is worth: confidence is n / (n + prior)
    strongest: float = 4.0  # strength is clipped here; a new row has 1
    floor: float = 1.0  # strength below which a row of an extreme episode does not sink
    floor_share: float = 0.1  # of the capacity that may be held so
    evict: str = "weakest"  # or "oldest": first in, first out
    values: str = "kept"  # or, as controls, another row's outcome: "permuted" anew each tick, "coded" once and for all

    def __post_init__(self) -> None:
        for name, known in (("backend", BACKENDS), ("evict", ("weakest", "oldest")), ("values", ("kept", "permuted", "coded"))):
            if getattr(self, name) not in known:
                raise ConfigError(f"{name}: expected one of {', '.join(known)}, got {getattr(self, name)!r}")
        for name in ("capacity", "neighbours", "half_life"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: expected at least 1, got {getattr(self, name)}")
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float) and not (np.isfinite(value) and value >= 0):
                raise ConfigError(f"{field.name}: expected a finite number from 0 up, got {value}")
        if self.bandwidth == 0:
            raise ConfigError("bandwidth: must be above 0")


COLUMNS: dict[str, Any] = {
    "mean": np.float64,  # of the returns, recent ones first
    "variance": np.float64,
    "count": np.int64,  # outcomes ever
    "evidence": np.float64,  # outcomes, halved every half-life, as of `touched`
    "strength": np.float64,  # as of `touched`
    "touched": np.int64,  # time of the last change
    "protected": np.bool_,
}
"""Of a row, besides id, key, window [W] and action [A]."""


@dataclass(frozen=True)
class Recollection:
    """What was recalled for Q situations, K rows each; rows that are none weigh 0."""

    ids: I64  # [Q, K]
    weights: F64  # [Q, K]: likeness x evidence, in outcomes
    actions: F64  # [Q, K, A]
    returns: F64  # [Q, K]
    prior: F64  # [Q]: mean of all returns then, what is expected of a situation like no other

    def value(self) -> tuple[F64, F64]:
        """Mean return [Q] of the rows by weight (the prior where nothing weighs), and the evidence [Q] for it."""
        evidence = self.weights.sum(axis=1)
        total = (self.weights * self.returns).sum(axis=1)
        return np.where(evidence > 0, total / np.maximum(evidence, 1e-300), self.prior), evidence

    def by_action(self, actions: int) -> tuple[F64, F64]:
        """The same for each of a menu's `actions`: [Q, actions] both."""
        which = self.actions[:, :, 0] if self.actions.size else np.zeros(self.weights.shape)
        own = self.weights[:, :, None] * (which[:, :, None] == np.arange(actions))
        evidence = own.sum(axis=1)
        total = (own * self.returns[:, :, None]).sum(axis=1)
        return np.where(evidence > 0, total / np.maximum(evidence, 1e-300), self.prior[:, None]), evidence

    def slopes(self) -> F64:
        """Correlation [Q, A] by weight of each component of the action with the return: where more of it was better."""
        share = self.weights / np.maximum(self.weights.sum(axis=1, keepdims=True), 1e-300)
        action = self.actions - (share[:, :, None] * self.actions).sum(axis=1, keepdims=True)
        told = self.returns - (share * self.returns).sum(axis=1, keepdims=True)
        both = (share[:, :, None] * action * told[:, :, None]).sum(axis=1)
        size = (share[:, :, None] * action**2).sum(axis=1) * (share * told**2).sum(axis=1)[:, None]
        return both / np.sqrt(np.maximum(size, 1e-24))

    def arrays(self) -> Arrays:
        """All of it, by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def take(self, rows: Any) -> Recollection:
        """That of some of the situations."""
        return Recollection(**{name: array[rows] for name, array in self.arrays().items()})


def confidence(evidence: F64, prior: float) -> F64:
    """c = n / (n + n0) of evidence n."""
    return evidence / (evidence + prior) if prior > 0 else (evidence > 0).astype(np.float64)


def combine(values: F64, remembered: F64, c: F64) -> F64:
    """(1 - c) values + c remembered."""
    return (1.0 - c) * values + c * remembered


class EpisodicMemory:
    """Rows of one kind: windows of `encoder`, actions of `action_size` numbers."""

    def __init__(self, rules: MemoryRules, encoder: KeyEncoder, width: int, action_size: int = 1) -> None:
        self.rules, self.width, self.action_size = rules, width, action_size
        self.now = 0
        self.outcomes = 0  # ever written
        self.mean, self.variance, self._weight = 0.0, 0.0, 0.0  # of all returns, older ones halved every half-life
        self._next = 0
        self._rows: Arrays = self._none()
        self._book: tuple[KeyEncoder, FlatIndex] = (encoder, BACKENDS[rules.backend](encoder.dimension))

    # ---- what can be asked

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def encoder(self) -> KeyEncoder:
        return self._book[0]

    @property
    def index(self) -> FlatIndex:
        return self._book[1]

    @property
    def ids(self) -> I64:
        """[R], rising: a higher one was made later."""
        return self.index.ids

    @property
    def deviation(self) -> float:
        """Of the returns, older ones counting less."""
        return float(np.sqrt(self.variance))

    def column(self, name: str) -> np.ndarray:
        """One of `COLUMNS`, window or action, of all rows."""
        return self._rows[name]

    def strengths(self) -> F64:
        """[R] as of now: decayed, and not below the floor where that is promised."""
        sunk = self._rows["strength"] * self._fade(self._rows["touched"])
        return np.where(self._rows["protected"], np.maximum(sunk, self.rules.floor), sunk)

    def recall(self, windows: F32) -> Recollection:
        """What came of situations like `windows` [Q, W]; changes nothing."""
        rules, rows = self.rules, self._rows
        ids, distances = self.index.search(self._keys(windows), rules.neighbours)
        prior = np.full(len(ids), self.mean)
        if not len(self):
            empty = np.zeros((*ids.shape, self.action_size))
            return Recollection(ids, np.zeros(ids.shape), empty, np.zeros(ids.shape), prior)
        places, there = self.index.places(ids)
        likeness = (1.0 + distances / rules.bandwidth**2) ** -2
        evidence = rows["evidence"][places] * self._fade(rows["touched"][places])
        answers = rows["mean"] if rules.values == "kept" else rows["mean"][self._permutation()]
        returns = np.where(there, answers[places], 0.0)
        return Recollection(ids, np.where(there, likeness * evidence, 0.0), rows["action"][places], returns, prior)

    # ---- what happens to it

    def advance(self, now: int) -> None:
        """Simulated time is `now`; raises `ConfigError` where it would go back."""
        if now < self.now:
            raise ConfigError(f"time goes back: now {now}, but the memory has been at {self.now}; hand in simulated time")
        self._weight *= 2.0 ** ((self.now - now) / self.rules.half_life)
        self.now = int(now)

    def write(self, windows: F32, actions: F64, returns: F64) -> I64:
        """Outcomes of a batch, as of now; ids [n] of the rows that they are in (or were, where a row was evicted)."""
        keys = self._keys(windows)
        actions = np.asarray(actions, np.float64).reshape(len(keys), self.action_size)
        returns = np.asarray(returns, np.float64)
        if returns.shape != (len(keys),) or not np.isfinite(returns).all() or not np.isfinite(actions).all():
            raise DataError(f"returns and actions must be finite, one for each of {len(keys)} windows, got {returns.shape}")
        if not len(keys):
            return np.zeros(0, np.int64)
        joined = self._join(keys, actions, returns)
        new = np.flatnonzero(joined == NOBODY)
        leaders = self._lead(keys, actions, new)
        first = new[leaders == np.arange(len(new))]
        self._append(windows[first], keys[first], actions[first], returns[first])
        made = dict(zip(first.tolist(), self.ids[len(self) - len(first) :].tolist()))
        for row, leader in zip(new.tolist(), new[leaders].tolist()):
            joined[row] = made[leader]
            if row != leader:
                self._merge(int(self.index.places(np.array([made[leader]]))[0][0]), float(returns[row]))
        self._note(returns)
        self._evict()
        return joined

    def reinforce(self, recalled: Recollection, actions: F64, returns: F64) -> None:
        """Strengthens rows without which `returns` [Q], that followed `actions` [Q, A], would have been foretold worse.

        Foretold from the recalled rows of the same action, and the prior; |return - remembered value| in deviations of the
        returns is shared out by what each row had of the foretelling. Rows that are gone stay gone.
        """
        actions = np.asarray(actions, np.float64).reshape(len(returns), 1, self.action_size)
        same = (np.abs(recalled.actions - actions) <= SAME_ACTION).all(axis=2)
        weights = np.where(same, recalled.weights, 0.0)
        total = (weights * recalled.returns).sum(axis=1, keepdims=True) + self.rules.prior * recalled.prior[:, None]
        size = weights.sum(axis=1, keepdims=True) + self.rules.prior
        missed = np.abs(returns[:, None] - total / np.maximum(size, 1e-300))
        without = (total - weights * recalled.returns) / np.maximum(size - weights, 1e-300)
        helped = (weights > 0) & (np.abs(returns[:, None] - without) > missed) & (size - weights > 1e-12)
        gain = np.abs(returns - recalled.value()[0]) / max(self.deviation, 1e-12)
        places, there = self.index.places(recalled.ids)
        gains = np.where(helped & there, gain[:, None] * weights / size, 0.0)
        added = np.zeros(len(self))
        np.add.at(added, places[gains > 0], gains[gains > 0])
        self._strengthen(np.flatnonzero(added), added[added > 0])

    def protect(self, ids: I64) -> None:
        """Rows `ids` are of an extreme episode: they keep the floor. Beyond the share for such rows the oldest lose it."""
        places, there = self.index.places(np.asarray(ids, np.int64))
        self._rows["protected"][places[there]] = True
        held = np.flatnonzero(self._rows["protected"])
        most = int(self.rules.floor_share * self.rules.capacity)
        self._rows["protected"][held[: max(len(held) - most, 0)]] = False

    def reembed(self, encoder: KeyEncoder) -> None:
        """All rows get the keys of `encoder`, from their raw windows; then it takes over, at once. If it fails nothing changes.

        Rows that fall together stay apart.
        """
        index = BACKENDS[self.rules.backend](encoder.dimension)
        for at in range(0, len(self), 4096):
            index.add(self.ids[at : at + 4096], self._checked(encoder(self._rows["window"][at : at + 4096])))
        self._book = (encoder, index)

    # ---- files

    def arrays(self) -> Arrays:
        """Everything but rules and encoder; `hash` is the encoder's."""
        state = np.array([self.mean, self.variance, self._weight])
        counts = np.array([self.now, self.outcomes, self._next, self.width, self.action_size], np.int64)
        digest = np.frombuffer(bytes.fromhex(self.encoder.sha256), np.uint8)
        own: Arrays = {"ids": self.ids, "keys": self.index.keys, "state": state, "counts": counts, "hash": digest}
        return {name: array.copy() for name, array in (own | self._rows).items()}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Takes over what `arrays` gave; `DataError` where it was kept with another encoder, or of other windows or actions."""
        kept = bytes(arrays["hash"]).hex()
        if kept != self.encoder.sha256:
            raise DataError(
                f"the memory was kept with encoder {kept[:12]}, but this one is {self.encoder.sha256[:12]}: its keys mean "
                "something else; load it with its own encoder, then reembed()"
            )
        now, outcomes, following, width, action_size = (int(number) for number in arrays["counts"])
        if (width, action_size) != (self.width, self.action_size):
            raise DataError(
                f"the memory was kept of windows of {width} columns and actions of {action_size}, expected {self.width} and "
                f"{self.action_size}"
            )
        index = BACKENDS[self.rules.backend](self.encoder.dimension)
        index.add(np.array(arrays["ids"]), np.array(arrays["keys"]))
        self.mean, self.variance, self._weight = (float(number) for number in arrays["state"])
        self.now, self.outcomes, self._next = now, outcomes, following
        self._rows = {name: np.array(arrays[name]) for name in self._rows}
        self._book = (self.encoder, index)

    # ---- inside

    def _none(self) -> Arrays:
        rows: Arrays = {name: np.zeros(0, kind) for name, kind in COLUMNS.items()}
        return rows | {"window": np.zeros((0, self.width), np.float32), "action": np.zeros((0, self.action_size))}

    def _keys(self, windows: F32) -> F32:
        if windows.ndim != 2 or windows.shape[1] != self.width:
            raise DataError(f"windows must have shape [N, {self.width}], got {windows.shape}")
        return self._checked(self.encoder(windows))

    def _checked(self, keys: F32) -> F32:
        if not np.isfinite(keys).all():
            raise DataError("the encoder gave keys that are not finite; look at the observations")
        return keys

    def _fade(self, since: I64) -> F64:
        """What is left at `now` of something that was whole at `since`."""
        return np.exp2((since - self.now) / self.rules.half_life)

    def _join(self, keys: F32, actions: F64, returns: F64) -> I64:
        """Outcomes join the nearest row of the same action among the nearest `neighbours`, if it is within reach; ids, or NOBODY."""
        joined = np.full(len(keys), NOBODY)
        if not len(self):
            return joined
        ids, distances = self.index.search(keys, self.rules.neighbours)
        places, there = self.index.places(ids)
        same = (np.abs(self._rows["action"][places] - actions[:, None, :]) <= SAME_ACTION).all(axis=2)
        fits = there & same & (distances <= self.rules.merge**2)
        for row in np.flatnonzero(fits.any(axis=1)):
            best = int(fits[row].argmax())
            joined[row] = ids[row, best]
            self._merge(int(places[row, best]), float(returns[row]))
        return joined

    def _lead(self, keys: F32, actions: F64, new: I64) -> I64:
        """Which of the outcomes `new` [m] each of them joins, in order: the nearest that leads so far, else itself [m]."""
        leaders = np.arange(len(new))
        if len(new) < 2:
            return leaders
        own, taken = keys[new].astype(np.float64), actions[new]
        apart = np.square(own[:, None] - own).sum(axis=2)
        same = (np.abs(taken[:, None] - taken) <= SAME_ACTION).all(axis=2) & (apart <= self.rules.merge**2)
        for row in np.flatnonzero(np.tril(same, -1).any(axis=1)):
            fits = np.flatnonzero(same[row, :row] & (leaders[:row] == np.arange(row)))
            if len(fits):
                leaders[row] = fits[apart[row, fits].argmin()]
        return leaders

    def _merge(self, place: int, outcome: float) -> None:
        rows = self._rows
        left = float(self._fade(rows["touched"][place]))
        weight = float(rows["evidence"][place]) * left
        rows["mean"][place], rows["variance"][place] = _with(rows["mean"][place], rows["variance"][place], weight, outcome)
        rows["evidence"][place], rows["count"][place] = weight + 1.0, rows["count"][place] + 1
        rows["strength"][place] = max(float(rows["strength"][place]) * left, 1.0)
        rows["touched"][place] = self.now

    def _append(self, windows: F32, keys: F32, actions: F64, returns: F64) -> None:
        count = len(keys)
        fresh: Arrays = {
            "mean": returns, "variance": np.zeros(count), "count": np.ones(count, np.int64), "evidence": np.ones(count),
            "strength": np.ones(count), "touched": np.full(count, self.now), "protected": np.zeros(count, np.bool_),
            "window": np.asarray(windows, np.float32), "action": actions,
        }  # fmt: skip
        self.index.add(np.arange(self._next, self._next + count), keys)
        self._rows = {name: np.concatenate((column, fresh[name])) for name, column in self._rows.items()}
        self._next += count

    def _note(self, returns: F64) -> None:
        """Mean and variance of all returns; what they weigh halves as time goes on."""
        for outcome in returns.tolist():
            self.mean, self.variance = _with(self.mean, self.variance, self._weight, outcome)
            self._weight += 1.0
        self.outcomes += len(returns)

    def _strengthen(self, places: I64, gains: F64) -> None:
        rows = self._rows
        left = self._fade(rows["touched"][places])
        rows["strength"][places] = np.minimum(rows["strength"][places] * left + gains, self.rules.strongest)
        rows["evidence"][places] *= left
        rows["touched"][places] = self.now

    def _evict(self) -> None:
        if len(self) <= self.rules.capacity:
            return
        leave = len(self) - (self.rules.capacity - self.rules.capacity // LUMP)
        order = np.lexsort((self.ids, self.strengths())) if self.rules.evict == "weakest" else np.arange(len(self))
        kept = np.ones(len(self), np.bool_)
        kept[order[:leave]] = False
        self._rows = {name: column[kept] for name, column in self._rows.items()}
        self.index.keep(kept)

    def _permutation(self) -> I64:
        """For each row the one whose outcome it answers with: the order of a hash of the ids, and of time unless "coded"."""
        salt = np.uint64(self.now * 0xD1342543DE82EF95 % 2**64 if self.rules.values == "permuted" else 0)
        mixed = (self.ids.astype(np.uint64) + salt) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
        return np.argsort(mixed ^ (mixed >> np.uint64(32)), kind="stable")


def _with(mean: float, variance: float, weight: float, outcome: float) -> tuple[float, float]:
    """Mean and variance of outcomes that weigh `weight` in all, after one more."""
    delta, total = outcome - float(mean), weight + 1.0
    return float(mean) + delta / total, (float(variance) * weight + delta**2 * weight / total) / total


__all__ = ["COLUMNS", "EpisodicMemory", "MemoryRules", "Recollection", "combine", "confidence"]
