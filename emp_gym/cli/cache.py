"""``cache.py``: how large the cache folder is, and what of it can go."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from emp_gym.terminal.console import console, guarded
from emp_gym.terminal.flags import Parser
from emp_gym.types import ConfigError

if TYPE_CHECKING:
    from emp_gym.runs.caches import CachedFolder

HEAD = ("kind", "folders", "size", "unused")


def parser() -> Parser:
    p = Parser(
        prog="cache.py",
        description="Show what the cache folder (EMP_GYM_HOME, or the user's cache) holds: compiled kernels, tapes, sets of days. "
        "All of it is made again when it is needed.",
    )
    p.add_argument("action", nargs="?", choices=("show", "prune"), default="show",
                   help="show sizes (default), or remove what this version does not use")  # fmt: skip
    p.add_argument("--all", action="store_true", help="with prune: remove everything")
    p.add_argument("--kind", nargs="+", metavar="KIND", help="with prune: only kernels, tapes, sets or benchmark")
    p.add_argument("--json", action="store_true", help="print one JSON object and nothing else on stdout")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; 0, or 2 with one line on stderr for what cannot be done as asked."""
    return guarded(lambda: _run(parser().parse_args(argv)), "cache.py")


def _run(a: argparse.Namespace) -> int:
    from emp_gym import paths
    from emp_gym.runs import caches

    home = paths.wanted()
    if home is None:
        raise ConfigError("this user has no home folder; say where the cache is: EMP_GYM_HOME=FOLDER")
    if a.action == "show" and (a.all or a.kind):
        raise ConfigError("--all and --kind belong to prune: cache.py prune --all")
    for kind in a.kind or ():
        if kind not in caches.KINDS:
            raise ConfigError(f"--kind {kind}: expected {', '.join(caches.KINDS)}")
    found = caches.entries(home)
    if a.action == "show":
        _show(str(home), found, a.json)
        return 0
    gone = [one for one in found if (a.all or not one.used) and (not a.kind or one.kind in a.kind)]
    for one in gone:
        caches.remove(one)
    if a.json:
        print(json.dumps({"home": str(home), "removed": {one.name: one.size for one in gone}}))
        return 0
    for one in gone:
        print(f"removed {one.name}  {_size(one.size)}")
    print(f"{_size(sum(one.size for one in gone))} removed, {_size(sum(one.size for one in found if one not in gone))} left in {home}")
    return 0


def _show(home: str, found: Sequence[CachedFolder], as_json: bool) -> None:
    from emp_gym.runs import caches
    from emp_gym.terminal import tables

    by_kind = {kind: [one for one in found if one.kind == kind] for kind in caches.KINDS}
    sums = {
        kind: {
            "folders": len(some), "bytes": sum(one.size for one in some),
            "unused_bytes": sum(one.size for one in some if not one.used),
        }
        for kind, some in by_kind.items()
    }  # fmt: skip
    if as_json:
        print(json.dumps({"home": home, "kinds": sums}))
        return
    sums["all"] = {key: sum(told[key] for told in sums.values()) for key in ("folders", "bytes", "unused_bytes")}
    rows = [(kind, str(told["folders"]), _size(told["bytes"]), _size(told["unused_bytes"])) for kind, told in sums.items()]
    out = console()
    out.print(tables.table(home, HEAD, rows, out.width, strong=False))
    if any(one for one in found if not one.used):
        out.print("unused: not by this version; cache.py prune removes it, cache.py prune --all everything", highlight=False)


def _size(count: int) -> str:
    """Bytes in the unit that a person would use."""
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"
