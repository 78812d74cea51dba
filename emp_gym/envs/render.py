"""What a person sees: the ladder with own orders as text, the episode so far as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from emp_gym.evaluation.observers import Began, Observer, Settled
from emp_gym.extras import need
from emp_gym.types import CASH_UNITS, NS, Instrument, TradingStatus

if TYPE_CHECKING:
    from emp_gym.envs.trading_core import Lanes

INK, BID, ASK, OWN, GRID = "#20242c", "#2a7f9e", "#c4523e", "#e0a526", "#d9dde3"


@dataclass
class Trail(Observer):
    """What lane 0 did in this episode, decision by decision."""

    instruments: Sequence[Instrument]  # of the market, one for each row of its rules
    time_s: list[float] = field(default_factory=list)
    bid: list[float] = field(default_factory=list)
    ask: list[float] = field(default_factory=list)
    position: list[int] = field(default_factory=list)
    equity: list[float] = field(default_factory=list)
    fills: list[tuple[float, float, int, bool]] = field(default_factory=list)  # time, price, side, maker

    copied = True

    def began(self, now: Began) -> None:
        for own in (self.time_s, self.bid, self.ask, self.position, self.equity, self.fills):
            own.clear()
        self._stand(now)

    def settled(self, now: Settled) -> None:
        unit = self._stand(now)
        own = now.fills
        for time_ns, price, side, maker in zip(own.time_ns, own.price, own.side, own.maker, strict=True):
            self.fills.append((int(time_ns) / NS, int(price) * unit, int(side), bool(maker)))

    def _stand(self, now: Began | Settled) -> float:
        """Notes where lane 0 stands now; its price unit."""
        view, unit = now.view, self.instruments[int(now.public.quote["rules"][0, 0])].price_unit
        self.time_s.append(int(view.time_ns[0]) / NS)
        for series, price, size in (
            (self.bid, view.bid_price, view.bid_size),
            (self.ask, view.ask_price, view.ask_size),
        ):
            series.append(int(price[0, 0, 0]) * unit if size[0, 0, 0] > 0 else float("nan"))
        self.position.append(int(view.position[0, 0]))
        self.equity.append(int(view.equity2[0]) / (2 * CASH_UNITS))
        return unit


def show(lanes: Lanes, lane: int, mode: str | None, trail: Trail | None = None) -> Any:
    """Text for "ansi", an RGB picture u1 [H, W, 3] for "rgb_array", None without a mode."""
    if mode == "ansi":
        return ladder(lanes, lane)
    if mode == "rgb_array":
        return picture(lanes, lane, trail)
    return None


def instrument_of(lanes: Lanes, lane: int) -> Instrument:
    """What a lane trades."""
    return lanes.market.instruments[int(lanes.market.public.quote["rules"][lane, 0])]


def named(lanes: Lanes, lane: int) -> str:
    """Symbol, date where the market has days, and time of a lane."""
    days, public = lanes.market.data, lanes.market.public
    where = instrument_of(lanes, lane).symbol if days is None else str(days.info[int(public.lane["day"][lane])])
    return f"{where} {clock(lanes.market.view.time_ns[lane])}"


def clock(time_ns: int) -> str:
    """Local time of day, to the millisecond."""
    seconds, rest = divmod(int(time_ns), NS)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{rest // 1_000_000:03d}"


def own_orders(lanes: Lanes, lane: int) -> dict[tuple[int, int], str]:
    """(side, price) -> what of ours stands there: lots and the volume ahead, '~' while in flight."""
    view = lanes.market.view
    said: dict[tuple[int, int], str] = {}
    for k in np.flatnonzero(view.order_id[lane]):
        key = (int(view.order_side[lane, k]), int(view.order_price[lane, k]))
        ahead = int(view.order_ahead[lane, k])
        place = "in flight" if not view.order_live[lane, k] else f"{'?' if ahead < 0 else ahead} ahead"
        said[key] = f"{said[key]}; " if key in said else ""
        said[key] += f"{int(view.order_quantity[lane, k])} ({place})"
    return said


def ladder(lanes: Lanes, lane: int) -> str:
    """The visible book with own orders and their queue, best prices in the middle."""
    view, instrument = lanes.market.view, instrument_of(lanes, lane)
    unit = instrument.price_unit
    own = own_orders(lanes, lane)
    lines = [
        f"{named(lanes, lane)}  {TradingStatus(int(view.status[lane, 0])).name.lower()}"
        f"  decision {int(view.decision[lane])}/{int(lanes.episodes[lane]['length'])}",
        f"position {int(view.position[lane, 0])}  equity {int(view.equity2[lane]) / (2 * CASH_UNITS):+.2f}"
        f"  fees {int(view.fees[lane]) / CASH_UNITS:.2f} {instrument.currency}",
        f"{'own':>28} {'bid':>8} {'price':>12} {'ask':<8} own",
    ]
    sides = ((-1, view.ask_price, view.ask_size), (1, view.bid_price, view.bid_size))
    rows: list[tuple[int, int, int]] = []
    for side, prices, sizes in sides:
        shown = {int(p): int(q) for p, q in zip(prices[lane, 0], sizes[lane, 0], strict=True) if q > 0}
        shown |= {price: shown.get(price, 0) for s, price in own if s == side and price > 0}
        rows += [(price, side, size) for price, size in shown.items()]
    for price, side, size in sorted(rows, key=lambda row: (-row[0], row[1])):
        mine, volume = own.get((side, price), ""), str(size) if size else "."
        text = f"{price * unit:12.4f}"
        lines.append(
            f"{mine:>28} {volume:>8} {text}" if side > 0 else f"{'':>28} {'':>8} {text} {volume:<8} {mine}".rstrip()
        )
    return "\n".join(lines)


def picture(lanes: Lanes, lane: int, trail: Trail | None) -> np.ndarray:
    """Ladder on the left; price with own fills, position and equity of the episode on the right."""
    need("matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6), dpi=100, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    grid = figure.add_gridspec(3, 2, width_ratios=(1, 2.2), height_ratios=(2.2, 1, 1), hspace=0.14, wspace=0.3)
    _draw_ladder(figure.add_subplot(grid[:, 0]), lanes, lane)
    if trail is not None and trail.time_s:
        draw_episode([figure.add_subplot(grid[i, 1]) for i in range(3)], trail)
    figure.suptitle(named(lanes, lane), color=INK, fontsize=12, y=0.96)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _draw_ladder(axes: Any, lanes: Lanes, lane: int) -> None:
    view, unit = lanes.market.view, instrument_of(lanes, lane).price_unit
    own = own_orders(lanes, lane)
    tick = int(view.tick[lane, 0]) * unit
    for side, prices, sizes, colour in (
        (1, view.bid_price, view.bid_size, BID),
        (-1, view.ask_price, view.ask_size, ASK),
    ):
        seen = sizes[lane, 0] > 0
        axes.barh(prices[lane, 0][seen] * unit, sizes[lane, 0][seen], 0.8 * tick, color=colour, alpha=0.75)
        for (s, price), text in own.items():
            if s == side and price > 0:
                axes.axhline(price * unit, color=OWN, linewidth=1.5)
                axes.annotate(
                    text, (0.98, price * unit), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=8
                )
    axes.set_xlabel("lots"), axes.set_ylabel("price")
    axes.set_title("book, own orders with the volume ahead", fontsize=9, color=INK)
    _plain(axes)


def draw_episode(axes: list[Any], trail: Trail) -> None:
    """Price with own fills, position, equity over the clock, on three axes."""
    price, position, equity = axes
    hours = np.array(trail.time_s) / 3600
    price.step(hours, trail.bid, where="post", color=BID, linewidth=0.9, label="best bid")
    price.step(hours, trail.ask, where="post", color=ASK, linewidth=0.9, label="best ask")
    for side, marker, colour, name in ((1, "^", BID, "bought"), (-1, "v", ASK, "sold")):
        own = [(t / 3600, p) for t, p, s, _ in trail.fills if s == side]
        if own:
            price.plot(
                *zip(*own, strict=True),
                marker,
                color=colour,
                markersize=5,
                markeredgecolor=INK,
                linestyle="",
                label=name,
            )
    price.legend(loc="upper left", fontsize=8, frameon=False, ncols=4)
    price.set_ylabel("price")
    price.margins(y=0.16)
    position.step(hours, trail.position, where="post", color=INK, linewidth=1.0)
    position.fill_between(hours, trail.position, step="post", color=INK, alpha=0.12)
    position.set_ylabel("position")
    equity.plot(hours, trail.equity, color=OWN, linewidth=1.2)
    equity.set_ylabel("equity")
    equity.set_xlabel("time of day")
    for panel in axes:
        _plain(panel)
        panel.xaxis.set_major_formatter(
            lambda hour, _: f"{(at := round(hour * 3600)) // 3600:02d}:{at // 60 % 60:02d}:{at % 60:02d}"
        )
    price.tick_params(labelbottom=False), position.tick_params(labelbottom=False)


def _plain(axes: Any) -> None:
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.tick_params(labelsize=8, colors=INK)
    for edge in axes.spines.values():
        edge.set_visible(False)
