"""Kernels of the tasks: actions into orders, and what happened into reward, observation and mask."""

from __future__ import annotations

import numpy as np

from emp_gym.jit import hot, inner
from emp_gym.market.public import CANCEL, LIMIT, MARKET, NONE, REPLACE, TRADING, ticks_away
from emp_gym.market.starts import draw
from emp_gym.sensory.lob import finish, observe_book, observe_own
from emp_gym.threads import chunk_size, fan_out, next_chunk, region
from emp_gym.types import CASH_UNITS

TRADE, MAKE, EXECUTE_PARENT = 0, 1, 2
PNL, INVENTORY, DAMPED, SHORTFALL = 0, 1, 2, 3
KEEP, BOTH, BOTH_DEEP, BID, ASK, BID_ASK_DEEP, ASK_BID_DEEP, BUY_CLIP, SELL_CLIP, CANCEL_ALL, FLATTEN = range(11)
POST, POST_DEEP, TAKE_ONE, TAKE_TWO, CANCEL_PARENT = range(1, 6)
NO_QUOTE = 0

SETUP = np.dtype(
    [
        ("task", "i8"),
        ("reward", "i8"),
        ("clip", "i8"),  # lots of one order
        ("max_position", "i8"),  # lots
        ("episode", "i8"),  # decisions
        ("parent", "i8"),  # lots of the parent order
        ("max_offset", "i8"),  # ticks
        ("levels", "i8"),  # levels in the observation
        ("latency", "i8"),  # 1 if orders take time to arrive
        ("inventory_penalty", "f8"),  # ticks per clip of inventory and decision
        ("damping", "f8"),  # share of inventory gains taken away
    ],
    align=True,
)
"""What is the same in every episode, whatever its day."""

EPISODE = np.dtype(
    [
        ("equity2", "i8"),  # after the last decision
        ("mid2", "i8"),
        ("position", "i8"),
        ("length", "i8"),  # decisions of this episode
        ("arrival2", "i8"),  # twice the mid at the start
        ("parent_side", "i8"),
        ("tick", "i8"),  # at the start: rewards are counted in it, price units
        ("masked", "i8"),  # masked actions executed as "keep"
        ("clipped", "i8"),  # features clipped
        ("steps", "i8"),
        ("return_", "f8"),
    ],
    align=True,
)
"""What a task remembers of a lane's episode."""


# ------------------------------------------------------------------------------------------------------ action -> orders


@hot
def _ask(kinds, requests, n, lane, kind, side, price, quantity, target):
    """Writes one request; returns the number of requests so far."""
    request = requests[n]
    kinds[n] = kind
    request["side"], request["price"], request["quantity"] = side, price, quantity
    request["id"] = target if kind == CANCEL else lane["decision"] * 16 + n + 1
    request["target"] = target if kind == REPLACE else 0
    return n + 1


@hot
def _resting(slots, k, side):
    """Whether slot k is a limit order of that side which nobody has cancelled yet."""
    return slots[k]["kind"] == LIMIT and slots[k]["side"] == side and not slots[k]["leaving"]


@hot
def _kept(lane, slots, side, price):
    """The slot that already rests (or flies) at this price, -1 if none does."""
    for k in range(lane["orders"]):
        if _resting(slots, k, side) and slots[k]["price"] == price:
            return k
    return -1


@hot
def _quote(kinds, requests, n, lane, slots, side, price, quantity):
    """Wants exactly one order of `side` at `price` (NO_QUOTE: none). What already stands there is not moved."""
    kept = _kept(lane, slots, side, price) if price != NO_QUOTE else -1
    moved = kept >= 0 or price == NO_QUOTE or quantity <= 0
    for k in range(lane["orders"]):
        if k == kept or not _resting(slots, k, side):
            continue
        if moved:
            n = _ask(kinds, requests, n, lane, CANCEL, side, 0, 0, slots[k]["id"])
        else:
            n = _ask(kinds, requests, n, lane, REPLACE, side, price, quantity, slots[k]["id"])
            moved = True
    if not moved:
        n = _ask(kinds, requests, n, lane, LIMIT, side, price, quantity, 0)
    return n


@hot
def _cancel_all(kinds, requests, n, lane, slots):
    for k in range(lane["orders"]):
        if not slots[k]["leaving"]:
            n = _ask(kinds, requests, n, lane, CANCEL, slots[k]["side"], 0, 0, slots[k]["id"])
    return n


@hot
def _open(lane, slots, side, leaving):
    """Lots of own orders of `side`; with `leaving` only those whose cancel is on its way."""
    total = 0
    for k in range(lane["orders"]):
        if slots[k]["side"] == side and (not leaving or slots[k]["leaving"]):
            total += slots[k]["quantity"]
    return total


@hot
def _exposed(lane, slots, side, setup):
    """Lots of `side` that may still fill whatever is sent now: with latency every open order, since a cancel can lose the race."""
    return _open(lane, slots, side, setup["latency"] == 0)


@hot
def menu_price(action, side, book, rules):
    """The price at which a menu action quotes `side`, NO_QUOTE if it does not."""
    if side > 0:
        touch = action == BOTH or action == BID or action == BID_ASK_DEEP
        deep = action == BOTH_DEEP or action == ASK_BID_DEEP
    else:
        touch = action == BOTH or action == ASK or action == ASK_BID_DEEP
        deep = action == BOTH_DEEP or action == BID_ASK_DEEP
    if not touch and not deep:
        return NO_QUOTE
    best = book[0, 0] if side > 0 else book[2, 0]
    return ticks_away(rules, best, -side) if deep else best


@hot
def _flatten(kinds, requests, n, lane, quote, slots, setup):
    """Closes the position at the market, less what market orders in flight will close, within the inventory limit."""
    net = quote["position"]
    for k in range(lane["orders"]):
        if slots[k]["kind"] == MARKET:
            net += slots[k]["side"] * slots[k]["quantity"]
    side = -1 if net > 0 else 1
    room = setup["max_position"] - side * quote["position"] - _exposed(lane, slots, side, setup)
    quantity = min(abs(net), room)
    if quantity > 0:
        _ask(kinds, requests, n, lane, MARKET, side, 0, quantity, 0)


@hot
def _request_menu(kinds, requests, lane, quote, slots, book, action, rules, setup):
    if action == KEEP:
        return
    if BOTH <= action <= ASK_BID_DEEP:
        n = _quote(kinds, requests, 0, lane, slots, 1, menu_price(action, 1, book, rules), setup["clip"])
        _quote(kinds, requests, n, lane, slots, -1, menu_price(action, -1, book, rules), setup["clip"])
    elif action == BUY_CLIP:
        _ask(kinds, requests, 0, lane, MARKET, 1, 0, setup["clip"], 0)
    elif action == SELL_CLIP:
        _ask(kinds, requests, 0, lane, MARKET, -1, 0, setup["clip"], 0)
    else:
        n = _cancel_all(kinds, requests, 0, lane, slots)
        if action == FLATTEN:
            _flatten(kinds, requests, n, lane, quote, slots, setup)


@hot
def _request_parent(kinds, requests, lane, quote, slots, book, action, rules, setup, side):
    left = setup["parent"] - side * quote["position"]
    best = book[0, 0] if side > 0 else book[2, 0]
    if action == POST or action == POST_DEEP:
        price = best if action == POST else ticks_away(rules, best, -side)
        quantity = min(setup["clip"], left - _exposed(lane, slots, side, setup))
        _quote(kinds, requests, 0, lane, slots, side, price, quantity)
    elif action == TAKE_ONE or action == TAKE_TWO:
        clips = 1 if action == TAKE_ONE else 2
        pending = _exposed(lane, slots, side, setup)
        n = _cancel_all(kinds, requests, 0, lane, slots)
        quantity = min(clips * setup["clip"], left - pending)
        if quantity > 0:
            _ask(kinds, requests, n, lane, MARKET, side, 0, quantity, 0)
    elif action == CANCEL_PARENT:
        _cancel_all(kinds, requests, 0, lane, slots)


@hot
def _request_quotes(kinds, requests, lane, quote, slots, book, action, rules, setup):
    """Market making: (half-spread, skew, size) in [-1, 1]; see `tasks.MakeMarket`."""
    if quote["status"] != TRADING or book[1, 0] == 0 or book[3, 0] == 0:
        return
    half = 0.5 * (action[0] + 1.0) * setup["max_offset"]
    skew = action[1] * setup["max_offset"]
    clips = 0.5 * (action[2] + 1.0) * setup["clip"] / rules["lot"]
    quantity = int(np.rint(clips)) * rules["lot"]
    bid = min(ticks_away(rules, book[0, 0], -int(np.rint(half - skew))), ticks_away(rules, book[2, 0], -1))
    ask = max(ticks_away(rules, book[2, 0], int(np.rint(half + skew))), ticks_away(rules, book[0, 0], 1))
    if ask <= bid:
        ask = ticks_away(rules, bid, 1)
    room_to_buy = setup["max_position"] - quote["position"] - _exposed(lane, slots, 1, setup)
    room_to_sell = setup["max_position"] + quote["position"] - _exposed(lane, slots, -1, setup)
    buy, sell = min(quantity, room_to_buy), min(quantity, room_to_sell)
    n = _quote(kinds, requests, 0, lane, slots, 1, bid if buy > 0 and bid > 0 else NO_QUOTE, buy)
    _quote(kinds, requests, n, lane, slots, -1, ask if sell > 0 else NO_QUOTE, sell)


@inner
def request(
    low, high, choices, levers, kinds, requests, state, quotes, seen, books, slots, rules, episodes, mask, active, setup
):  # fmt: skip
    """Turns the actions of lanes [low, high) into orders. A masked choice is executed as KEEP and counted."""
    own = setup[0]
    task = own["task"]
    for i in range(low, high):
        for n in range(kinds.shape[1]):
            kinds[i, n] = NONE
        if not active[i]:
            continue
        lane, quote, book = state[i], quotes[i, 0], books[i, 0]
        trading = rules[quote["rules"]]
        if task == MAKE:
            _request_quotes(kinds[i], requests[i], lane, quote, slots[i], book, levers[i], trading, own)
            continue
        action = choices[i]
        if not mask[i, action]:
            episodes[i]["masked"] += 1
            action = KEEP
        if task == TRADE:
            _request_menu(kinds[i], requests[i], lane, quote, slots[i], book, action, trading, own)
        else:
            _request_parent(
                kinds[i], requests[i], lane, quote, slots[i], book, action, trading, own, episodes[i]["parent_side"]
            )


# ----------------------------------------------------------------------------------------------------------------- masks


@hot
def _may_quote(lane, quote, slots, side, price, setup):
    if price <= 0 or lane["orders"] > slots.shape[0] - 2:
        return False
    if _kept(lane, slots, side, price) >= 0:
        return True
    return side * quote["position"] + _exposed(lane, slots, side, setup) + setup["clip"] <= setup["max_position"]


@hot
def _may_take(lane, quote, slots, side, setup):
    room = setup["max_position"] - side * quote["position"] - _open(lane, slots, side, False)
    return room >= setup["clip"] and lane["orders"] < slots.shape[0]


@hot
def _mask_menu(mask, lane, quote, slots, book, rules, setup):
    trading = quote["status"] == TRADING
    has_bid, has_ask = trading and book[1, 0] > 0, trading and book[3, 0] > 0
    bid = has_bid and _may_quote(lane, quote, slots, 1, book[0, 0], setup)
    ask = has_ask and _may_quote(lane, quote, slots, -1, book[2, 0], setup)
    deep_bid = has_bid and _may_quote(lane, quote, slots, 1, ticks_away(rules, book[0, 0], -1), setup)
    deep_ask = has_ask and _may_quote(lane, quote, slots, -1, ticks_away(rules, book[2, 0], 1), setup)
    mask[KEEP] = mask[CANCEL_ALL] = True
    mask[BOTH], mask[BOTH_DEEP] = bid and ask, deep_bid and deep_ask
    mask[BID], mask[ASK] = bid, ask
    mask[BID_ASK_DEEP], mask[ASK_BID_DEEP] = bid and deep_ask, ask and deep_bid
    mask[BUY_CLIP] = has_ask and _may_take(lane, quote, slots, 1, setup)
    mask[SELL_CLIP] = has_bid and _may_take(lane, quote, slots, -1, setup)
    exit_there = has_bid if quote["position"] > 0 else has_ask
    mask[FLATTEN] = trading and lane["orders"] < slots.shape[0] and (quote["position"] == 0 or exit_there)


@hot
def _mask_parent(mask, lane, quote, slots, book, side):
    trading = quote["status"] == TRADING
    own, other = (1, 3) if side > 0 else (3, 1)
    room = lane["orders"] <= slots.shape[0] - 2
    mask[KEEP] = mask[CANCEL_PARENT] = True
    mask[POST] = mask[POST_DEEP] = trading and room and book[own, 0] > 0
    mask[TAKE_ONE] = mask[TAKE_TWO] = trading and room and book[other, 0] > 0


# -------------------------------------------------------------------------------------------- reward, observation, start


@hot
def begin(lanes, quotes, episodes, random, stagger, setup):
    """Starts the episodes of `lanes`. Draws the same numbers for every task, so that starts do not depend on it."""
    for i in lanes:
        episode = episodes[i]
        side, length = draw(random, i), draw(random, i)
        episode["parent_side"] = 1 if side & np.uint64(1) else -1
        episode["length"] = setup[0]["episode"]
        if stagger:
            episode["length"] = 1 + np.int64(length % np.uint64(setup[0]["episode"]))
        episode["equity2"], episode["position"], episode["tick"] = 0, 0, quotes[i, 0]["tick"]
        episode["mid2"] = episode["arrival2"] = quotes[i, 0]["mid2"]
        episode["masked"] = episode["clipped"] = episode["steps"] = 0
        episode["return_"] = 0.0


@hot
def _reward(lane, quote, episode, setup):
    to_cash, position, mid2 = quote["price_to_cash"], quote["position"], quote["mid2"]
    kind, tick = setup["reward"], episode["tick"]
    if kind == SHORTFALL:
        arrival2 = episode["arrival2"]
        value2 = 2 * lane["cash"] + position * arrival2 * to_cash
        reward = 1e4 * (value2 - episode["equity2"]) / (arrival2 * to_cash * setup["parent"])
        episode["equity2"] = value2
        return reward
    value2 = 2 * lane["cash"] + position * mid2 * to_cash
    unit = 2.0 * to_cash * tick * setup["clip"]
    reward = (value2 - episode["equity2"]) / unit
    if kind == INVENTORY:
        reward -= setup["inventory_penalty"] * abs(position) / setup["clip"]
    elif kind == DAMPED:
        drift = episode["position"] * (mid2 - episode["mid2"]) / (2.0 * tick * setup["clip"])
        reward -= setup["damping"] * max(drift, 0.0)
    episode["equity2"], episode["mid2"], episode["position"] = value2, mid2, position
    return reward


@hot
def _settle(i, state, quotes, episodes, active, rewards, setup):
    """Reward of lane i for the step that just ended; 0 if it did not move."""
    rewards[i] = 0.0
    if active[i]:
        rewards[i] = _reward(state[i], quotes[i, 0], episodes[i], setup)
        episodes[i]["return_"] += rewards[i]
        episodes[i]["steps"] += 1


AMOUNTS = ("return", "pnl", "fees", "spread_captured", "mean_abs_inventory")
COUNTS = (
    "length", "filled", "maker_filled", "orders", "orders_filled", "orders_refused", "max_inventory", "beyond_depth",
    "unknown_place", "masked", "clipped", "day", "start",
)  # fmt: skip


@hot
def summarise(lanes, state, quotes, episodes, amounts, counts, setup):
    """Writes what the episodes of `lanes` came to into their columns of amounts [len(AMOUNTS), N] and counts."""
    for i in lanes:
        lane, quote, episode = state[i], quotes[i, 0], episodes[i]
        cash2 = 2 * lane["cash"]
        if setup[0]["task"] == EXECUTE_PARENT:  # the parent valued at the arrival mid: minus the shortfall
            cash2 += quote["position"] * episode["arrival2"] * quote["price_to_cash"]
        amounts[0, i], amounts[1, i] = episode["return_"], cash2 / (2 * CASH_UNITS)
        amounts[2, i] = lane["fees"] / CASH_UNITS
        amounts[3, i] = lane["captured2"] * quote["price_to_cash"] / (2 * CASH_UNITS)
        amounts[4, i] = lane["position_sum"] / max(lane["decision"], 1)
        counts[0, i], counts[1, i], counts[2, i] = episode["steps"], lane["filled"], lane["maker_filled"]
        counts[3, i], counts[4, i], counts[5, i] = lane["sent"], lane["hit"], lane["refused"]
        counts[6, i], counts[7, i], counts[8, i] = lane["max_position"], lane["beyond"], lane["unknown_place"]
        counts[9, i], counts[10, i] = episode["masked"], episode["clipped"]
        counts[11, i], counts[12, i] = lane["day"], lane["start_row"]


@hot
def _observe(lane, quote, seen, book, slots, rules, episode, out, mask, raw, transform, setup):
    """Writes a lane's observation and mask; `raw` is room for its quantities."""
    at = observe_book(raw, lane, quote, seen, book, rules, setup["levels"])
    elapsed = (lane["decision"] + setup["episode"] - episode["length"]) / setup["episode"]
    at = observe_own(raw, at, lane, quote, slots, book, setup["clip"], setup["max_position"], elapsed)
    if setup["task"] == EXECUTE_PARENT:
        side = episode["parent_side"]
        left = (setup["parent"] - side * quote["position"]) / setup["parent"]
        raw[at], raw[at + 1], raw[at + 2] = side, left, left - (1.0 - elapsed)
        _mask_parent(mask, lane, quote, slots, book, side)
    elif setup["task"] == TRADE:
        _mask_menu(mask, lane, quote, slots, book, rules, setup)
    episode["clipped"] += finish(raw, out, transform)


@hot
def observe(lanes, state, quotes, seen, books, slots, rules, episodes, out, mask, raw, transform, setup):
    """Writes observation and mask of `lanes`."""
    for i in lanes:
        quote = quotes[i, 0]
        _observe(
            state[i], quote, seen[i, 0], books[i, 0], slots[i], rules[quote["rules"]], episodes[i], out[i], mask[i], raw,
            transform, setup[0],
        )  # fmt: skip


@inner
def settle_and_observe(
    low, high, place, state, quotes, seen, books, slots, rules, episodes, active, rewards, out, mask, raw, transform, setup
):  # fmt: skip
    """Writes rewards, observations and masks of lanes [low, high) for the step that just ended; row `place` of `raw` is room."""
    for i in range(low, high):
        _settle(i, state, quotes, episodes, active, rewards, setup[0])
        quote = quotes[i, 0]
        _observe(
            state[i], quote, seen[i, 0], books[i, 0], slots[i], rules[quote["rules"]], episodes[i], out[i], mask[i],
            raw[place], transform, setup[0],
        )  # fmt: skip


@region
def request_lanes(call, words, lanes, *arrays):
    """`request` for all lanes, see `threads.run`."""
    fan_out(call, words)
    step = chunk_size(call, words, lanes)
    first = next_chunk(call, words, -step, step)
    while first < lanes:
        request(first, min(first + step, lanes), *arrays)
        first = next_chunk(call, words, first, step)


@region
def settle_and_observe_lanes(call, words, lanes, *arrays):
    """`settle_and_observe` for all lanes, see `threads.run`."""
    place = fan_out(call, words)
    step = chunk_size(call, words, lanes)
    first = next_chunk(call, words, -step, step)
    while first < lanes:
        settle_and_observe(first, min(first + step, lanes), place, *arrays)
        first = next_chunk(call, words, first, step)
