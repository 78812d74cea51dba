"""Reports: every figure once, the same in text, page and JSON; a losing agent is said to lose in the first sentence."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from judged import KWARGS, Judged, judge, judged, left

from emp_gym.cli import evaluate
from emp_gym.evaluation.intervals import Estimate
from emp_gym.reports import report, report_data
from emp_gym.reports.blocks import Heading, Picture, Table, Text, markdown, markdown_table
from emp_gym.reports.formatting import interval, number, p_value
from emp_gym.reports.html_page import html
from emp_gym.reports.preface import Preface
from emp_gym.reports.verdict import verdict
from emp_gym.risk.gates import Gate
from emp_gym.runs import backtest
from emp_gym.runs.backtest import AgentResult, Comparison
from emp_gym.runs.config import EvaluationConfig, RunConfig
from emp_gym.runs.evaluation_setup import EvaluationSetup
from emp_gym.runs.held_out import Proof, Standing
from emp_gym.runs.spans import Played, Span
from emp_gym.training.episode_statistics import RiskMeter
from emp_gym.types import RequestType, RunLog, Verdicts

IDS = ("emp-lob-v0", "emp-lob-market-making-v0", "emp-lob-execution-v0")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return left(judged(seeds=3), tmp_path_factory.mktemp("report"))


def table_after(text: str, heading: str) -> list[list[str]]:
    """Cells of the first table below a heading."""
    lines = text.split(f"## {heading}\n", 1)[1].splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("|"))
    body = [line for line in lines[start:] if line.startswith("|")][: next(
        (i for i, line in enumerate(lines[start:]) if not line.startswith("|")), None)]  # fmt: skip
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in body]


def test_figures_of_text_and_json_agree(folder: Path) -> None:
    text, told = (folder / "report.md").read_text(), json.loads((folder / "evaluation.json").read_text())
    found = told["findings"]

    def shown(estimate: dict[str, Any]) -> str:
        return interval(Estimate(**estimate))

    terms = table_after(text, "Where the P&L came from")
    for name, *cells in terms[2:]:
        own = found["attribution"][name]
        assert cells == [shown(own[term]) for term in ("spread", "impact", "adverse", "drift", "fees", "pnl")]
    pairs = table_after(text, "Against each baseline")
    assert [row[0] for row in pairs[2:]] == list(found["pairs"])
    for name, difference, *_ in pairs[2:]:
        assert difference == shown(found["pairs"][name]["difference"]) == shown(told["results"][name]["ahead"])
    regimes = table_after(text, "By market regime")
    assert [row[-1] for row in regimes[2:]] == [shown(one["pnl"]) for one in found["regimes"]]
    assert shown(told["results"]["random"]["pnl"]) in text.split("\n|")[0], "the first sentence has the P&L"
    assert told["verdict"] in text.replace("**", "")


def test_what_is_shown_twice_has_one_interval(folder: Path) -> None:
    told = json.loads((folder / "evaluation.json").read_text())
    pnl = told["results"]["random"]["pnl"]
    assert told["findings"]["attribution"]["random"]["pnl"] == pytest.approx(pnl)
    assert told["findings"]["measures"]["random"]["pnl_currency_per_episode"]["estimate"] == pnl


@pytest.mark.parametrize("env_id", IDS)
def test_terms_and_regimes_add_up_to_the_pnl(env_id: str) -> None:
    one = judged(env_id, seeds=2)
    found = report_data.find(one.comparison, one.runs, one.baselines, one.config.evaluation)
    for row in one.comparison.rows:
        terms = found.attribution[row.name]
        assert sum(terms[t].mean for t in ("spread", "impact", "adverse", "drift", "fees")) == pytest.approx(row.pnl.mean)
        assert terms["pnl"].mean == pytest.approx(row.pnl.mean)
    pnl = one.comparison.agent.pnl.mean
    assert sum(part.pnl.mean for part in found.regimes) == pytest.approx(pnl)
    assert sum(part.share for part in found.regimes) == pytest.approx(1)
    assert sum(part.pnl.mean * part.share for part in found.ticks) == pytest.approx(pnl)
    assert sum(part.share for part in found.ticks) == pytest.approx(1)


def test_a_measure_over_seeds_that_are_alike_is_that_of_one() -> None:
    one = judged()
    rng = np.random.default_rng
    single = report_data.measured(one.runs, rng(0), one.comparison.agent.pnl, resamples=50)
    double = report_data.measured([*one.runs, *one.runs], rng(0), one.comparison.agent.pnl, resamples=50)
    assert list(single) == list(double)
    for name, figure in single.items():
        assert double[name].estimate.mean == pytest.approx(figure.estimate.mean, nan_ok=True), name


def test_p_values_are_adjusted_as_scipy_does() -> None:
    from scipy.stats import false_discovery_control

    values = {"a": 0.03, "b": 0.001, "c": 0.6, "d": 0.031, "e": float("nan")}
    adjusted = report_data.benjamini_hochberg(values)
    expected = false_discovery_control([0.03, 0.001, 0.6, 0.031])
    assert [adjusted[name] for name in "abcd"] == pytest.approx(list(expected))
    assert np.isnan(adjusted["e"])


# ---- in words


def comparison(pnl: Any, rivals: dict[str, Any], env: str = "emp-lob-v0") -> Comparison:
    """An agent "me" beside rivals; each is (mean, low, high) of its P&L, and of the agent's lead for rivals."""

    def estimate(value: Any) -> Estimate:
        return Estimate(*value, blocks=8) if len(value) == 3 else Estimate(*value, note="too few for an interval")

    def row(name: str, own: Any, ahead: Any = None) -> AgentResult:
        episodes = {"pnl": np.full((1, 2), own[0])}
        return AgentResult(name, episodes, estimate(own), estimate(own), {}, None if ahead is None else estimate(ahead))

    rows = [row("me", pnl), *(row(name, *value) for name, value in rivals.items())]
    return Comparison(env, rows, [(0, 0), (1, 0)], ["2030-01-01", "2030-01-02"], 0.95, proof=Proof(Standing.HELD_OUT, "test"))


HOLD = {"hold": ((0.0, 0.0, 0.0), (-5.0, -9.0, -1.0))}


def test_a_losing_agent_is_said_to_lose_in_the_first_sentence() -> None:
    first = verdict(comparison((-5.0, -9.0, -1.0), HOLD)).split(". ")[0]
    assert first.startswith("me loses money: −5.00 [−9.00, −1.00] per held-out episode")
    assert "it loses to its best baseline, hold, by 5.00 [1.00, 9.00]" in first


def test_a_loss_that_may_be_luck_is_a_loss_and_may_be_luck() -> None:
    said = verdict(comparison((-5.0, -9.0, 1.0), {"hold": ((0.0, 0.0, 0.0), (-5.0, -9.0, 1.0))}))
    assert said.startswith("me lost money here") and said.count("(the interval includes 0)") == 2


@pytest.mark.parametrize(("lead", "sure"), [((680.0, 500.0, 900.0), True), ((850.0, -30.0, 1700.0), False)])
def test_a_profit_is_skill_only_when_it_is_ahead_of_both_who_only_hold(lead: Any, sure: bool) -> None:
    rivals = {"short": ((40.0, 10.0, 60.0), (640.0, 200.0, 900.0)), "long": ((-100.0, -500.0, 200.0), lead)}
    played = [Played(Span("i", "c", "AAA", "2030-01-01", 0, 9, "test"), "USD", False, 1.0, 1.0)] * 2
    said = verdict(replace(comparison((680.0, 100.0, 1300.0), rivals), played=played))
    assert ("it is ahead of both by more than the interval" in said) is sure, said
    assert ("not told apart: it is ahead of being long" in said) is not sure, said


def test_who_makes_money_but_less_than_a_baseline_is_said_to_lose_to_it() -> None:
    said = verdict(comparison((5.0, 1.0, 9.0), {"twap": ((7.0, 3.0, 11.0), (-2.0, -3.0, -1.0)), **HOLD}))
    assert said.startswith("me makes money") and "it loses to its best baseline, twap, by 2.00" in said


def test_a_profit_that_may_be_luck_is_none() -> None:
    said = verdict(comparison((5.0, -1.0, 9.0), {"hold": ((0.0, 0.0, 0.0), (5.0, -1.0, 9.0))}))
    assert said.startswith("me cannot be said to make money: 5.00 [−1.00, 9.00]") and said.count("(the interval includes 0)") == 2
    assert "it cannot be said to be ahead of its best baseline, hold, by 5.00" in said and "makes money" not in said


def test_who_is_ahead_of_everybody_is_said_to_be() -> None:
    said = verdict(comparison((5.0, 1.0, 9.0), {"hold": ((0.0, 0.0, 0.0), (5.0, 1.0, 9.0))}))
    assert "loses" not in said and "ahead of its best baseline, hold, by 5.00 [1.00, 9.00]" in said


def test_the_oracle_is_no_baseline_to_be_measured_by() -> None:
    said = verdict(comparison((5.0, 1.0, 9.0), {"oracle": ((9.0, 8.0, 10.0), (-4.0, -5.0, -3.0)), **HOLD}))
    assert "best baseline, hold" in said


def test_a_parent_order_is_judged_by_its_rank() -> None:
    rivals = {"twap": ((-9.0, -12.0, -6.0), (4.0, 1.0, 7.0))}
    said = verdict(comparison((-5.0, -9.0, -1.0), rivals, "emp-lob-execution-v0"))
    assert said.startswith("me is ahead of its best baseline, twap, by 4.00") and "loses" not in said


def test_without_baselines_and_intervals_the_sentence_still_says_whether_money_was_lost() -> None:
    assert verdict(comparison((-5.0,), {})).startswith("me lost money here: −5.00 (too few for an interval)")


def test_a_profit_without_an_interval_is_none_and_the_hint_says_what_would_give_one() -> None:
    one = replace(comparison((68.0,), {"symmetric": ((55.0,), (13.0,))}), preface=Preface("AMZN", "AMZN", "no fees", hint="ask for more"))
    said = verdict(one)
    assert said.startswith("me cannot be said to make money: 68.00 (too few for an interval) per held-out episode (ask for more)")
    assert "cannot be said to be ahead of its best baseline, symmetric, by 13.00" in said and "makes money" not in said


def test_an_interval_of_fewer_than_eight_blocks_proves_nothing() -> None:
    one = comparison((5.0, 1.0, 9.0), HOLD)
    one.rows[0].pnl = replace(one.agent.pnl, blocks=7)
    assert verdict(one).startswith("me cannot be said to make money")


def test_a_profit_within_one_day_is_said_to_be_that() -> None:
    one = comparison((5.0, 1.0, 9.0), {"hold": ((0.0, 0.0, 0.0), (5.0, 1.0, 9.0))})
    one.rows[0].pnl = replace(one.agent.pnl, block="window", blocks=12)
    span = Span("i", "c", "AMZN", "2030-01-01", 0, 9, "test")
    said = verdict(replace(one, days=["2030-01-01"] * 2, played=[Played(span, "USD", False, 0.0, 0.0)] * 2))
    assert said.startswith("me makes money on 2030-01-01: 5.00 [1.00, 9.00]") and "a within-day interval over 12 windows" in said


def test_windows_of_one_date_are_one_block_whatever_their_symbol() -> None:
    """Eight symbols of one date are no eight days; eight dates are."""
    made = np.random.default_rng(0).normal(size=16)

    def judged_on(dates: list[str]) -> Comparison:
        played = [Played(Span("i", f"c{n}", f"S{n % 8}", date, 0, 9, "test"), "USD", False, 0.1, 1.0) for n, date in enumerate(dates)]
        log = RunLog({"env": "emp-lob-v0", "windows": [[n, 0] for n in range(16)]}, {"pnl": made, "return": made})
        return backtest.compare("me", [log], {}, dates, EvaluationConfig(resamples=50), played=played)

    one = judged_on(["2030-01-01"] * 16)
    assert (one.agent.pnl.block, one.agent.pnl.blocks) == ("window", 16)
    assert report.summary_line(one) == "16 windows of the test split: 8 symbols on 1 date"
    two = judged_on(["2030-01-01"] * 8 + ["2030-01-02"] * 8)
    assert two.agent.pnl.low is None and two.agent.pnl.note == "2 dates: too few for an interval"
    eight = judged_on([f"2030-01-0{n // 2 + 1}" for n in range(16)])
    assert (eight.agent.pnl.block, eight.agent.pnl.blocks) == ("date", 8) and eight.agent.pnl.low is not None
    assert [(row.symbol, row.windows, row.dates) for row in eight.by_symbol] == [(f"S{n}", 2, 2) for n in range(8)]
    assert [row.pnl.mean for row in eight.by_symbol] == pytest.approx([(made[n] + made[n + 8]) / 2 for n in range(8)])


def test_orders_that_limits_cut_are_shown_and_counted_by_hand(tmp_path: Path) -> None:
    """A gate that lets half of a clip through changes each order of the one who buys to the limit."""
    env = {**KWARGS, "gates": [{"gate": "cap-quantity", "largest": 50}]}
    config = RunConfig("emp-lob-v0", "long", env=env, evaluation=EvaluationConfig(episodes=2, baselines=("hold",)))
    made = backtest.make_env(config.env_id, config.env, 1, split="test")
    agent = backtest.build("long", made)
    made.close()
    found, (log,), _ = backtest.judge(EvaluationSetup(config, [agent]), record=True)
    touched = np.bincount(log.verdicts["episode"][log.verdicts["reason"] != 0], minlength=2)
    assert found.agent.episodes["cut"][0].tolist() == touched.tolist() and touched.all()
    titles, rows = report.told_columns(report.TRADE, [report.trade_cells(row) for row in found.rows])
    assert "cut" in titles and rows[0][titles.index("cut")] == number(float(touched.mean()), 1)
    assert "cut" not in report.told_columns(report.TRADE, [report.trade_cells(row) for row in judged().comparison.rows])[0]


class Small(Gate):
    """Cuts every new order to `most` lots, and says what for."""

    reason_names = ("too-large", "never")

    def __init__(self, most: int = 50) -> None:
        self.most = most

    def __call__(self, view, orders):
        sent, reason = orders.copy(), np.zeros(orders.kind.shape, np.uint64)
        large = (orders.kind != RequestType.NONE) & (orders.kind != RequestType.CANCEL) & (orders.quantity > self.most)
        sent.quantity[large], reason[large] = self.most, 1 << 32
        return sent, Verdicts(reason, orders.quantity.copy(), sent.quantity.copy())


def test_reasons_of_a_gate_of_ones_own_stand_in_report_run_log_and_tensorboard_by_their_names(tmp_path: Path) -> None:
    gate = {"gate": f"{__name__}:Small", "most": 30}
    one = judge("emp-lob-v0", "random", seeds=2, episodes=2, env={"gates": [gate]})
    touched = [np.count_nonzero(log.verdicts["reason"]) for log in one.runs]
    assert [log.config["objections"] for log in one.runs] == [{"too-large": count} for count in touched] and all(touched)
    assert one.runs[0].config["gates"] == [{"name": gate["gate"], "reasons": [*("",) * 32, "too-large", "never"]}]
    told = f"Objections of gates to orders of random, in all of its episodes: `too-large` {sum(touched):,}."
    assert told in (left(one, tmp_path) / "report.md").read_text()
    env = backtest.make_env("emp-lob-v0", {"gates": [gate]}, 2)
    meter = RiskMeter()
    meter.watch(backtest.gates_of(env))
    env.reset(seed=0)
    env.step([7, 7])
    assert meter.drain() == {"risk/too-large": 2.0, "risk/latched": 0.0} and meter.drain()["risk/too-large"] == 0.0


def test_of_one_window_the_report_speaks_only_of_what_is_there(tmp_path: Path) -> None:
    one = left(judge("emp-lob-v0", "random", seeds=2, episodes=1), tmp_path / "one")
    text = (one / "report.md").read_text()
    assert "The one episode, first seed" in text and "median P&L" not in text
    assert "There are no intervals: 1 window, and below 8 none is given." in text and "bootstraps over" not in text
    assert "Wilcoxon" not in text and "probability of improvement" not in text and "p adjusted" not in text
    assert "of every episode (dots, means over 2 seeds), mean (disc)]" in text
    many = (left(judged(), tmp_path / "many") / "report.md").read_text()
    assert "The episode of median P&L" in many and "over 8 dates" in many and "(dots), mean (disc) and interval (bar)]" in many


def test_every_column_that_is_explained_is_there(folder: Path, tmp_path: Path) -> None:
    for text in ((folder / "report.md").read_text(), (left(judged(), tmp_path / "one") / "report.md").read_text()):
        tables, _, reading = text.partition("## How to read this")
        for column in re.findall(r"`([a-z ]+)`(?=:|, )", reading.partition("## ")[0]):
            assert re.search(rf"\| {column} (\||\()", tables) or column in ("return",), column


def test_numbers_are_written_with_a_true_minus_and_without_negative_zero() -> None:
    assert (number(-1234.5), number(-0.001), interval(Estimate(1.0, -1.0, 3.0))) == ("−1,234.50", "0.00", "1.00 [−1.00, 3.00]")
    assert (p_value(0.0001, 8), p_value(0.5, 5), p_value(0.031, 8), p_value(float("nan"), 8)) == ("< 0.001", "–", "0.031", "–")


# ---- text and page


def test_tables_have_as_many_cells_in_every_row_whatever_stands_in_them() -> None:
    lines = markdown_table(("a", "b"), [("x|y", "1"), ("z", "2")]).splitlines()
    assert {len(re.split(r"(?<!\\)\|", line)) for line in lines} == {4}


def test_results_are_the_same_lines_again(folder: Path, tmp_path: Path) -> None:
    def results(path: Path) -> list[str]:
        return [line for line in (path / "report.md").read_text().splitlines() if line.startswith("|")]

    again = left(judged(seeds=3), tmp_path)
    assert results(folder) == results(again) and len(results(folder)) > 40


class Needs(HTMLParser):
    """Everything that a page would load from elsewhere, and its pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.outside: list[str] = []
        self.pictures = 0

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag in ("script", "link", "iframe", "object", "embed"):
            self.outside.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "srcset", "poster", "data", "action"):
                inside = tag == "img" and (value or "").startswith("data:image/png;base64,")
                self.pictures += inside
                self.outside += [] if inside else [f"{tag} {name}={value:.40}"]


def test_the_page_needs_nothing_else(folder: Path) -> None:
    page = (folder / "report.html").read_text()
    needs = Needs()
    needs.feed(page)
    assert needs.outside == [] and needs.pictures == len(list(folder.glob("*.png"))) == 4
    assert "@import" not in page and "url(" not in page and 'name="viewport"' in page


def test_a_page_with_something_from_elsewhere_would_be_found() -> None:
    needs = Needs()
    needs.feed('<img src="http://x/y.png"><script src="z.js"></script><a href="file:///etc">')
    assert len(needs.outside) == 4


def test_the_page_shows_the_figures_of_the_text(folder: Path) -> None:
    page = re.sub(r"<[^>]+>", "", (folder / "report.html").read_text())
    for line in (folder / "report.md").read_text().splitlines():
        if line.startswith(("| random", "| calm")):
            for cell in line.strip("| ").split(" | "):
                assert cell in page


def test_on_a_narrow_page_an_interval_goes_below_its_mean_and_is_not_broken(folder: Path) -> None:
    page = (folder / "report.html").read_text()
    style, body = page.split("</style>")
    assert ".n{white-space:nowrap}" in style and style.count("nowrap") == 1, "nothing else forbids a cell to be narrow"
    intervals = re.findall(r"\[−?[\d,.]+, −?[\d,.]+\]", re.sub(r"<[^>]+>", "", body))
    whole = re.findall(r'<span class="n">(\[[^<]*\])</span>', body)
    assert intervals == whole and len(whole) > 40
    assert html([Text("p < 0.001, `it's [1, 2]`")], folder, "").count('<span class="n">') == 2


def test_text_is_shown_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "p.png").write_bytes(b"x")
    blocks = [Heading("<b>&"), Text("**bold** `a<b`"), Table(("x", "y"), (("<i>", "1"),)), Picture('"t"', "p.png")]
    page = html(blocks, tmp_path, "<title>")
    assert "<b>&" not in page and "<strong>bold</strong> <code>a&lt;b</code>" in page and "<i>" not in page
    assert markdown(blocks).startswith("# <b>&") or markdown(blocks).startswith("## <b>&")


# ---- where there is no book


def test_a_certificate_is_reported_by_its_score(tmp_path: Path) -> None:
    arguments = ["--env", "emp-cartea-jaimungal-v0", "--agent", "hold", "--episodes", "16", "--report", str(tmp_path)]
    assert evaluate.main(arguments) == 0
    text, told = (tmp_path / "report.md").read_text(), json.loads((tmp_path / "evaluation.json").read_text())
    score = told["findings"]["optimum"]["score"]["mean"]
    assert score < 0 and f"loses to the best naive policy: a score of {number(score, 3)}" in text.split("\n\n")[1]
    assert "regime" not in text and "fill rate" not in text and "Against the known optimum" in text
    assert told["findings"]["attribution"] == {} and not (tmp_path / "equity.png").exists()


def test_the_page_alone_and_json_go_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "page.html"
    words = ["--env", "emp-cartea-jaimungal-v0", "--agent", "hold", "--episodes", "8", "--html", str(file), "--json"]
    assert evaluate.main(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["agent"] == "hold" and file.read_text().startswith("<!doctype html>")
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_a_page_without_a_folder_is_refused_before_anything_is_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--env", "emp-lob-v0", "--agent", "hold", "--html", str(tmp_path / "none" / "page.html")]
    assert evaluate.main(words) == 2 and "there is no folder" in capsys.readouterr().err


def test_the_verdict_of_every_task_is_of_its_own_numbers() -> None:
    for env_id in IDS:
        one: Judged = judged(env_id)
        said = verdict(one.comparison)
        assert interval(one.comparison.agent.pnl) in said
        worse = replace(one.comparison, rows=[one.comparison.agent])
        assert "no baseline" in verdict(worse)


def test_terminal_tables_fit_a_narrow_and_a_wide_terminal() -> None:
    from rich.console import Console

    for width in (80, 160):
        console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
        console.print(report.terminal_table(judged().comparison, width))
        lines = console.export_text().splitlines()
        assert max(map(len, lines)) <= width and sum("random" in line for line in lines) >= 1
