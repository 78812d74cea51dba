"""Checks of a market: its arrays, its money, its door, and what becomes of orders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from emp_gym.envs.conformance import market_requests as terms
from emp_gym.envs.conformance.market_driver import Found, MarketDriver, MarketSubject, Moment, first
from emp_gym.envs.conformance.subject import Skip
from emp_gym.market.base import Market
from emp_gym.market.public import CANCEL, CLOSING_ID, FREE, LANE, OPEN, QUOTE, REPLACE, RULES, SEEN, TRADING
from emp_gym.types import OrderAck as Told

REFUSED = (Told.NO_SLOT, Told.MALFORMED, Told.HALTED, Told.UNKNOWN)

# ---------------------------------------------------------------------------------------------------------------- arrays


def arrays_are_as_promised(subject: MarketSubject) -> Found:
    """Public arrays have their types and shapes, used orders come first and by age, free entries are empty, the view is their memory."""
    yield from first(_wrong_arrays(subject.make()))
    yield from first(what for moment in subject.walked for what in _wrong_orders(moment))


def _wrong_arrays(market: Market) -> Found:
    public, n, m, k = market.public, market.lanes, market.public.quote.shape[-1], market.most_orders
    wanted = {
        "lane": (LANE, (n,)), "quote": (QUOTE, (n, m)), "seen": (SEEN, (n, m, 1 + len(market.spec.looks))), "open": (OPEN, (n, k)),
        "book": (np.dtype(np.int64), (n, m, 4, public.book.shape[-1])), "rules": (RULES, (len(market.instruments),)),
    }  # fmt: skip
    arrays = {**public._asdict(), "active": market.active, "progress": market.progress, "outcome": market.outcome}
    wanted |= {"active": (np.dtype(bool), (n,)), "progress": (np.dtype(np.int64), (n,))}
    wanted |= {"outcome": (np.dtype(np.int8), (n, market.requests))}
    for name, (kind, shape) in wanted.items():
        if arrays[name].dtype != kind or arrays[name].shape != shape:
            yield f"{name}: expected {shape} of {kind.str}, got {arrays[name].shape} of {arrays[name].dtype.str}"
        elif not (arrays[name].flags.c_contiguous and arrays[name].flags.aligned):
            yield f"{name} is not contiguous and aligned"
    view = market.view
    for name, own in (("cash", public.lane), ("mid2", public.quote), ("bid_price", public.book), ("order_id", public.open)):
        array = getattr(view, name)
        if array.flags.writeable or not np.shares_memory(array, own):
            yield f"view.{name} is {'writable' if array.flags.writeable else 'a copy'}: make it with market.public.view_of"


def _wrong_orders(moment: Moment) -> Found:
    own, used = moment.now.open, moment.now.lane["orders"]
    there = own["state"] != FREE
    if (there != (np.arange(own.shape[1]) < used[:, None])).any():
        yield f"open: the used entries are not the first {used.tolist()}, got states {own['state'].tolist()}"
    for name in ("id", "quantity", "live", "leaving"):
        if own[name][~there].any():
            yield f"open.{name} of a free entry is {own[name][~there].max()}, expected 0: views read it without asking for the state"
    if (there[:, 1:] & (np.diff(own["decision"].astype(np.int64), axis=1) < 0)).any():
        yield "open: orders do not stand in order of age"


# ----------------------------------------------------------------------------------------------------------------- money


def money_is_conserved(subject: MarketSubject) -> Found:
    """Cash, fees and position, counted from the fills alone, are the lanes' own after every call, closing included, to the unit."""
    yield from first(what for moment in subject.walked for what in terms.wrong_money(moment))


def fees_are_the_rules(subject: MarketSubject) -> Found:
    """The fee of each fill is that of its instrument's rules, rounded against us."""
    yield from first(what for moment in subject.walked for what in terms.wrong_fees(moment))


# ------------------------------------------------------------------------------------------------------------- the door


def the_door_refuses(subject: MarketSubject) -> Found:
    """A request with a wrong lot, tick, side, quantity, price, id or instrument is MALFORMED, and nothing of it is entered."""
    yield from first(what for moment in subject.walked if moment.closed is None for what in _wrong_refusals(moment))


def _wrong_refusals(moment: Moment) -> Found:
    for lane, k, _, asked in _new(moment):
        why = terms.malformed(moment, lane, k)
        if not why:
            continue
        told = Told(int(moment.outcome[lane, k]))
        answered = told in (Told.MALFORMED, Told.PENDING)
        if not answered and (told not in REFUSED or terms.free(moment, lane, k)):
            yield f"a request with {why} is {told.name}, expected MALFORMED: {asked}"
        elif why != terms.USED and int(asked["id"]) in moment.ids_now[lane]:
            yield f"a request with {why} was refused and is open all the same: {asked}"


def _new(moment: Moment) -> Iterator[tuple[int, int, int, np.void]]:
    return ((lane, k, kind, asked) for lane, k, kind, asked in moment.entries if kind != CANCEL)


def what_a_mask_allows_is_accepted(subject: MarketSubject) -> Found:
    """A well-formed order is accepted while the status says TRADING; tasks offer actions on that ground."""
    found = (
        f"a well-formed order is {Told(int(moment.outcome[lane, k])).name} while trading: {asked}"
        for moment in subject.walked if moment.closed is None
        for lane, k, kind, asked in _new(moment)
        if kind != REPLACE and not terms.malformed(moment, lane, k) and moment.before.quote["status"][lane, 0] == TRADING
        and moment.outcome[lane, k] not in (Told.ACCEPTED, Told.PENDING, Told.NO_SLOT)
    )  # fmt: skip
    yield from first(found)


def slots_end(subject: MarketSubject) -> Found:
    """There is room for as many orders as entries; the next is NO_SLOT; filled, cancelled and replaced ones make room again."""
    market, desk = _quiet(subject)
    for k in range(market.most_orders):
        yield from terms.told(desk.send(desk.far(k)), Told.ACCEPTED, f"order {k + 1} of {market.most_orders}")
    yield from terms.told(desk.send(desk.far(0)), Told.NO_SLOT, f"order {market.most_orders + 1} of {market.most_orders}")
    desk.send(desk.cancel(desk.open_ids()[:, 0]))
    desk.wait()
    yield from terms.told(desk.send(desk.market_order()), Told.ACCEPTED, "a market order after a cancel")
    desk.wait()
    yield from terms.told(desk.send(desk.far(1)), Told.ACCEPTED, "an order after one was filled")
    desk.send(desk.cancel(desk.open_ids()[:, 0]))
    desk.wait()
    desk.send(desk.replace(desk.open_ids()[:, 0], 3))
    desk.wait()
    room = (desk.open_ids() > 0).sum(axis=1) < market.most_orders
    yield from terms.told(desk.send(desk.far(2))[room], Told.ACCEPTED, "an order after one was replaced")


def _quiet(subject: MarketSubject) -> tuple[Market, terms.RequestDriver]:
    """A market in which nothing but what a `RequestDriver` sends happens to its orders, and which trades now."""
    market = subject.make(lanes=4, episode=200)
    course = MarketDriver(market)
    desk = terms.RequestDriver(course)
    for _ in range(20):
        if (market.public.quote["status"] == TRADING).all():
            return market, desk
        desk.wait()
    raise Skip("it did not trade in the first 20 decisions")


# --------------------------------------------------------------------------------------------- cancels, replacements, fills


def cancel_in_every_state(subject: MarketSubject) -> Found:
    """A cancel ends an order that rests, was sent just now or is filled in part; of one that is filled, replaced or unknown it is UNKNOWN;
    nothing fills that it has ended, and what it has not ended yet is still shown."""
    market, desk = _quiet(subject)
    desk.send(desk.far(0))
    desk.wait()
    resting = desk.open_ids()[:, 0]
    yield from terms.told(desk.send(desk.cancel(resting)), Told.ACCEPTED, "the cancel of a resting order")
    desk.wait()
    yield from desk.gone(resting, "was cancelled")
    yield from terms.told(desk.send(desk.cancel(resting)), Told.UNKNOWN, "the cancel of a cancelled order")
    yield from terms.told(desk.send(desk.cancel(np.full(4, 7_777_777))), Told.UNKNOWN, "the cancel of an unknown order")
    taken = desk.market_order()
    desk.send(taken)
    desk.wait()
    yield from terms.told(desk.send(desk.cancel(taken.id[:, 0])), Told.UNKNOWN, "the cancel of a filled order")
    desk.send(desk.far(2))
    desk.wait()
    old = desk.open_ids()[:, 0]
    desk.send(desk.replace(old, 3))
    desk.wait()
    went = ~(desk.open_ids() == old[:, None]).any(axis=1)
    yield from terms.told(desk.send(desk.cancel(old))[went], Told.UNKNOWN, "the cancel of a replaced order")
    both = desk.far(4)
    both.kind[:, 1], both.records["id"][:, 1] = CANCEL, both.id[:, 0]
    yield from terms.told(desk.send(both, 1), Told.ACCEPTED, "the cancel of an order that was sent just before it")
    desk.wait()
    yield from desk.gone(both.id[:, 0], "was cancelled in the decision in which it was sent")
    partial = desk.crossing()
    desk.send(partial)
    desk.wait()
    desk.send(desk.cancel(partial.id[:, 0]))
    desk.wait()
    yield from desk.gone(partial.id[:, 0], "was filled in part and cancelled")
    yield from first(what for moment in subject.walked for what in _filled_though_cancelled(moment))


def _filled_though_cancelled(moment: Moment) -> Found:
    if not moment.market.immediate or moment.closed is not None:
        return
    filled = set(zip(moment.fills.lane.tolist(), moment.fills.id.tolist()))
    for lane, k, kind, asked in moment.entries:
        known = kind == CANCEL and int(asked["id"]) in moment.ids_before[lane]
        if known and moment.outcome[lane, k] == Told.ACCEPTED and (lane, int(asked["id"])) in filled:
            yield f"order {asked['id']} was filled in the decision that cancelled it"
        if known and moment.outcome[lane, k] == Told.ACCEPTED and int(asked["id"]) in moment.ids_now[lane]:
            yield f"order {asked['id']} is open after a cancel was accepted, in a market that says immediate"


def replace_is_new(subject: MarketSubject) -> Found:
    """A replacement ends the old order and enters a new one, the youngest; where the old one is not there any more, nothing is entered."""
    market, desk = _quiet(subject)
    for k in (0, 1):
        desk.send(desk.far(k))
    desk.wait()
    old, other = desk.open_ids()[:, 0], desk.open_ids()[:, 1]
    asked = desk.replace(old, 5)
    yield from terms.told(desk.send(asked), Told.ACCEPTED, "the replacement of a resting order")
    desk.wait()
    for lane in range(market.lanes):
        ids = desk.open_ids()[lane]
        if ids[ids > 0].tolist() != [other[lane], asked.id[lane, 0]]:
            yield (
                f"lane {lane}: {old[lane]} was replaced by {asked.id[lane, 0]} beside {other[lane]}; open are, by age, "
                f"{ids[ids > 0].tolist()}"
            )
    late = desk.replace(old, 6)
    yield from terms.told(desk.send(late), Told.UNKNOWN, "the replacement of an order that is gone")
    desk.wait()
    yield from desk.gone(late.id[:, 0], "was to replace one that is gone")


def fills_fit_their_orders(subject: MarketSubject) -> Found:
    """A fill is of an order that was open or sent just now, of no more than is left of it, at its price (maker) or no worse (taker), and a
    taker's within the shown book or said to be beyond it."""
    yield from first(what for moment in subject.walked for what in terms.wrong_fills(moment))


def latency_is_kept(subject: MarketSubject) -> Found:
    """With `latency_ns` nothing happens to an order before it has arrived."""
    if "latency_ns" not in subject.takes:
        raise Skip("it takes no latency_ns")
    probe = MarketDriver(subject.make())
    moment = probe.step()
    latency = max(2, int((probe.market.public.lane["time_ns"] - moment.before.lane["time_ns"]).max()) * 3 // 2)
    market = subject.make(keywords={"latency_ns": latency})
    if market.immediate:
        yield "it says immediate with a latency: a cancel that is sent now cannot win against all that comes"
    yield from first(what for moment in terms.with_sent(MarketDriver(market).walk(120)) for what in terms.too_early(*moment, latency))


def nothing_trades_in_a_halt(subject: MarketSubject) -> Found:
    """While the status is not TRADING nothing fills, closing aside, and new orders are refused."""
    halts, found = 0, []
    for moment in subject.walked:
        shut = (moment.before.quote["status"][:, 0] != TRADING) & (moment.now.quote["status"][:, 0] != TRADING) & moment.moved
        halts += int(shut.sum())
        mine = shut[moment.fills.lane] & (moment.fills.id != CLOSING_ID)
        found += [f"order {order} was filled in a halt" for order in moment.fills.id[mine]]
        for lane, k, _, asked in _new(moment) if moment.closed is None else ():
            if moment.before.quote["status"][lane, 0] != TRADING and moment.outcome[lane, k] == Told.ACCEPTED:
                found.append(f"a new order is accepted in a halt: {asked}")
    if not halts:
        raise Skip(f"it never halted in {subject.decisions} decisions")
    yield from first(iter(found))


def answers_come_once(subject: MarketSubject) -> Found:
    """What is PENDING is answered by one report in a later call, or its episode ends; nothing else is reported."""
    waiting: Counter[tuple[int, int]] = Counter()  # answers due, by (lane, id): an order and its cancel have one id
    late, found = 0, []
    for moment in subject.walked:
        if moment.closed is not None:
            waiting = Counter({(lane, order): due for (lane, order), due in waiting.items() if lane not in moment.closed})
            continue
        told = moment.reports
        for lane, order, outcome in zip(told.lane.tolist(), told.id.tolist(), told.outcome.tolist()):
            waiting[lane, order] -= 1
            if waiting[lane, order] < 0:
                found.append(f"lane {lane}: order {order} is reported {Told(outcome).name}, and no answer was due")
            elif outcome in (Told.NONE, Told.PENDING):
                found.append(f"lane {lane}: order {order} is reported {Told(outcome).name}, which is no answer")
        for lane, k, _, asked in moment.entries:
            if moment.outcome[lane, k] == Told.PENDING:
                waiting[lane, int(asked["id"])] += 1
                late += 1
            elif moment.outcome[lane, k] == Told.NONE:
                found.append(f"lane {lane}: a request has no outcome: {asked}")
    if not late and not found:
        raise Skip("it answers at once")
    yield from first(iter(found))
