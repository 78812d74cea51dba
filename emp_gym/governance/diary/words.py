"""A diary's decisions in words: names of actions and reasons, prices in currency, and the explanation of a decision.

Explanations are made of what the diary holds when somebody reads it; nothing of them is stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import numpy as np

from emp_gym.governance.diary.blocks import MASKED, SETTLED, TERMINATED, TRUNCATED, Block
from emp_gym.governance.diary.diary import Run
from emp_gym.types import CASH_UNITS, Regime, RequestType

MASK = "masked"  # listed among reasons: the mask of the menu is a rule as well
UNKNOWN = "unknown"
LEVERS = {"MakeMarket": ("half-spread", "skew", "size")}  # of diaries that do not name them
LATCHES = ("", "reducing", "halted")


def regime_name(number: int) -> str:
    """As in ``--regime``: "calm-up", "unknown"."""
    return UNKNOWN if number < 0 else Regime(number).name.lower().replace("_", "-")


class Words:
    """What the numbers of one run are called."""

    def __init__(self, run: Run) -> None:
        about = run.about
        self.menu: list[str] = about["menu"]
        self.gates: list[str] = [gate["name"] for gate in about["gates"]]
        self._names: list[list[str]] = [gate["reasons"] for gate in about["gates"]]
        data = about["data"]
        units = data["price_units"] if "price_units" in data else [about["price_unit"]] * len(data["days"])
        self._units = [Decimal(unit) for unit in units]  # of each day
        self._levers = about.get("lever_names", LEVERS.get(about["task"], ()))

    def price(self, units: int, day: int = 0) -> str:
        """A price of a day in its currency: with two decimals at least, more where it has them."""
        text = f"{units * self._units[day]:f}"
        whole, _, part = text.partition(".")
        return f"{whole}.{part.rstrip('0').ljust(2, '0')}"

    def reason(self, gate: int, bit: int) -> str:
        """Name of a reason bit; that of the gate and the bit's number where it has none."""
        names = self._names[gate] if gate < len(self._names) else []
        return (names[bit] if bit < len(names) else "") or f"{self.gates[gate]}:{bit}"

    def bits(self, entry: Any) -> list[str]:
        """Names of the reasons of one objection."""
        return [self.reason(int(entry["gate"]), bit) for bit in range(64) if int(entry["reason"]) >> bit & 1]

    def reasons(self, block: Block, at: int) -> list[str]:
        """Names of everything that objected to the decision, each once."""
        masked = [MASK] if block.decisions[at]["flags"] & MASKED else []
        return list(dict.fromkeys([*masked, *(name for e in block.of("objections", at) for name in self.bits(e))]))

    def action(self, block: Block, at: int) -> str:
        """What the agent chose."""
        action = block.actions[at]
        if action.ndim == 0:
            return self.menu[int(action)]
        names = self._levers if len(self._levers) == len(action) else tuple(f"lever {i}" for i in range(len(action)))
        return ", ".join(f"{name} {value:+.2f}" for name, value in zip(names, action.tolist(), strict=True))

    def order(self, entry: Any, day: int) -> str:
        """One request: "buy 100 @ 30.21", "cancel 17"."""
        kind, side = int(entry["kind"]), "buy" if entry["side"] > 0 else "sell"
        if kind == RequestType.CANCEL:
            return f"cancel {int(entry['id'])}"
        what = f"{side} {int(entry['quantity'])}"
        if kind == RequestType.MARKET:
            return f"{what} at the market"
        moved = f"move {int(entry['target'])}: " if kind == RequestType.REPLACE else ""
        return f"{moved}{what} @ {self.price(int(entry['price']), day)}"

    def fill(self, entry: Any, day: int) -> str:
        """One execution: "bought 100 @ 30.21 (maker)"."""
        how = "maker" if entry["maker"] else "taker, beyond the visible book" if entry["beyond_depth"] else "taker"
        verb = "bought" if entry["side"] > 0 else "sold"
        return f"{verb} {int(entry['quantity'])} @ {self.price(int(entry['price']), day)} ({how})"

    def said(self, block: Block, at: int) -> Iterator[str]:
        """What each gate did with each order, in words."""
        left = {int(e["slot"]): e for e in block.of("sent", at)}
        proposed, day = {int(e["slot"]): e for e in block.of("orders", at)}, int(block.decisions[at]["day"])
        for entry in block.of("objections", at):
            slot, why = int(entry["slot"]), ", ".join(self.bits(entry))
            what = self.order(proposed[slot], day) if slot in proposed else f"order {slot}"
            if slot not in left:
                did = "let pass"
            elif left[slot]["kind"] == RequestType.NONE:
                did = "dropped"
            else:
                did = f"cut to {int(entry['after'])}"
            yield f"{self.gates[int(entry['gate'])]}: {what} {did} ({why})"

    def explain(self, block: Block, at: int) -> str:
        """The decision in one line: what was chosen, what the rules did, what came of it."""
        row, parts = block.decisions[at], []
        day = int(row["day"])
        chosen = self.action(block, at) + (" (masked: executed as keep)" if row["flags"] & MASKED else "")
        objected = {int(entry["slot"]) for entry in block.of("objections", at)}
        passed = [self.order(e, day) for e in block.of("orders", at) if int(e["slot"]) not in objected]
        parts.append(f"{chosen}: {', '.join(passed)}" if passed else chosen)
        if row["latch"]:
            parts.append(f"latch {LATCHES[row['latch']]}")
        parts += self.said(block, at)
        fills = block.of("fills", at)
        parts += [", ".join(self.fill(entry, day) for entry in fills)] if len(fills) else []
        if not row["flags"] & SETTLED:
            parts.append("no outcome was written")
        if row["flags"] & (TERMINATED | TRUNCATED):
            parts.append("the episode ended" if row["flags"] & TERMINATED else "the episode was cut here")
        note = block.note(at)
        return "; ".join(parts) + (f' — "{note}"' if note else "")


def pnl(block: Block) -> np.ndarray:
    """Change of equity f8 [D] of each decision, in the currency of its day."""
    return block.decisions["pnl2"] / (2.0 * CASH_UNITS)
