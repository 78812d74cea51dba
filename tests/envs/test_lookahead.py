"""The look-ahead check catches planted leaks, each as small as they come, and passes what is causal."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pandas as pd
import pytest
from gymnasium import spaces

import emp_gym  # noqa: F401  registers the ids
from emp_gym.data.lobster import reader
from emp_gym.data.lobster.rewrites import LobsterDay
from emp_gym.data.rewrites import ArraySource, CsvFile, source
from emp_gym.data.synthetic import day as synthetic
from emp_gym.envs import ENVIRONMENTS
from emp_gym.envs.lookahead import NoData, _maker, _walker, lookahead, lookahead_id, tape_of
from emp_gym.envs.tasks import Reward
from emp_gym.market.base import Market
from emp_gym.sensory.sets import FeatureSet
from emp_gym.types import ConfigError, Feature

PRICE, VOLUME, HIGH = 0, 1, 2
LAG = 5


class Bars(gym.Env):
    """Trades a day of bars [R, (price, volume, high)], one row a step; every part of it can be replaced by a leaky one.

    At row t it gives features of rows 0..t, and the money that the position earned from row t-1 to t.
    """

    features = (Feature("return", "1"), Feature("planted", "1"))

    def __init__(self, data, feature=None, reward=None, mask=None, ends=None, begin=None, **kept):
        self.data = np.asarray(data, float)
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float64)
        self.action_space = spaces.Discrete(2)
        self.feature = feature or (lambda data, t, _: 0.0)
        self.reward = reward or (lambda data, t, held: held * (data[t, PRICE] - data[t - 1, PRICE]))
        self.mask = mask or (lambda data, t: data[t, VOLUME] > 0)
        self.ends = ends or (lambda data, t: False)
        self.begin = begin or (lambda data, random: 30)
        self.memory = kept.get("memory", lambda data: None)(self.data)

    def _observe(self):
        last = self.data[self.row, PRICE] / self.data[self.row - 1, PRICE] - 1
        return np.array([last, self.feature(self.data, self.row, self.memory)])

    def _info(self):
        return {"action_mask": np.array([True, bool(self.mask(self.data, self.row))])}

    @property
    def known_row(self):
        return self.row

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.row = (options or {}).get("start", None) or self.begin(self.data, self.np_random)
        return self._observe(), self._info()

    def step(self, action):
        self.row += 1
        reward = float(self.reward(self.data, self.row, int(action)))
        ended = bool(self.ends(self.data, self.row))
        return self._observe(), reward, ended, self.row >= len(self.data) - 8, self._info()


@pytest.fixture(scope="module")
def day() -> np.ndarray:
    """400 bars: price, volume (never 0), high."""
    random = np.random.default_rng(7)
    price = 100 * np.exp(np.cumsum(random.normal(0, 0.01, 400)))
    return np.stack([price, random.integers(1, 500, 400), price + np.abs(random.normal(0, 0.5, 400))], axis=1)


def vwap_curve(data):
    """Share of the day's volume traded up to each row: what a VWAP schedule must not take from its own day."""
    return np.cumsum(data[:, VOLUME]) / data[:, VOLUME].sum()


def filled_back(data):
    """A price series with gaps (rows of small volume), each gap filled from the row after it."""
    gaps = pd.Series(np.where(data[:, VOLUME] < 150, np.nan, data[:, PRICE]))
    return gaps.bfill().to_numpy()


def interpolated(data):
    gaps = pd.Series(np.where(data[:, VOLUME] < 150, np.nan, data[:, PRICE]))
    return gaps.interpolate(limit_direction="both").to_numpy()


def volume_rank(data):
    """Rank of each hour of the day by its volume."""
    hours = data[: len(data) // 20 * 20, VOLUME].reshape(-1, 20).sum(axis=1)
    return np.argsort(np.argsort(hours))


LEAKS = {
    "a normaliser over the whole day": dict(
        memory=lambda d: (d[:, PRICE].mean(), d[:, PRICE].std()), feature=lambda d, t, m: (d[t, PRICE] - m[0]) / m[1]
    ),
    "a min-max scaler fitted on the whole file": dict(
        memory=lambda d: (d.min(axis=0), d.max(axis=0)),
        feature=lambda d, t, m: (d[t, VOLUME] - m[0][VOLUME]) / (m[1] - m[0])[VOLUME],
    ),
    "a label from t + 1": dict(feature=lambda d, t, _: np.sign(d[t + 1, PRICE] - d[t, PRICE])),
    "a mask from the future": dict(mask=lambda d, t: d[t + 1 : t + 6, PRICE].mean() > d[t, PRICE]),
    "a VWAP curve of the same day": dict(memory=vwap_curve, feature=lambda d, t, m: m[t]),
    "the high of the day": dict(feature=lambda d, t, _: d[:, HIGH].max() - d[t, PRICE]),
    "the high of the bar that is still open": dict(feature=lambda d, t, _: d[t + 1, HIGH] / d[t, PRICE]),
    "a centred rolling mean": dict(
        memory=lambda d: pd.Series(d[:, PRICE]).rolling(5, center=True, min_periods=1).mean().to_numpy(),
        feature=lambda d, t, m: d[t, PRICE] - m[t],
    ),
    "gaps filled from behind": dict(memory=filled_back, feature=lambda d, t, m: m[t]),
    "gaps interpolated": dict(memory=interpolated, feature=lambda d, t, m: m[t]),
    "a reward from the row after the step": dict(
        reward=lambda d, t, held: (held - 0.5) * (d[t + 1, PRICE] - d[t, PRICE])
    ),
    "a threshold from a quantile of the whole sample": dict(
        memory=lambda d: np.quantile(d[:, VOLUME], 0.83), feature=lambda d, t, m: d[t, VOLUME] / m
    ),
    "an end known from the day's close": dict(ends=lambda d, t: d[-1, PRICE] < 0.9 * d[t, PRICE] and t > 60),
    "hours sorted by their later volume": dict(memory=volume_rank, feature=lambda d, t, m: m[min(t // 20, len(m) - 1)]),
    "a start chosen from future volatility": dict(
        begin=lambda d, random: 30 + int(np.argmax([np.diff(d[s : s + 20, PRICE]).std() for s in range(30, 200)]))
    ),
    "the share of the day that has passed": dict(feature=lambda d, t, _: t / len(d)),
    "a detrended price": dict(
        memory=lambda d: np.polyfit(np.arange(len(d)), d[:, PRICE], 1),
        feature=lambda d, t, m: d[t, PRICE] - np.polyval(m, t),
    ),
    "a principal component of the whole sample": dict(
        memory=lambda d: np.linalg.svd(d - d.mean(axis=0), full_matrices=False)[2][0],
        feature=lambda d, t, m: float(d[t] @ m),
    ),
    "a filter run forwards and backwards": dict(
        memory=lambda d: pd.Series(d[:, PRICE]).ewm(span=5).mean()[::-1].ewm(span=5).mean()[::-1].to_numpy(),
        feature=lambda d, t, m: m[t],
    ),
}

CLEAN = {
    "nothing but the last return": {},
    "a z-score of what has passed": dict(
        feature=lambda d, t, _: (d[t, PRICE] - d[: t + 1, PRICE].mean()) / d[: t + 1, PRICE].std()
    ),
    "the highest price so far": dict(
        memory=lambda d: np.maximum.accumulate(d[:, PRICE]), feature=lambda d, t, m: d[t, PRICE] - m[t]
    ),
    "a label of five rows ago": dict(feature=lambda d, t, _: np.sign(d[t, PRICE] - d[t - LAG, PRICE])),
    "a trailing rolling mean, computed for the whole day at once": dict(
        memory=lambda d: pd.Series(d[:, PRICE]).rolling(5, min_periods=1).mean().to_numpy(),
        feature=lambda d, t, m: m[t],
    ),
    "gaps filled from before": dict(
        memory=lambda d: pd.Series(np.where(d[:, VOLUME] < 150, np.nan, d[:, PRICE])).ffill().fillna(0.0).to_numpy(),
        feature=lambda d, t, m: m[t],
    ),
    "an end when the price has fallen": dict(ends=lambda d, t: d[t, PRICE] < 0.8 * d[30, PRICE]),
    "a start drawn from the seed": dict(begin=lambda d, random: int(random.integers(30, 90))),
}


@pytest.mark.parametrize("name", LEAKS)
def test_a_planted_leak_is_caught(name, day):
    report = lookahead(lambda data: Bars(data, **LEAKS[name]), day)
    assert report.leaks and not report.problems, report
    shows = {"feature": "observation[1]", "reward": "reward", "mask": "info.action_mask", "ends": "terminated"}
    expected = next((shows[part] for part in shows if part in LEAKS[name]), "clock")
    assert any(leak.output.startswith(expected) for leak in report.leaks), report
    assert all(leak.row <= leak.cut for leak in report.leaks), "only what was given up to the cut counts"


@pytest.mark.parametrize("name", CLEAN)
def test_what_is_causal_passes(name, day):
    report = lookahead(lambda data: Bars(data, **CLEAN[name]), day)
    assert report.clean, report
    assert report.reached >= 0.8 * report.futures > 0 and report.compared > 100


def test_the_finding_names_output_step_feature_and_both_values(day):
    report = lookahead(lambda data: Bars(data, **LEAKS["a label from t + 1"]), day)
    first = min(report.leaks, key=lambda leak: leak.step)
    assert first.output == "observation[1] (planted)" and first.step >= 0
    assert {first.original, first.rewritten} <= {"-1.0", "0.0", "1.0"} and first.original != first.rewritten
    assert "observation[1] (planted) at step" in str(report)


def test_a_wrapper_with_a_memory_of_the_whole_day_is_caught(day):
    class Scaled(gym.ObservationWrapper):
        def observation(self, observation):
            return observation / self.unwrapped.data[:, PRICE].std()

    assert lookahead(lambda data: Bars(data), day).clean
    assert lookahead(lambda data: Scaled(Bars(data)), day).leaks


def test_a_running_normaliser_passes_and_is_compared(day):
    wrap = gym.wrappers.NormalizeObservation
    report = lookahead(lambda data: wrap(gym.wrappers.NormalizeReward(Bars(data))), day)
    assert report.clean, report


def test_a_probe_shows_what_no_observation_does(day):
    report = lookahead(
        lambda data: Bars(data, memory=lambda d: d[:, PRICE].std()), day, probe=lambda env: {"std": env.memory}
    )
    assert {leak.output for leak in report.leaks} == {"std"}


def test_data_that_is_not_used_is_not_called_clean(day):
    report = lookahead(lambda data: Bars(day), day)
    assert not report.clean and "is the data used" in report.problems[0]


def test_an_environment_that_is_not_deterministic_cannot_be_judged(day):
    report = lookahead(lambda data: Bars(data, feature=lambda d, t, m: np.random.random()), day)
    assert not report.clean and "not deterministic" in report.problems[0]


def test_an_environment_that_fails_on_another_future_is_reported(day):
    def picky(data):
        if len(data) < 400:
            raise ValueError("a day has 400 bars")
        return Bars(data)

    report = lookahead(picky, day)
    assert any("a day has 400 bars" in problem for problem in report.problems)


def test_what_may_be_known_must_be_said(day):
    class Silent(Bars):
        known_row = None

    with pytest.raises(ConfigError, match="known_row"):
        lookahead(Silent, day)
    assert lookahead(Silent, day, clock=lambda env: env.unwrapped.row).clean


def test_a_clock_that_promises_less_makes_a_lag_a_leak(day):
    """The clock is the claim: an environment that says it is one row behind must be one row behind."""
    assert lookahead(Bars, day, clock=lambda env: env.unwrapped.row - 1).leaks


def test_drawn_starts_leave_out_other_lengths_and_say_so(day):
    def make(data):
        return Bars(data, begin=lambda d, random: int(random.integers(30, len(d) // 3)))

    drawn = lookahead(make, day)
    assert drawn.clean and "deleted" in drawn.notes[0]
    pinned = lookahead(make, day, starts=[{"start": 40}])
    assert pinned.clean and not pinned.notes and pinned.futures > drawn.futures


# --- the material: other futures of the same past


@pytest.mark.parametrize("how", ArraySource.rewrites)
@pytest.mark.parametrize("kind", ["array", "structured", "frame", "series", "dict"])
def test_a_table_keeps_its_past_and_changes_its_future(how, kind, day, tmp_path):
    times = np.arange(400) * 10
    frame = pd.DataFrame({"time": times, "price": day[:, 0], "volume": day[:, 1].astype(int)})
    frame.index = pd.date_range("2030-01-07", periods=400, freq="min")
    made = {
        "array": day,
        "structured": frame.to_records(index=False).view(np.ndarray),
        "frame": frame,
        "series": frame["price"],
        "dict": {name: frame[name].to_numpy() for name in frame},
    }[kind]
    table = source(made)
    other = table.future(how, 100, np.random.default_rng(1), tmp_path)
    assert type(other) is type(made)

    def rows(data, a, b):
        if isinstance(data, dict):
            return b"".join(v[a:b].tobytes() for v in data.values())
        return (data.iloc[a:b].to_numpy() if hasattr(data, "iloc") else np.asarray(data)[a:b]).tobytes()

    assert rows(other, 0, 101) == rows(made, 0, 101)
    assert rows(other, 101, 111) != rows(made, 101, 111)
    assert (ArraySource(other).rows < 400) == (how == "deleted")
    if kind in ("structured", "frame", "dict"):
        assert np.array_equal(np.asarray(other["time"]), times[: ArraySource(other).rows])
        assert other["volume"].dtype == made["volume"].dtype
    if kind == "frame":
        assert list(other.index) == list(frame.index[: len(other)])


@pytest.mark.parametrize("how", CsvFile.rewrites)
def test_a_file_keeps_its_past_byte_for_byte(how, day, tmp_path):
    text = "date,close,volume,venue\n"
    text += "".join(f"2030-01-{1 + i // 20:02d},{p:.2f},{int(v)},X\n" for i, (p, v, _) in enumerate(day))
    path = tmp_path / "bars.csv"
    path.write_text(text)
    table = source(path)
    (tmp_path / "other").mkdir()
    other = table.future(how, 100, np.random.default_rng(1), tmp_path / "other").read_text()
    assert other.splitlines()[:102] == text.splitlines()[:102]
    assert other.splitlines()[102:] != text.splitlines()[102:]
    fields = [line.split(",") for line in other.splitlines()[1:]]
    assert [f[0] for f in fields] == [line.split(",")[0] for line in text.splitlines()[1 : 1 + len(fields)]]
    assert all(len(f) == 4 and f[3] == "X" and len(f[1].partition(".")[2]) == 2 and float(f[2]) >= 0 for f in fields)


def test_an_environment_on_a_file_is_checked_from_outside(day, tmp_path, monkeypatch):
    """A third party's module on the path, its data in a csv file."""
    module = "import pandas as pd\nfrom test_lookahead_bars import Bars, LEAKS\n"
    module += "def sound(path): return Bars(pd.read_csv(path).to_numpy())\n"
    module += "def leaky(path): return Bars(pd.read_csv(path).to_numpy(), **LEAKS['the high of the day'])\n"
    (tmp_path / "third_party_bars.py").write_text(module)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "test_lookahead_bars", sys.modules[__name__])
    pd.DataFrame(day, columns=["price", "volume", "high"]).to_csv(tmp_path / "bars.csv", index=False)
    assert lookahead_id("third_party_bars:sound", str(tmp_path / "bars.csv")).clean
    assert lookahead_id("third_party_bars:leaky", str(tmp_path / "bars.csv")).leaks
    with pytest.raises(NoData):
        lookahead_id("third_party_bars:sound")


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """A small synthetic LOBSTER day with a halt."""
    config = synthetic.DayConfig(seed=5, rows=6_000, halts=1)
    return synthetic.write_day(tmp_path_factory.mktemp("day"), config).message


@pytest.mark.parametrize("how", LobsterDay.rewrites)
def test_another_future_of_a_lobster_day_verifies(how, written, tmp_path):
    """The past byte for byte, and every later book row follows from its message."""
    day = LobsterDay.of(written)
    for seed in range(3):
        cut = day.row_of(int(day.time_ns[1_000 + 700 * seed]))
        folder = tmp_path / str(seed)
        folder.mkdir()
        message = day.future(how, cut, np.random.default_rng(seed), folder)
        for old, new in ((day.message, message), (day.orderbook, folder / day.orderbook.name)):
            before, after = old.read_bytes().splitlines(True), new.read_bytes().splitlines(True)
            assert after[: cut + 1] == before[: cut + 1] and after[cut + 1 :] != before[cut + 1 :]
            assert (len(after) == len(before)) == (how != "shortened")
        (reading,) = reader.read(message)
        assert (reading.rows_quarantined, reading.check.unexplained) == (0, 0)
        same_times = np.array_equal(reading.day.time_ns, day.time_ns[: len(reading.day.time_ns)])
        assert same_times == (how != "stretched")


def test_one_row_of_foresight_in_a_real_environment_is_caught(written):
    class Foresight(gym.RewardWrapper):
        """Pays a little for knowing the price of the next message."""

        def reward(self, reward):
            tape, now = self.unwrapped.tape_set, int(self.unwrapped.view.time_ns[0])
            row = int(np.searchsorted(tape.rows["time_ns"], now, side="right"))
            return float(reward) + 1e-9 * float(tape.messages["price"][row])

    def make(data):
        return Foresight(gym.make("emp-lob-v0", data=str(data), split="all", episode="16 decisions"))

    report = lookahead(make, LobsterDay.of(written), starts=[{"start": 500}], cuts=3, read=tape_of)
    assert {leak.output for leak in report.leaks} == {"reward"} and not report.problems


class Sizes(FeatureSet):
    """Lots of all messages so far, or, `ahead`, of one more."""

    columns = (Feature("sizes", "lots in 20 messages", 4.0, "signed_log"),)
    looks, needs, sums = (20,), ("sizes",), {"sizes": lambda day: day.messages["size"].astype(np.int64)}

    def write(self, lanes, out):
        so_far = self.world.named["sizes"][lanes, 0]
        out[:, 0] = so_far[:, 0] - so_far[:, self.ago(20)]


class SizesAhead(Sizes):
    sums = {"sizes": lambda day: np.append(day.messages["size"][1:], 0).astype(np.int64)}


@pytest.mark.parametrize("given", [Sizes, SizesAhead])
def test_a_running_sum_that_knows_the_next_message_is_caught(given, written):
    def make(data):
        return gym.make("emp-lob-v0", data=str(data), split="all", episode="16 decisions", features=["clock", given])

    report = lookahead(make, LobsterDay.of(written), starts=[{"start": 500}], cuts=3, read=tape_of)
    leaks = {leak.output.partition("[")[0] for leak in report.leaks}
    assert leaks == (set() if given is Sizes else {"observation", "view.named.sizes"}) and not report.problems


SEEN: list[np.ndarray] = []
"""Prices of the first day that this process has seen."""


def remembered(day):
    SEEN.append(day.rows["mid2"].copy())
    del SEEN[1:]
    return np.zeros(len(day.messages), np.int64)


class Remembers(FeatureSet):
    """What the price will be, as it was when the data were first seen: the same for every other future of one process."""

    columns = (Feature("then", "ticks", 10.0),)
    needs, sums = ("remembered",), {"remembered": remembered}

    def write(self, lanes, out):
        at = np.minimum(self.world.public.lane["row"][lanes] + 500, len(SEEN[0]) - 1)
        out[:, 0] = (SEEN[0][at] - self.world.view.mid2[lanes, 0]) / 200


class PeeksAhead(Reward):
    """Pays for knowing the tape: through whatever holds the market."""

    unit = "ticks"

    def __call__(self, moved):
        markets = [each for each in gc.get_objects() if isinstance(each, Market)]
        market = next(each for each in markets if np.shares_memory(each.public.lane, self.world.public.lane))
        row = min(int(self.world.public.lane["row"][0]) + 1, len(market.data.messages) - 1)
        return np.full(self.world.lanes, market.data.messages["price"][row] * 1e-6)


@pytest.mark.parametrize(("given", "leaks"), [
    ({"features": ["clock", Remembers]}, {"observation"}), ({"features": ["clock", Sizes]}, set()),
    ({"features": ["clock"], "reward": PeeksAhead}, {"reward", "info"}),
])  # fmt: skip
def test_what_is_kept_of_data_seen_before_is_found_by_a_process_that_has_seen_none(given, leaks, written):
    SEEN.clear()
    keywords = {"episode": "16 decisions", **given}
    make, walk = _maker("emp-lob-v0", keywords), _walker("emp-lob-v0", keywords)
    report = lookahead(make, LobsterDay.of(written), starts=[{"start": 500}], cuts=2, read=tape_of, apart=walk)
    assert {leak.output.partition("[")[0].partition(".")[0] for leak in report.leaks} <= leaks and bool(report.leaks) == bool(leaks)
    assert not report.problems and not report.notes, report
    if given.get("features") == ["clock", Remembers]:
        SEEN.clear()
        assert lookahead(make, LobsterDay.of(written), starts=[{"start": 500}], cuts=2, read=tape_of).clean, "not to be seen in one process"


def test_what_cannot_be_sent_to_a_process_is_said(written):
    class Here(Sizes):
        """A class that no other process knows."""

    keywords = {"episode": "16 decisions", "features": ["clock", Here]}
    make, walk = _maker("emp-lob-v0", keywords), _walker("emp-lob-v0", keywords)
    report = lookahead(make, LobsterDay.of(written), starts=[{"start": 500}], cuts=1, read=tape_of, apart=walk)
    assert report.clean and "what is kept of data seen before, outside of the environment, was not looked for" in report.notes[0]


@pytest.mark.parametrize("name", sorted(ENVIRONMENTS))
def test_the_registered_environment_does_not_look_ahead(name):
    report = lookahead_id(name)
    assert report.clean, report
    assert report.futures >= 30 and report.reached >= 0.7 * report.futures
    seen = " ".join(report.outputs)
    for output in ("observation", "reward", "truncated", "info.cost", "info.summary.pnl", "view.order_ahead"):
        assert output in seen


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [{"every": "1 s"}, {"latency_ns": [200_000, 100_000]}, {"fills": "touch"}, {"hidden_prints": "fill"}])
def test_other_settings_do_not_look_ahead(arguments):
    report = lookahead_id("emp-lob-v0", **arguments)
    assert report.clean, report


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [{}, {"hidden_prints": "fill"}])
def test_a_recorded_day_is_not_looked_ahead(arguments, lobster_dir):
    report = lookahead_id("emp-lob-v0", str(next(lobster_dir.glob("*AMZN*.zip"))), **arguments)
    assert report.clean, report
