"""The slow judge of the risk layer: one lane in plain Python integers, from the limits as people write them.

No bound arrays, no saturation, no closed forms: exposure is a dictionary of worst cases, and what a limit allows is found by
asking "would n lots be within it?" for ever closer n. Amounts are price units x lots, equity is doubled.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np

from emp_gym.risk.limits import Limits
from emp_gym.types import RequestType
from tests.risk.reference_lane import AMOUNT_BOUND, BOUND, DAY, RING, Entry, Memory, Seen, Unknown, times


class Judge:
    """Judges one lane under `limits`; `mode` is "observe", "project" or "reject"."""

    def __init__(self, limits: Limits, instruments: int, price_to_cash: int, mode: str) -> None:
        self.limits, self.count, self.to_cash, self.mode = limits, instruments, price_to_cash, mode
        self.memory: Memory | None = None
        self.killed = False
        self.scale = [10_000] * instruments

    def amount(self, money: object) -> int:
        return Fraction(str(money)) * 10**8 // self.to_cash

    def rule(self, m: int):
        return self.limits.instruments.get(m, self.limits.instrument)

    # ------------------------------------------------------------------------------------------------------------ watching

    def watch(self, seen: Seen) -> None:
        if self.memory is None or seen.decision == 0:
            self.memory = Memory(list(seen.position))
        memory = self.memory
        moved = memory.position != seen.position
        memory.position = list(seen.position)
        if seen.time_known:
            for m in range(self.count):
                self.watch_quote(seen, m)
                self.watch_window(seen, m)
            if memory.time is not None:
                for name in memory.buckets:
                    memory.buckets[name] = max(0, memory.buckets[name] - max(0, seen.time - memory.time))
            memory.time = seen.time if memory.time is None else max(memory.time, seen.time)
            self.watch_equity(seen)
        if moved:
            memory.executions += 1
            rate = self.limits.window.executions
            if rate is not None:
                cost = -(-rate.window_ms * 10**6 // rate.count)
                memory.buckets["executions"] = min(memory.buckets["executions"] + cost, 2 * cost * rate.count)
                if memory.buckets["executions"] > cost * rate.count:
                    self.latch(2 if rate.then == "halted" else 1, 16)

    def watch_quote(self, seen: Seen, m: int) -> None:
        (bid, bid_size), (ask, ask_size) = seen.bids[m][0], seen.asks[m][0]
        if bid_size > 0 and ask_size > 0:
            top = (bid, bid_size, ask, ask_size)
            if m not in self.memory.quotes or self.memory.quotes[m][1] != top:
                self.memory.quotes[m] = (seen.time, top)

    def watch_window(self, seen: Seen, m: int) -> None:
        collar = self.limits.window.collar
        if collar is None or not seen.mid_known(m):
            return
        width, windows = collar.window_ms * 10**6, self.memory.windows.get(m)
        if windows is None or not 0 <= seen.time - windows[-1][0] < 2 * width:
            self.memory.windows[m] = [(seen.time, [seen.mid2[m]])]
            return
        if seen.time - windows[-1][0] >= width:
            windows.append((windows[-1][0] + width, []))
        windows[-1][1].append(seen.mid2[m])

    def watch_equity(self, seen: Seen) -> None:
        memory, portfolio = self.memory, self.limits.portfolio
        memory.cash2 = 2 * seen.cash // self.to_cash if abs(seen.cash) <= 2**60 else None
        try:
            memory.equity2 = self.equity2(seen, memory.cash2)
        except Unknown:
            memory.equity2 = None
            return
        if memory.start2 is None or seen.time // DAY != memory.day:
            memory.start2, memory.day = memory.equity2, seen.time // DAY
        memory.peak2 = memory.equity2 if memory.peak2 is None else max(memory.peak2, memory.equity2)
        fall2 = memory.peak2 - memory.equity2
        for loss2, limit, bit in (
            (memory.start2 - memory.equity2, portfolio.daily_loss, 22),
            (fall2, portfolio.drawdown, 23),
        ):
            if limit is not None and limit.hard is not None and loss2 > 2 * self.amount(limit.hard):
                self.latch(2, bit)
            elif limit is not None and limit.soft is not None and loss2 > 2 * self.amount(limit.soft):
                self.latch(1, bit)
        if portfolio.drawdown is not None and portfolio.drawdown.scaled:
            unit = max(1, 2 * self.amount(portfolio.drawdown.hard) // 10_000)
            memory.budget = max(0, 10_000 - fall2 // unit)

    def equity2(self, seen: Seen, cash2: int | None) -> int:
        if cash2 is None:
            raise Unknown
        total = cash2
        for m, position in enumerate(seen.position):
            if abs(position) > BOUND or (position and not seen.mid_known(m)):
                raise Unknown
            total += (1 if position > 0 else -1) * times(abs(position), seen.mid2[m])
        return total

    def latch(self, to: int, bit: int) -> None:
        self.memory.latch = max(self.memory.latch, to)
        self.memory.latch_bits.add(bit)

    # ------------------------------------------------------------------------------------------------------------- judging

    def judge(self, seen: Seen, entries: list[Entry]) -> tuple[list[Entry], list[int]]:
        """(what is sent, reason bits), by slot. The seen lane must have been watched."""
        self.seen, self.batch = seen, []
        self.absurd = any(abs(position) > BOUND for position in seen.position)
        self.open: list[tuple[int, int, int, int]] = []  # side, quantity, instrument, worst price (0 = not known)
        self.open_count = 0
        for _, side, price, quantity, m in seen.orders:
            if not (0 <= quantity <= BOUND and 0 <= m < self.count):
                self.absurd = True
                continue
            reference = seen.reference(m)
            self.open.append((1 if side > 0 else -1, quantity, m, 0 if reference is None else max(price, reference)))
        reasons = []
        for entry in entries:
            sent, bits = self.judge_entry(entry)
            self.batch.append(sent)
            reasons.append(sum(1 << bit for bit in bits))
        for sent in self.batch:
            if sent.kind not in (RequestType.NONE, RequestType.CANCEL):
                self.memory.sent.append((seen.time, content(sent)))
        return self.batch, reasons

    def judge_entry(self, entry: Entry) -> tuple[Entry, set[int]]:
        nothing = Entry(RequestType.NONE, 0, 0, 0, 0, 0, 0)
        if entry.kind == RequestType.NONE:
            return nothing, set()
        if entry.kind == RequestType.CANCEL:
            self.message()
            return entry, set()
        allowed, self.reducible = {}, 0
        meaningful = self.ask(entry, allowed)
        bits = {bit for bit, lots in allowed.items() if lots < entry.quantity or not meaningful}
        quantity = entry.quantity
        if not meaningful or (bits and self.mode == "reject"):
            quantity = 0
        elif bits and self.mode == "project":
            lot = self.rule(entry.instrument).lot
            lots = min(allowed.values())
            quantity = lots - lots % lot
            if quantity < self.limits.order.min_quantity:  # too small for an order, unless it only reduces
                quantity = min(lots, self.reducible)
        if quantity > 0:
            traffic = self.traffic(entry, quantity)
            bits |= traffic
            if traffic and self.mode != "observe":
                quantity = 0
        if self.mode == "observe":
            self.message()
            if quantity > 0 and not self.absurd:
                self.enter(entry, quantity)
            return entry, bits
        if quantity > 0:
            self.message()
            self.enter(entry, quantity)
            return Entry(entry.kind, entry.side, entry.price, quantity, entry.id, entry.target, entry.instrument), bits
        if entry.kind == RequestType.REPLACE and entry.target > 0:
            self.message()
            return Entry(RequestType.CANCEL, entry.side, 0, 0, entry.target, 0, entry.instrument), bits
        return nothing, bits

    def ask(self, entry: Entry, allowed: dict[int, int]) -> bool:
        """Fills `allowed` with bit -> lots; False if the order is too malformed to ask more."""
        seen, limits, memory, m, q = self.seen, self.limits, self.memory, entry.instrument, entry.quantity

        def at_most(bit: int, lots: int) -> None:
            allowed[bit] = min(allowed.get(bit, q), lots)

        def unless_reducing(bit: int, lots: int) -> None:
            at_most(bit, max(lots, self.reducible))

        if self.killed:
            at_most(0, 0)
        market = entry.kind == RequestType.MARKET
        well = entry.kind in (1, 2, 4) and entry.side in (1, -1) and 0 < q <= BOUND and entry.id > 0
        if not (well and (entry.kind != 4 or entry.target > 0) and (market or 0 < entry.price <= BOUND)):
            at_most(1, -1)
            return False
        if not 0 <= m < self.count:
            at_most(2, -1)
            return False
        rule = self.rule(m)
        same_side = sum(quantity for side, quantity, at, _ in self.open if side == entry.side and at == m)
        if self.absurd:
            at_most(18, 0)
        elif seen.position[m] * entry.side < 0:
            self.reducible = max(0, abs(seen.position[m]) - same_side)
        if rule.restricted:
            at_most(2, 0)
        if seen.status[m] != 0:
            at_most(3, 0)
        if rule.session is not None and not rule.session_ns[0] <= seen.time < rule.session_ns[1]:
            at_most(3, 0)
        if not market and (seen.tick[m] <= 0 or entry.price % seen.tick[m]):
            at_most(5, 0)
        unless_reducing(5, q - q % rule.lot)
        if q < limits.order.min_quantity:
            unless_reducing(6, 0)
        if limits.order.max_quantity is not None:
            at_most(6, limits.order.max_quantity)
        if rule.adv_lots is not None:
            at_most(10, rule.adv_lots * rule.max_adv_bps // 10_000)
        if rule.max_top_multiple is not None:
            top = min(BOUND, max(0, seen.bids[m][0][1], seen.asks[m][0][1]))
            at_most(10, top * rule.max_top_multiple)
        if entry.id <= memory.highest:
            at_most(11, 0)
        if limits.order.self_trade == "cancel-new" and self.meets_own(entry):
            at_most(13, 0)
        if memory.latch == 2:
            for bit in memory.latch_bits:
                at_most(bit, 0)
        elif memory.latch == 1:
            for bit in memory.latch_bits:
                unless_reducing(bit, 0)
        if memory.equity2 is None:
            for limit, bit in ((limits.portfolio.daily_loss, 22), (limits.portfolio.drawdown, 23)):
                if limit is not None and (limit.soft is not None or limit.hard is not None):
                    unless_reducing(bit, 0)
        if self.stale(entry, rule):
            at_most(4, 0)
            self.value = 0
            return True
        self.value = self.worst_price(entry)
        if limits.order.max_notional is not None:
            most = self.amount(limits.order.max_notional)
            at_most(7, max(largest(q, lambda n: n * self.value <= most), min(rule.lot, self.reducible)))
        if limits.order.collar_bps is not None:
            at_most(8, self.near_lots(entry, [seen.mid2[m]], limits.order.collar_bps))
        if limits.window.collar is not None:
            mids = [mid for _, window in memory.windows[m][-2:] for mid in window]
            at_most(9, self.near_lots(entry, mids, limits.window.collar.bps))
        if not self.absurd:
            self.ask_portfolio(entry, rule, at_most, unless_reducing)
        return True

    def ask_portfolio(self, entry: Entry, rule, at_most: Callable, unless_reducing: Callable) -> None:
        seen, portfolio, memory, m, q = self.seen, self.limits.portfolio, self.memory, entry.instrument, entry.quantity

        def within(limit: int, total: Callable[[int], int]) -> int:
            def ok(n: int) -> bool:
                try:
                    return total(n) <= limit
                except Unknown:
                    return False

            return largest(q, ok)

        def lots(j: int, direction: int, n: int) -> int:
            """Worst-case position of j in a direction with n more lots of the order."""
            extra = n if j == m and direction == entry.side else 0
            return (
                seen.position[j] * direction
                + sum(z for side, z, at, _ in self.open if side == direction and at == j)
                + extra
            )

        def gross(n: int, sector: int | None = None) -> int:
            members = [j for j in range(self.count) if sector is None or self.rule(j).sector == sector]
            return sum(times(max(lots(j, 1, n), lots(j, -1, n)), seen.reference(j)) for j in members)

        def net(n: int) -> int:
            total = 0
            for j in range(self.count):
                worth = lots(j, entry.side, 0)
                total += (1 if worth > 0 else -1) * times(abs(worth), seen.reference(j))
            return total + n * seen.reference(m)

        if portfolio.max_open_orders is not None and len(self.open) >= portfolio.max_open_orders:
            at_most(17, 0)
        if portfolio.max_open_notional is not None:
            most = self.amount(portfolio.max_open_notional)
            lots_17 = within(most, lambda n: sum(times(z, p) for _, z, _, p in self.open) + n * self.value)
            at_most(17, lots_17 if self.open else max(lots_17, min(rule.lot, self.reducible)))
        if rule.max_position is not None:
            most = rule.max_position * self.scale[m] // 10_000 * memory.budget // 10_000
            unless_reducing(18, within(most, lambda n: lots(m, entry.side, n)))
        if portfolio.max_gross is not None:
            unless_reducing(19, within(self.amount(portfolio.max_gross), gross))
        if portfolio.max_net is not None:
            unless_reducing(19, within(self.amount(portfolio.max_net), net))
        if rule.sector in self.limits.sectors:
            most = self.amount(self.limits.sectors[rule.sector].max_gross)
            unless_reducing(20, within(most, lambda n: gross(n, rule.sector)))
        if portfolio.max_leverage_pct is not None:
            most = None
            if memory.equity2 is not None:
                equity = (2 * self.amount(portfolio.capital) + memory.equity2) // 200
                most = max(0, equity) * portfolio.max_leverage_pct
            known = most is not None and most <= AMOUNT_BOUND
            unless_reducing(21, within(most, gross) if known else 0)
        if portfolio.credit is not None and entry.side > 0:
            most = None
            if memory.cash2 is not None:
                most = (2 * self.amount(portfolio.capital) + memory.cash2) // 2 + self.amount(portfolio.credit)
            spent = lambda n: sum(times(z, p) for side, z, _, p in self.open if side > 0) + n * self.value  # noqa: E731
            unless_reducing(21, within(most, spent) if most is not None else 0)

    def meets_own(self, entry: Entry) -> bool:
        left = {other.id for other in self.batch if other.kind == RequestType.CANCEL}
        left |= {other.target for other in self.batch if other.kind == RequestType.REPLACE}
        if entry.kind == RequestType.REPLACE:
            left.add(entry.target)
        resting = [
            (1 if side > 0 else -1, price)
            for order, side, price, _, m in self.seen.orders
            if m == entry.instrument and price > 0 and order not in left
        ]
        taking = False
        for other in self.batch:
            if other.kind in (RequestType.NONE, RequestType.CANCEL) or other.instrument != entry.instrument:
                continue
            if other.kind == RequestType.MARKET:
                taking |= other.side != entry.side
            else:
                resting.append((other.side, other.price))
        against = [price for side, price in resting if side != entry.side]
        if entry.kind == RequestType.MARKET:
            return bool(against)
        return any((entry.price - price) * entry.side >= 0 for price in against)

    def stale(self, entry: Entry, rule) -> bool:
        seen, m = self.seen, entry.instrument
        if not (seen.time_known and seen.mid_known(m)):
            return True
        taken = seen.asks if entry.side > 0 else seen.bids
        if entry.kind == RequestType.MARKET and taken[m][0][1] <= 0:
            return True
        if rule.max_quote_age_ms is None:
            return False
        quote = self.memory.quotes.get(m)
        return quote is None or seen.time - quote[0] > rule.max_quote_age_ms * 10**6

    def worst_price(self, entry: Entry) -> int:
        seen, m = self.seen, entry.instrument
        reference = seen.reference(m)
        if entry.kind != RequestType.MARKET:
            return max(reference, entry.price)
        if entry.side < 0:
            return reference
        prices = [reference, *(price for price, size in seen.asks[m] if size > 0 and price <= BOUND)]
        if self.limits.order.collar_bps is not None:
            prices.append(seen.mid2[m] * (10_000 + self.limits.order.collar_bps) // 20_000)
        return max(prices)

    def near_lots(self, entry: Entry, mids: list[int], bps: int) -> int:
        def near(price: int) -> bool:
            return all(abs(Fraction(2 * price, mid) - 1) <= Fraction(bps, 10_000) for mid in (min(mids), max(mids)))

        if entry.kind != RequestType.MARKET:
            return entry.quantity if near(entry.price) else 0
        total = 0
        for price, size in self.seen.asks[entry.instrument] if entry.side > 0 else self.seen.bids[entry.instrument]:
            if size <= 0:
                continue
            if size > BOUND or not 0 < price <= BOUND or not near(price):
                break
            total += size
        return min(total, entry.quantity)

    # ------------------------------------------------------------------------------------------------------------- traffic

    def traffic(self, entry: Entry, quantity: int) -> set[int]:
        memory, window, seen = self.memory, self.limits.window, self.seen
        bits, reduces = set(), quantity <= self.reducible
        if window.duplicates is not None and seen.time_known:
            wanted = content(Entry(entry.kind, entry.side, entry.price, quantity, 0, 0, entry.instrument))
            before = []
            for at, what in reversed(memory.sent[-RING:]):
                if at <= seen.time - window.duplicates.window_ms * 10**6:
                    break
                before.append(what)
            before += [content(other) for other in self.batch if other.kind not in (RequestType.NONE, RequestType.CANCEL)]
            if before.count(wanted) >= window.duplicates.count:
                bits.add(12)
        for name, bit in (("submit", 14), ("messages", 15)):
            rate = getattr(window, name)
            if rate is not None:
                cost = -(-rate.window_ms * 10**6 // rate.count)
                tokens = rate.count if reduces else rate.count * 8 // 10
                if memory.buckets[name] + cost > cost * tokens:
                    bits.add(bit)
        if window.order_to_trade is not None:
            most = (
                window.order_to_trade.free_messages + window.order_to_trade.messages_per_execution * memory.executions
            )
            if memory.messages >= (most if reduces else most * 8 // 10):
                bits.add(15)
        return bits

    def message(self) -> None:
        self.memory.messages += 1
        self.pour("messages")

    def pour(self, name: str) -> None:
        rate = getattr(self.limits.window, name)
        if rate is not None:
            cost = -(-rate.window_ms * 10**6 // rate.count)
            self.memory.buckets[name] = min(self.memory.buckets[name] + cost, cost * rate.count)

    def enter(self, entry: Entry, quantity: int) -> None:
        self.memory.highest = max(self.memory.highest, entry.id)
        self.pour("submit")
        self.open.append((entry.side, quantity, entry.instrument, self.value))


def largest(q: int, ok: Callable[[int], bool]) -> int:
    """The largest n in 0..q with ok(n), 0 if there is none; ok holds up to some n and not beyond."""
    if ok(q):
        return q
    low, high = 0, q
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if ok(middle) else (low, middle)
    return low


def content(entry: Entry) -> tuple[int, ...]:
    price = 0 if entry.kind == RequestType.MARKET else entry.price
    return int(entry.kind), 1 if entry.side > 0 else -1, price, entry.quantity, entry.instrument


def same(entry: Entry, kind: int, record: np.void) -> bool:
    """Whether a judged entry is what the layer sent."""
    if entry.kind != kind:
        return False
    if kind == RequestType.NONE:
        return True
    return (entry.price, entry.quantity, entry.id, entry.target, entry.instrument, entry.side) == tuple(record)[:6]
