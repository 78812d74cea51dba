"""Gymnasium's own vector wrappers and conventions on the native vector environments, beyond what `check_env` asks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import DictInfoToList

from emp_gym.types import ConfigError

IDS = sorted(name for name in gym.registry if name.startswith("emp-"))
MODES = ("NextStep", "SameStep", "Disabled")
SHORT = {"episode": "6 decisions"}


def lanes(name: str = "emp-lob-v0", count: int = 3, **arguments: Any) -> Any:
    return gym.make_vec(name, num_envs=count, **arguments)


# ---------------------------------------------------------------------------------------------------------------- keywords


@pytest.mark.parametrize("make", [gym.make, gym.make_vec])
@pytest.mark.parametrize("name", IDS)
def test_an_unknown_keyword_is_the_error_that_python_raises_and_names_the_nearest(name: str, make: Any) -> None:
    for wrong, near in (("frameskip", ""), ("autoreset_mod", "did you mean 'autoreset_mode'?")):
        with pytest.raises(TypeError) as caught:
            make(name, **{wrong: 1})
        assert isinstance(caught.value, ConfigError)
        assert f"unexpected keyword argument '{wrong}'" in str(caught.value) and near in str(caught.value)


# ---------------------------------------------------------------------------------------------------------------- pictures


def test_a_frame_a_lane_in_every_render_mode() -> None:
    env = lanes(render_mode="ansi", **SHORT)
    env.reset(seed=0)
    texts = env.render()
    alone = gym.make("emp-lob-v0", render_mode="ansi", **SHORT)
    alone.reset(seed=0)
    assert isinstance(texts, tuple) and [type(text) for text in texts] == [str] * 3
    assert texts[0] == alone.render() and len(set(texts)) == 3
    env = lanes(count=2, render_mode="rgb_array", **SHORT)
    env.reset(seed=0)
    frames = env.render()
    assert isinstance(frames, tuple) and all(frame.shape == (600, 1100, 3) for frame in frames)
    assert not np.array_equal(*frames) and env.metadata["render_fps"] > 0
    quiet = lanes()
    quiet.reset(seed=0)
    assert quiet.render() is None


@pytest.mark.parametrize("mode", ["human", "rgb", "png"])
def test_render_modes_that_are_not_there_are_refused_when_made(mode: str) -> None:
    with pytest.raises(ConfigError, match=f"got '{mode}'") as caught:
        lanes(render_mode=mode)
    assert ("HumanRendering" in str(caught.value)) == (mode == "human")
    with pytest.raises(ConfigError, match="nothing to draw"):
        lanes("emp-ladder-trend-v0", render_mode=mode)


def test_record_video_films_all_lanes(tmp_path: Path) -> None:
    pytest.importorskip("moviepy", reason='needs moviepy: pip install "emp-gym[video]"')
    from gymnasium.wrappers.vector import RecordVideo

    env = RecordVideo(lanes(count=2, render_mode="rgb_array", **SHORT), str(tmp_path), episode_trigger=lambda _: True, video_length=3)
    env.reset(seed=0)
    for _ in range(4):
        env.step(env.action_space.sample())
    env.close()
    assert [path.suffix for path in tmp_path.iterdir() if path.stat().st_size > 1000] == [".mp4"]


def test_human_rendering_shows_all_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pygame", reason='needs pygame: pip install "emp-gym[video]"')
    pytest.importorskip("cv2", reason='needs OpenCV: pip install "emp-gym[video]"')
    from gymnasium.wrappers.vector import HumanRendering

    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    env = HumanRendering(lanes(count=4, render_mode="rgb_array", **SHORT))
    env.reset(seed=0)
    env.step(env.action_space.sample())
    assert env.window.get_size() == (1100, 600)
    env.close()


# ------------------------------------------------------------------------------------------------------------------- seeds


@pytest.mark.parametrize("name", ["emp-lob-v0", "emp-cartea-jaimungal-v0"])
def test_none_among_seeds_leaves_a_lane_to_its_own_randomness(name: str) -> None:
    env = lanes(name)
    first, _ = env.reset(seed=[1, None, 3])
    twins = [lanes(name, 1).reset(seed=[seed])[0][0] for seed in (1, 3)]
    assert np.array_equal(first[0], twins[0]) and np.array_equal(first[2], twins[1])
    going, straight = lanes(name), lanes(name)
    going.reset(seed=[5, 6, 7]), straight.reset(seed=[5, 6, 7])
    for lane_seeds in ([None, 9, None], [None, None, None]):
        got, _ = going.reset(seed=lane_seeds)
        wanted, _ = straight.reset()
        assert np.array_equal(got[0], wanted[0]) and np.array_equal(got[2], wanted[2]), "as if none had been given"
    with pytest.raises(ConfigError, match="expected 3, got 2"):
        env.reset(seed=[1, None])


def test_lanes_that_never_had_a_seed_do_not_begin_alike() -> None:
    a, b = lanes(count=8), lanes(count=8)
    first, second = (env.reset(seed=[1] + [None] * 7)[0] for env in (a, b))
    assert np.array_equal(first[0], second[0]) and not np.array_equal(first[1:], second[1:])


@pytest.mark.parametrize("name", ["emp-lob-v0", "emp-ladder-trend-v0"])
def test_the_seed_and_the_autoreset_mode_are_kept_where_gymnasium_keeps_them(name: str) -> None:
    for mode in MODES:
        env = lanes(name, autoreset_mode=mode)
        assert env.autoreset_mode is AutoresetMode(mode) and env.metadata["autoreset_mode"] is env.autoreset_mode
    env.reset(seed=77)
    assert env.np_random_seed == 77
    env.reset()
    assert env.np_random_seed == 77
    assert env.np_random.integers(1 << 30) == gym.utils.seeding.np_random(77)[0].integers(1 << 30)


# ---------------------------------------------------------------------------------------------------------- max_episode_steps


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("name", "arguments"), [("emp-lob-v0", SHORT), ("emp-lob-execution-v0", {}), ("emp-ladder-trend-v0", {})])
def test_max_episode_steps_cuts_as_time_limit_cuts_a_scalar_environment(name: str, arguments: dict, mode: str) -> None:
    for limit in (4, 6, 9):
        env = lanes(name, autoreset_mode=mode, max_episode_steps=limit, **arguments)
        twins = gym.vector.SyncVectorEnv(
            [lambda limit=limit: gym.make(name, max_episode_steps=limit, **arguments)] * 3, autoreset_mode=AutoresetMode(mode)
        )
        seeds = [3, 4, 5]
        assert np.array_equal(env.reset(seed=seeds)[0], twins.reset(seed=seeds)[0])
        env.action_space.seed(limit)
        ends = summaries = 0
        for step in range(24):
            action = env.action_space.sample()
            got, wanted = env.step(action), twins.step(action)
            for one, other in zip(got[:4], wanted[:4], strict=True):
                assert np.array_equal(one, other), f"{mode}, limit {limit}, step {step}"
            over = got[2] | got[3]
            ends += int(over.sum())
            told = [info.get("final_info", info) for info in (got[4], wanted[4])]
            here, there = (info.get("_summary", np.zeros(3, bool)) for info in told)
            assert np.array_equal(here, there)
            summaries += int(here.sum())
            if mode == "SameStep" and over.any():
                assert all(np.array_equal(got[4]["final_obs"][i], wanted[4]["final_obs"][i]) for i in np.flatnonzero(over))
            if mode == "Disabled" and over.any():
                options = {"reset_mask": over}
                assert np.array_equal(env.reset(options=dict(options))[0], twins.reset(options=dict(options))[0])
        assert ends >= 6 and (name != "emp-lob-v0" or (summaries == 0) == (limit == 4))


@pytest.mark.parametrize("limit", [0, -3, 2.5, "10"])
def test_an_impossible_max_episode_steps_is_refused(limit: Any) -> None:
    with pytest.raises(ConfigError, match="max_episode_steps"):
        lanes(max_episode_steps=limit)


def test_where_a_limited_episode_stood_is_in_a_snapshot(tmp_path: Path) -> None:
    from emp_gym.envs import snapshot

    first, second = (lanes(max_episode_steps=7, autoreset_mode="SameStep") for _ in range(2))
    first.reset(seed=0)
    for _ in range(5):
        first.step(np.full(3, 7))
    snapshot.save(first, tmp_path / "lanes.npz")
    second.reset(options={"state": str(tmp_path / "lanes.npz")})
    cuts = [(a.step(np.full(3, 8))[3].tolist()) for _ in range(2) for a in (first, second)]
    assert cuts == [[False] * 3] * 2 + [[True] * 3] * 2


# ------------------------------------------------------------------------------------------------------------------- infos


@pytest.mark.parametrize("info", ["lean", "full"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["emp-lob-v0", "emp-lob-market-making-v0", "emp-lob-execution-v0"])
def test_infos_become_a_list_of_those_that_scalar_environments_give(name: str, mode: str, info: str) -> None:
    env = DictInfoToList(lanes(name, autoreset_mode=mode, info=info, **SHORT))
    twins = [gym.make(name, info=info, **SHORT) for _ in range(3)]
    env.reset(seed=[5, 6, 7])
    for seed, twin in enumerate(twins, 5):
        twin.reset(seed=seed)
    env.action_space.seed(0)
    filled = 0
    for _ in range(5):  # up to the first end
        action = env.action_space.sample()
        *_, told = env.step(action)
        for lane, twin in enumerate(twins):
            *_, terminated, _, wanted = twin.step(action[lane])
            if terminated:
                return
            assert set(told[lane]) == set(wanted)
            for key, value in wanted.items():
                if key != "orders":
                    assert np.array_equal(told[lane][key], value), key
            filled += len(wanted.get("fill_price", ()))
    assert (filled > 0) == (info == "full")


def test_every_entry_of_a_full_info_has_one_place_a_lane_and_its_mask() -> None:
    env = lanes(count=5, info="full")
    env.reset(seed=0)
    *_, info = env.step(np.array([7, 0, 8, 7, 0]))
    for key in [key for key in info if not key.startswith("_")]:
        assert len(info[key]) == 5 and info[f"_{key}"].tolist() == [True] * 5, key
    assert [int(lots.sum()) for lots in info["fill_quantity"]] == [100, 0, 100, 100, 0]
    assert all(time.dtype == np.int64 and (np.diff(time) >= 0).all() for time in info["fill_time_ns"])


def test_reason_bits_are_signed_and_as_they_were() -> None:
    gates = [{"gate": "risk", "limits": {"instrument": {"restricted": True}}}]
    env, alone = lanes(gates=gates), gym.make("emp-lob-v0", gates=gates)
    env.reset(seed=0), alone.reset(seed=0)
    info, own = env.step(np.full(3, 7))[4], alone.step(7)[4]
    assert info["reason"].dtype == np.int64 and info["reason"].tolist() == [4] * 3 and own["reason"] == 4
