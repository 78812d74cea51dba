"""The quoting policy of `replay`, written against hftbacktest's numba binding."""

from __future__ import annotations

from collections.abc import Callable

from emp_gym.jit import njit


def quoting() -> Callable[..., int]:
    """The compiled policy: (backtest, times [T], tick, best [T, 2], fills [F, 4]) -> number of fills.

    Order numbers are 2 * decision + (0 bid, 1 ask), plus 2; a fill is (order - 2, side, price in ticks, ns).
    """
    from hftbacktest import BUY, FILLED, GTC, LIMIT, NEW

    @njit
    def quote(backtest, times, tick, best, fills):
        count = 0
        backtest.elapse(0)
        for decision in range(len(times)):
            if backtest.elapse(times[decision] - backtest.current_timestamp) != 0:
                break
            depth = backtest.depth(0)
            bid, ask = depth.best_bid_tick, depth.best_ask_tick
            best[decision, 0], best[decision, 1] = bid, ask
            bid_stands = ask_stands = False
            old_bid = old_ask = -1
            orders = backtest.orders(0).values()
            while orders.has_next():
                order = orders.get()
                if order.status == FILLED:
                    fills[count, 0], fills[count, 1] = order.order_id - 2, order.side
                    fills[count, 2], fills[count, 3] = order.exec_price_tick, order.exch_timestamp
                    count += 1
                elif order.status == NEW and order.side == BUY:
                    bid_stands = order.price_tick == bid
                    old_bid = -1 if bid_stands else order.order_id
                elif order.status == NEW:
                    ask_stands = order.price_tick == ask
                    old_ask = -1 if ask_stands else order.order_id
            backtest.clear_inactive_orders(0)
            if old_bid >= 0:
                backtest.cancel(0, old_bid, False)
            if old_ask >= 0:
                backtest.cancel(0, old_ask, False)
            if not bid_stands:
                backtest.submit_buy_order(0, 2 * decision + 2, bid * tick, 1.0, GTC, LIMIT, False)
            if not ask_stands:
                backtest.submit_sell_order(0, 2 * decision + 3, ask * tick, 1.0, GTC, LIMIT, False)
        return count

    return quote
