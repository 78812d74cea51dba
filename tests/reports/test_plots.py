"""Pictures are drawn, not blank, at two widths, for few and many fills, one and many seeds; their numbers are those of the logs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from judged import judged

from emp_gym.evaluation import reliability, runlog
from emp_gym.evaluation.intervals import Estimate
from emp_gym.reports import episode_plot, plot_style, plots, report_data
from emp_gym.types import CASH_UNITS

IDS = ("emp-lob-v0", "emp-lob-market-making-v0", "emp-lob-execution-v0")
WIDTHS = (5.0, 9.0)


def shows_something(path: Path, width: float) -> bool:
    """Whether a PNG of this width has ink, and white at its rim (nothing is cut off)."""
    from matplotlib.image import imread

    image = imread(path)[..., :3]
    assert image.shape[1] == pytest.approx(width * 130, abs=2)
    rim = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    return bool((image.mean(axis=2) < 0.9).mean() > 0.005 and (rim > 0.99).all())


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("env_id", IDS)
def test_every_picture_of_a_report_is_drawn(env_id: str, width: float, tmp_path: Path) -> None:
    one = judged(env_id, seeds=3 if width == WIDTHS[0] else 1)
    found = report_data.find(one.comparison, one.runs, one.baselines, one.config.evaluation)
    plots.comparison_chart(one.comparison, tmp_path / "comparison.png", width)
    plots.equity_curve(one.comparison, one.runs, one.baselines, "title", tmp_path / "equity.png", width)
    plots.attribution_bars(found.attribution, "title", tmp_path / "terms.png", width)
    episode_plot.draw(one.runs[0], episode_plot.median_window(one.comparison), "title", tmp_path / "episode.png", width)
    drawn = sorted(tmp_path.glob("*.png"))
    assert len(drawn) == 4 and all(shows_something(path, width) for path in drawn)


def test_a_blank_picture_would_be_found(tmp_path: Path) -> None:
    with plot_style.figure(tmp_path / "blank.png", figsize=(5.0, 3.0)) as (_, axis):
        axis.set_axis_off()
    assert not shows_something(tmp_path / "blank.png", 5.0)


def test_an_episode_without_fills_is_drawn(tmp_path: Path) -> None:
    one = judged(agent="random")
    episode_plot.draw(one.baselines["hold"], 0, "nothing happened", tmp_path / "hold.png")
    assert shows_something(tmp_path / "hold.png", plot_style.WIDTH)


@pytest.mark.parametrize("env_id", IDS)
def test_equity_ends_at_the_pnl(env_id: str) -> None:
    one = judged(env_id)
    log = one.runs[0]
    ends = np.flatnonzero(np.diff(log.steps["episode"], append=-1))
    assert np.array_equal(episode_plot.marked2(log)[ends], runlog.pnl2(log))
    times, equity = plots.whole_equity(log, plots.minutes(log))
    assert equity[-1] == pytest.approx(log.episodes["pnl"].sum()) and (np.diff(times) >= 0).all()
    assert equity[ends] == pytest.approx(np.cumsum(runlog.pnl2(log)) / (2 * CASH_UNITS))


def test_the_drawdown_is_from_the_highest_so_far_the_start_included() -> None:
    assert plots.drawdown(np.array([-1.0, 2.0, 1.0, 3.0, -1.0])).tolist() == [-1.0, 0.0, -1.0, 0.0, -4.0]


@pytest.mark.parametrize("seeds", [1, 2, 3, 5, 8])
def test_the_band_is_around_the_interquartile_mean(seeds: int) -> None:
    table = np.random.default_rng(seeds).normal(size=(seeds, 7))
    middle, low, high = plots.iqm_band(table)
    assert middle == pytest.approx([reliability.iqm(column) for column in table.T])
    assert (low <= middle + 1e-12).all() and (middle <= high + 1e-12).all()


@pytest.mark.parametrize("seeds", [1, 2, 5])
@pytest.mark.parametrize("width", WIDTHS)
def test_learning_curves_are_drawn_for_one_and_many_seeds(seeds: int, width: float, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    steps = np.arange(1, 101) * 1e4
    curves = []
    for _ in range(seeds):
        returns = np.cumsum(rng.normal(0.1, 1, 100))
        returns[:3] = np.nan  # no episode was over yet
        curves.append({"steps": steps, "rollout/ep_rew_mean": returns, "market/pnl": 2 * returns, "market/inventory": returns})
    path = tmp_path / "learning.png"
    assert plots.learning_curve(curves, "learning", path, width) and shows_something(path, width)


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_of_one_iteration_there_are_points_and_the_title_says_so(seeds: int, tmp_path: Path, drawn: list[Any]) -> None:
    curves = [{"steps": np.array([32768.0]), "rollout/ep_rew_mean": np.array([i - 30.0]), "market/inventory": np.array([9.0 + i])}
              for i in range(seeds)]  # fmt: skip
    assert plots.learning_curve(curves, "learning", tmp_path / "one.png") and shows_something(tmp_path / "one.png", plot_style.WIDTH)
    (figure,) = drawn
    assert "one iteration" in figure.get_suptitle()
    for axis in figure.axes:
        seen = {float(y) for line in axis.lines if line.get_marker() == "o" for y in line.get_ydata()}
        expected = [curve["rollout/ep_rew_mean" if "Return" in axis.get_title("left") else "market/inventory"][0] for curve in curves]
        assert seen >= set(expected), "every seed is to be seen"


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Figures that were drawn."""
    import matplotlib.pyplot as plt

    kept: list[Any] = []
    monkeypatch.setattr(plt, "close", kept.append)
    return kept


SCALES = [(low, high) for size in (1e-4, 0.013, 1.0, 7.3, 240.0, 1.2e6) for low, high in ((-size, 0.3 * size), (100.0, 100.0 + size))]


@pytest.mark.parametrize(("low", "high"), SCALES)
def test_every_tick_is_labelled_with_its_value(low: float, high: float, tmp_path: Path, drawn: list[Any]) -> None:
    with plot_style.figure(tmp_path / "ticks.png", ncols=2, figsize=(9.0, 3.0)) as (_, axes):
        for axis, bins in zip(axes, (4, 9)):
            axis.plot([low, high], [low, high])
            axis.locator_params(nbins=bins)
            plot_style.money_axis(axis)
            plot_style.money_axis(axis, "x", least=2)
    for axis in axes:
        for one in (axis.xaxis, axis.yaxis):
            told = [float(label.get_text().replace(",", "").replace("−", "-")) for label in one.get_ticklabels()]
            step = np.diff(one.get_ticklocs()).min()
            assert len(told) > 1 and told == pytest.approx(list(one.get_ticklocs()), abs=1e-3 * step)
        assert all("." in label.get_text() for label in axis.xaxis.get_ticklabels())


def test_days_of_several_symbols_are_divided_and_named(tmp_path: Path, drawn: list[Any]) -> None:
    one = judged()
    days = [("AAA", "2012-06-21"), ("BBB", "2012-06-21"), ("BBB", "2012-06-22")]
    count = len(one.comparison.windows)
    which = [days[i * len(days) // count] for i in range(count)]
    played = [replace(p, span=replace(p.span, symbol=s, date=d)) for p, (s, d) in zip(one.comparison.played, which)]
    comparison = replace(one.comparison, days=[date for _, date in which], played=played)
    plots.equity_curve(comparison, one.runs, one.baselines, "title", tmp_path / "equity.png")
    (figure,) = drawn
    top, bottom = figure.axes
    assert [text.get_text() for text in top.texts] == ["AAA 2012-06-21", "BBB 2012-06-21", "BBB 2012-06-22"]
    dividers = [line for line in top.lines if len(set(line.get_xdata())) == 1]
    assert len(dividers) == 2 and f"{count} episodes, 2 symbols, one after the other, on 2 dates" in bottom.get_xlabel()
    few = replace(comparison, days=["2012-06-21"] * count)
    assert "2 symbols, one after the other, on 2012-06-21)" in plots._time_label(few)


def test_what_did_not_learn_has_no_learning_curve(tmp_path: Path) -> None:
    assert not plots.learning_curve([], "none", tmp_path / "none.png") and not list(tmp_path.iterdir())


def test_a_picture_that_fails_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), plot_style.figure(tmp_path / "half.png"):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_the_fidelity_chart_is_drawn_with_and_without_intervals(tmp_path: Path) -> None:
    rows = [("honest", Estimate(-3.0, -5.0, -1.0), Estimate(0.0, 0.0, 0.0)), ("optimistic", Estimate(2.0), Estimate(5.0))]
    for width in WIDTHS:
        plots.gap_chart(rows, "what it assumes", tmp_path / "gap.png", width)
        assert shows_something(tmp_path / "gap.png", width)
