"""What every encoder promises, whatever is inside."""

from __future__ import annotations

import gymnasium as gym
import pytest
import torch
from safetensors.torch import load_file, save_file

import emp_gym  # noqa: F401
from emp_gym.agents.backbones import NAMES, encoder
from emp_gym.agents.backbones.levels import level_columns
from emp_gym.agents.backbones.plain import GRU
from emp_gym.sensory.lob import features
from emp_gym.types import ConfigError, Feature

COLUMNS = features(4)
WIDTH = len(COLUMNS)
RECURRENT = ("gru", "mamba2", "mamba3")


@pytest.fixture(params=NAMES)
def net(request):
    torch.manual_seed(0)
    return encoder(request.param, WIDTH, COLUMNS)


def rollout(steps, lanes, resets=0.2, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(steps, lanes, WIDTH, generator=generator), torch.rand(steps, lanes, generator=generator) < resets


def acted(net, x, fresh, state):
    outputs = []
    for now, begins in zip(x, fresh, strict=True):
        y, state = net.step(now, net.reset(state, begins))
        outputs.append(y)
    return torch.stack(outputs), state


@torch.no_grad()
def test_a_sequence_read_at_once_is_what_was_acted_on_step_by_step(net):
    x, fresh = rollout(50, 3)
    _, begun = net(x[:7], net.initial_state(3), fresh[:7])  # a state in the middle of episodes
    y, after = net(x[7:], begun, fresh[7:])
    steps, last = acted(net, x[7:], fresh[7:], begun)
    assert y.shape == (43, 3, net.size)
    assert torch.allclose(y, steps, atol=1e-5)
    assert set(after) == set(last) == set(net.initial_state(3))
    for name, value in after.items():
        assert value.shape == net.initial_state(3)[name].shape
        if not name.endswith("angle"):  # 0 and 2 pi are the same angle
            assert torch.allclose(value, last[name], atol=1e-4), name


@torch.no_grad()
def test_a_sequence_read_in_two_parts_is_the_sequence(net):
    x, fresh = rollout(41, 3)
    whole, _ = net(x, net.initial_state(3), fresh)
    for cut in (1, 16, 40):
        first, state = net(x[:cut], net.initial_state(3), fresh[:cut])
        second, _ = net(x[cut:], state, fresh[cut:])
        assert torch.allclose(torch.cat([first, second]), whole, atol=1e-5)


@torch.no_grad()
def test_what_comes_later_changes_nothing_before(net):
    x, fresh = rollout(40, 2)
    before, _ = net(x, net.initial_state(2), fresh)
    for t in (0, 15, 31, 38):
        other = x.clone()
        other[t + 1 :] = 100.0 * torch.randn_like(other[t + 1 :])
        begins = fresh.clone()
        begins[t + 1 :] = ~begins[t + 1 :]
        y, _ = net(other, net.initial_state(2), begins)
        if isinstance(net, GRU):  # reads other stretches when other decisions begin an episode: equal but for rounding
            assert torch.allclose(y[: t + 1], before[: t + 1], atol=1e-6)
        else:
            assert torch.equal(y[: t + 1], before[: t + 1])


@torch.no_grad()
def test_lanes_do_not_see_each_other(net):
    x, fresh = rollout(20, 3)
    together, _ = net(x, net.initial_state(3), fresh)
    alone, _ = net(x[:, 1:2], net.initial_state(1), fresh[:, 1:2])
    assert torch.allclose(together[:, 1:2], alone, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", RECURRENT)
def test_memory_counts_within_an_episode_and_ends_with_it(name):
    net = encoder(name, WIDTH, COLUMNS)
    x, _ = rollout(20, 1)
    going_on = torch.zeros(20, 1, dtype=torch.bool)
    begins = going_on.clone()
    begins[10] = True
    other = x.clone()
    other[0] = 5.0
    kept, forgotten = (
        [net(rows, net.initial_state(1), fresh)[0] for rows in (x, other)] for fresh in (going_on, begins)
    )
    assert not torch.allclose(kept[0][10:], kept[1][10:], atol=1e-4)
    assert torch.allclose(forgotten[0][10:], forgotten[1][10:], atol=1e-6)


@torch.no_grad()
def test_acting_leaves_the_old_state_alone_and_repeats_to_the_bit(net):
    x, _ = rollout(2, 3)
    _, state = net.step(x[0], net.initial_state(3))
    copy = {name: value.clone() for name, value in state.items()}
    first, second = net.step(x[1], state), net.step(x[1], state)
    assert torch.equal(first[0], second[0])
    assert all(torch.equal(first[1][name], second[1][name]) for name in state)
    assert all(torch.equal(state[name], copy[name]) for name in state)
    assert net.recurrent == bool(state)


@torch.no_grad()
def test_reset_makes_new_the_lanes_that_ended_only(net):
    x, _ = rollout(1, 3)
    _, state = net.step(x[0], net.initial_state(3))
    after = net.reset(state, torch.tensor([False, True, False]))
    for name, value in after.items():
        assert torch.equal(value[[0, 2]], state[name][[0, 2]])
        assert torch.equal(value[1], net.initial_state(1)[name][0])


@torch.no_grad()
def test_weights_survive_a_safetensors_file(net, tmp_path):
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    torch.manual_seed(9)
    name = next(n for n in NAMES if type(encoder(n, WIDTH, COLUMNS)) is type(net))
    other = encoder(name, WIDTH, COLUMNS)
    x, fresh = rollout(5, 2)
    assert not torch.allclose(other(x, other.initial_state(2), fresh)[0], net(x, net.initial_state(2), fresh)[0])
    other.load_state_dict(load_file(tmp_path / "net.safetensors"))
    assert torch.equal(other(x, other.initial_state(2), fresh)[0], net(x, net.initial_state(2), fresh)[0])


def test_every_weight_learns(net):
    x, fresh = rollout(12, 4)
    y, _ = net(x, net.initial_state(4), fresh)
    y.square().sum().backward()
    for name, weight in net.named_parameters():
        assert weight.grad is not None and torch.isfinite(weight.grad).all(), name
        assert weight.grad.abs().max() > 0, name


@pytest.mark.parametrize("name", RECURRENT)
@torch.no_grad()
def test_a_long_wild_sequence_stays_finite(name):
    net = encoder(name, WIDTH, COLUMNS, layers=2)
    x = 1e3 * torch.randn(600, 2, WIDTH)
    y, state = net(x, net.initial_state(2), torch.rand(600, 2) < 0.01)
    assert torch.isfinite(y).all()
    assert all(torch.isfinite(value).all() for value in state.values())


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("mamba4", {}, "did you mean mamba"),
        ("gru", {"sise": 3}, "did you mean size"),
        ("mamba3", {"conv": 4}, "has no option 'conv'"),
        ("mlp", {"layers": 0}, "layers: expected at least 1, got 0"),
        ("mamba2", {"headdim": 24}, "expected a divisor of expand \\* size = 128, got 24"),
        ("mamba2", {"longest": 1e-4}, "expected 0 < shortest <= longest"),
        ("mamba3", {"rotated": 1.5}, "rotated: expected a share"),
        ("cnn", {"kernel": 2}, "kernel: expected an odd number"),
    ],
)
def test_an_impossible_encoder_is_refused_with_the_remedy(name, options, words):
    with pytest.raises(ConfigError, match=words):
        encoder(name, WIDTH, COLUMNS, **options)


def test_features_of_another_observation_are_refused():
    with pytest.raises(ConfigError, match=f"has 3 columns, but {WIDTH} features"):
        encoder("mlp", 3, COLUMNS)


# ---- the convolution over levels


def test_levels_are_found_by_name_in_the_real_observation():
    env = gym.make("emp-lob-v0")
    columns = env.spec.features
    env.close()
    book, beside = level_columns(columns)
    names = [[columns[column].name for column in channel] for channel in book]
    assert [channel[0] for channel in names] == ["bid_distance_1", "bid_size_1", "ask_distance_1", "ask_size_1"]
    assert names[3] == [f"ask_size_{level + 1}" for level in range(len(book[0]))]
    assert sorted([*beside, *(column for channel in book for column in channel)]) == list(range(len(columns)))
    assert "imbalance_1" in {columns[column].name for column in beside}, "a number at the end does not make a level"


def test_levels_are_read_best_first_wherever_their_columns_stand():
    names = ["ask_size_2", "time", "bid_size_1", "bid_size_2", "ask_size_1", "bid_age_1"]
    book, beside = level_columns([Feature(name, "lots") for name in names])
    assert book == [[4, 0], [2, 3]]
    assert beside == [1, 5], "a quantity that only some levels have goes beside"


@pytest.mark.parametrize("columns", [None, (), [Feature("elapsed", "1")], features(1)])
def test_a_convolution_without_levels_is_refused_with_the_remedy(columns):
    with pytest.raises(ConfigError, match="use an environment that shows at least two levels"):
        encoder("cnn", len(columns) if columns is not None else 3, columns)


@torch.no_grad()
def test_the_convolution_sees_every_column():
    torch.manual_seed(0)
    net = encoder("cnn", WIDTH, COLUMNS)
    x = torch.zeros(1, WIDTH, WIDTH)
    x[0] = torch.eye(WIDTH)
    y, _ = net(torch.cat([x, torch.zeros_like(x)]), {}, torch.zeros(2, WIDTH, dtype=torch.bool))
    assert ((y[0] - y[1]).abs().amax(dim=1) > 0).all()
