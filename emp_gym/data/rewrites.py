"""Other futures of the same past: rows up to a cut stay as they are, later rows are different.

This is the material of the look-ahead check. A `Source` says how many rows there are and gives the data again with
everything after row `cut` shuffled, scaled, replaced or deleted, in a form that whoever reads the original also reads.
LOBSTER days have their own, in `lobster_futures`.
"""

from __future__ import annotations

import copy
import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from emp_gym.types import ConfigError, DataError

SHUFFLED, SCALED, REPLACED, DELETED = "shuffled", "scaled", "replaced", "deleted"
TABLE_REWRITES = (SHUFFLED, SCALED, REPLACED, DELETED)
_CLOCK_NAME = re.compile(r"(date|time|timestamp|datetime|ts|t)(_\w+)?|\w+_(time|date|ns)", re.IGNORECASE)


class Source(Protocol):
    """Data that has other futures."""

    @property
    def rows(self) -> int:
        """Rows of the original."""

    @property
    def rewrites(self) -> tuple[str, ...]:
        """Names that `future` knows."""

    @property
    def steady(self) -> tuple[str, ...]:
        """Those of `rewrites` that keep the number of rows and their times."""

    def original(self) -> Any:
        """What the environment is made from, unchanged."""

    def future(self, how: str, cut: int, random: np.random.Generator, folder: Path) -> Any:
        """The data with rows 0..`cut` as they are and another future; files go into the empty `folder`."""

    def row_of(self, clock: int) -> int:
        """The last row that an environment whose clock shows `clock` may know."""


@dataclass(frozen=True)
class RowPlan:
    """Where the rows of another future come from: `rows[i]` of the original, times `factor[i]`."""

    rows: np.ndarray
    factor: np.ndarray


def plan(how: str, rows: int, cut: int, random: np.random.Generator) -> RowPlan:
    """How to make the rows after `cut` of a table of `rows` rows.

    shuffled: the same rows in another order. scaled: every number times a jump and a random walk, one factor a row, so
    that high stays above low. replaced: rows drawn from the whole table, scaled too. deleted: a stretch right after the
    cut is left out.
    """
    later = np.arange(cut + 1, rows)
    if len(later) < 2:
        raise ConfigError(f"a cut needs two rows after it to change: cut {cut} of {rows} rows")
    walk = np.exp(random.choice((-0.5, 0.5)) + 0.02 * np.cumsum(random.standard_normal(len(later))))
    ones = np.ones(len(later))
    if how == SHUFFLED:
        order = random.permutation(later)
        return RowPlan(np.roll(later, 1) if np.array_equal(order, later) else order, ones)
    if how == SCALED:
        return RowPlan(later, walk)
    if how == REPLACED:
        return RowPlan(random.integers(0, rows, len(later)), walk)
    if how == DELETED:
        kept = later[max(1, len(later) * int(random.integers(10, 50)) // 100) :]
        return RowPlan(kept, np.ones(len(kept)))
    raise ConfigError(f"unknown rewrite {how!r}; known: {', '.join(TABLE_REWRITES)}")


# --- tables in memory


@dataclass(frozen=True)
class ArraySource:
    """A numpy array (rows first; plain or structured), a pandas DataFrame or Series, or a dict of such columns.

    `keep` names columns (numbers for a plain array) that stay where they are, such as times; columns called time, date
    or timestamp stay in any case, and so does a DataFrame's index.
    """

    data: Any
    keep: tuple[Any, ...] = ()
    rewrites: tuple[str, ...] = TABLE_REWRITES
    steady: tuple[str, ...] = (SHUFFLED, SCALED, REPLACED)

    @property
    def rows(self) -> int:
        return len(next(iter(self.data.values()))) if isinstance(self.data, dict) else len(self.data)

    def original(self) -> Any:
        return copy.deepcopy(self.data)  # whoever gets it may write into it

    def row_of(self, clock: int) -> int:
        return clock

    def future(self, how: str, cut: int, random: np.random.Generator, folder: Path) -> Any:
        change = plan(how, self.rows, cut, random)
        if isinstance(self.data, dict):
            return {name: self._column(name, np.asarray(values), cut, change) for name, values in self.data.items()}
        if hasattr(self.data, "iloc"):
            return self._frame(cut, change)
        data = np.asarray(self.data)
        if data.dtype.names:
            out = data[np.r_[: cut + 1, change.rows]].copy()
            for name in data.dtype.names:
                out[name] = self._column(name, data[name], cut, change)
            return out
        if data.ndim == 1:
            return self._column(None, data, cut, change)
        columns = [self._column(i, data[:, i], cut, change) for i in range(data.shape[1])]
        return np.stack(columns, axis=1)

    def _column(self, name: Any, column: np.ndarray, cut: int, change: RowPlan) -> np.ndarray:
        """One column [R, ...] with another future, in its own dtype."""
        if name in self.keep or (isinstance(name, str) and _CLOCK_NAME.fullmatch(name)):
            return column[: cut + 1 + len(change.rows)].copy()
        later = column[change.rows]
        if later.dtype.kind in "iuf":
            factor = change.factor.reshape(-1, *[1] * (later.ndim - 1))
            later = later * factor if later.dtype.kind == "f" else np.rint(later * factor)
        return np.concatenate([column[: cut + 1], later.astype(column.dtype)])

    def _frame(self, cut: int, change: RowPlan) -> Any:
        """A DataFrame or Series with another future under the same index labels."""
        out = self.data.iloc[: cut + 1 + len(change.rows)].copy()
        if out.ndim == 1:
            column = self._column(out.name, self.data.to_numpy(), cut, change)
            return type(out)(column, index=out.index, name=out.name, dtype=out.dtype)
        for name in out.columns:
            out[name] = type(out[name])(
                self._column(name, self.data[name].to_numpy(), cut, change), index=out.index, dtype=out[name].dtype
            )
        return out


# --- files


@dataclass(frozen=True)
class CsvFile:
    """A text table in one file. Columns that are not numbers, or that `keep` names (header or number), stay."""

    path: Path
    keep: tuple[Any, ...] = ()
    rewrites: tuple[str, ...] = TABLE_REWRITES
    steady: tuple[str, ...] = (SHUFFLED, SCALED, REPLACED)

    def __post_init__(self) -> None:
        lines = self.path.read_bytes().decode().splitlines(keepends=True)
        if len(lines) < 4:
            raise DataError(f"{self.path}: {len(lines)} lines; a look-ahead check needs more")
        delimiter = max(",;\t", key=lines[0].count)
        fields = [next(csv.reader([line], delimiter=delimiter), []) for line in lines]
        header = 0 if any(_number(x) for x in fields[0]) else 1
        names = fields[0] if header else []
        free = [_number(x) and i not in self.keep for i, x in enumerate(fields[header])]
        for i, name in enumerate(names):
            free[i] = free[i] and name not in self.keep and not _CLOCK_NAME.fullmatch(name)
        object.__setattr__(self, "_parsed", (lines, fields, header, delimiter, free))

    @property
    def rows(self) -> int:
        lines, _, header, _, _ = self._parsed  # type: ignore[attr-defined]
        return len(lines) - header

    def original(self) -> Path:
        return self.path

    def row_of(self, clock: int) -> int:
        return clock

    def future(self, how: str, cut: int, random: np.random.Generator, folder: Path) -> Path:
        lines, fields, header, delimiter, free = self._parsed  # type: ignore[attr-defined]
        change = plan(how, self.rows, cut, random)
        text = io.StringIO()
        writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
        for i, (row, factor) in enumerate(zip(change.rows, change.factor)):
            here, there = fields[header + cut + 1 + i], fields[header + int(row)]
            writer.writerow([_scaled(there[j], factor) if free[j] else x for j, x in enumerate(here)])
        path = folder / self.path.name
        path.write_bytes("".join(lines[: header + cut + 1]).encode() + text.getvalue().encode())
        return path


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _scaled(text: str, factor: float) -> str:
    """A number's text times `factor`, with as many decimals."""
    if factor == 1 or not _number(text):
        return text
    decimals = len(text.partition(".")[2]) if "e" not in text.lower() else 9
    return f"{float(text) * factor:.{decimals}f}"


@dataclass(frozen=True)
class NpyFile:
    """One array in a .npy file."""

    path: Path
    table: ArraySource
    rewrites: tuple[str, ...] = TABLE_REWRITES
    steady: tuple[str, ...] = (SHUFFLED, SCALED, REPLACED)

    @property
    def rows(self) -> int:
        return self.table.rows

    def original(self) -> Path:
        return self.path

    def row_of(self, clock: int) -> int:
        return clock

    def future(self, how: str, cut: int, random: np.random.Generator, folder: Path) -> Path:
        path = folder / self.path.name
        np.save(path, self.table.future(how, cut, random, folder), allow_pickle=False)
        return path


def source(data: Any, keep: Sequence[Any] = ()) -> Source:
    """The source for what a user has: an array, frame, dict of columns, .csv or .npy file, or LOBSTER day by its path.

    Raises `ConfigError` for anything else.
    """
    if isinstance(data, str | Path):
        path = Path(data).expanduser()
        if path.suffix == ".npy":
            return NpyFile(path, ArraySource(np.load(path, allow_pickle=False), tuple(keep)))
        if path.is_dir() or path.suffix == ".zip" or "_message_" in path.name:
            from emp_gym.data.lobster.rewrites import LobsterDay

            return LobsterDay.of(path)
        if path.suffix in (".csv", ".txt", ".tsv") and path.is_file():
            return CsvFile(path, tuple(keep))
        raise ConfigError(f"{path}: expected a .csv or .npy file or a LOBSTER day (folder, zip, message file)")
    if isinstance(data, np.ndarray | dict) or hasattr(data, "iloc"):
        return ArraySource(data, tuple(keep))
    kind = type(data).__name__
    raise ConfigError(f"cannot rewrite the future of a {kind}; give an array, a frame, a path, or your own Source")
