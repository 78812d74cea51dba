"""Mamba-2 and Mamba-3 give what their recurrences give, wherever chunks are cut and episodes begin."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emp_gym.agents.backbones import encoder
from emp_gym.agents.backbones.mamba2 import convolve
from emp_gym.agents.backbones.mamba3 import turned
from emp_gym.agents.backbones.reference import reference
from emp_gym.agents.backbones.scan import scan

BOTH = ("mamba2", "mamba3")


def plain_scan(query, key, value, log_decay, own, late, fresh, carry):
    """The recurrence, one decision after the other."""
    reads, last = [], torch.zeros_like(carry)
    for t in range(len(fresh)):
        kept = (~fresh[t]).to(carry.dtype)[:, None, None, None]
        if t > 0 and late is not None:
            carry = carry + late[t][..., None, None] * last
        last = key[t].unsqueeze(-1) * value[t].unsqueeze(-2)
        carry = log_decay[t].exp()[..., None, None] * (kept * carry) + own[t][..., None, None] * last
        reads.append((query[t].unsqueeze(-2) @ carry).squeeze(-2))
    return torch.stack(reads), carry


def sequence(steps, lanes=2, heads=2, keys=3, values=4, seed=0, dtype=torch.float64, resets=0.1):
    """Arguments of `scan` but the chunk, with decays from nearly none to nearly all within one decision."""
    g = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)  # noqa: E731
    step = torch.nn.functional.softplus(2.0 * draw(steps, lanes, heads) - 2.0)
    share = torch.sigmoid(draw(steps, lanes, heads))
    decay = -torch.nn.functional.softplus(3.0 * draw(steps, lanes, heads)) * step
    fresh = torch.rand((steps, lanes), generator=g) < resets
    rows = [draw(steps, lanes, heads, size) / size**0.5 for size in (keys, keys, values)]
    numbers = [*rows, decay, share * step, (1.0 - share) * step]
    return *(x.to(dtype) for x in numbers), fresh, draw(lanes, heads, keys, values).to(dtype)


def size_of_the_error(found, expected):
    return (found.double() - expected.double()).abs().max().item()


@settings(max_examples=40, deadline=None)
@given(
    steps=st.integers(1, 40), chunk=st.integers(1, 45), resets=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    trapezoid=st.booleans(), seed=st.integers(0, 2**16),
)  # fmt: skip
def test_the_scan_is_the_recurrence_with_its_gradients(steps, chunk, resets, trapezoid, seed):
    *numbers, fresh, carry = sequence(steps, seed=seed, resets=resets)
    numbers = [x.requires_grad_() for x in (*numbers, carry)]
    late = numbers[5] if trapezoid else None
    weights = [torch.randn(steps, 2, 2, 4, dtype=torch.float64), torch.randn(2, 2, 3, 4, dtype=torch.float64)]

    def outcome(function, *last):
        y, h = function(*numbers[:5], late, fresh, numbers[6], *last)
        grads = torch.autograd.grad((y * weights[0]).sum() + (h * weights[1]).sum(), numbers, materialize_grads=True)
        return y, h, *grads

    for found, expected in zip(outcome(scan, chunk), outcome(plain_scan), strict=True):
        assert size_of_the_error(found, expected) < 1e-10


def test_the_scan_is_good_to_1e_minus_5_in_float32_over_a_thousand_decisions():
    *numbers, carry = sequence(1024, heads=8, keys=16, values=16, dtype=torch.float32, resets=0.002)
    expected, _ = plain_scan(*(x.double() if x.is_floating_point() else x for x in (*numbers, carry)))
    y, _ = scan(*numbers, carry, 32)
    assert size_of_the_error(y, expected) < 1e-5
    whole, _ = scan(*numbers, carry, 1024)
    assert size_of_the_error(whole, expected) > 2 * size_of_the_error(y, expected), "long sums must be seen to cost digits"


@pytest.mark.parametrize("name", BOTH)
def test_float32_agrees_with_the_judge_over_a_thousand_decisions(name):
    torch.manual_seed(1)
    net = encoder(name, 12, size=32, layers=2)
    x = torch.randn(1024, 1, 12)
    fresh = torch.zeros(1024, 1, dtype=torch.bool)
    fresh[[100, 101, 613]] = True
    with torch.no_grad():
        y, _ = net(x, net.initial_state(1), fresh)
        assert size_of_the_error(y, reference(net, x, fresh)) < 1e-5


@pytest.mark.parametrize("name", BOTH)
def test_every_weight_and_input_gets_the_gradient_of_the_judge(name):
    torch.manual_seed(2)
    net = encoder(name, 5, size=16, headdim=8, state=6, layers=2, chunk=8).double()
    x = torch.randn(21, 2, 5, dtype=torch.float64, requires_grad=True)
    fresh = torch.rand(21, 2) < 0.15
    weights = torch.randn(21, 2, 16, dtype=torch.float64)
    inputs = [x, *net.parameters()]
    y, _ = net(x, net.initial_state(2), fresh)
    expected = reference(net, x, fresh)
    assert size_of_the_error(y, expected) < 1e-10
    found = torch.autograd.grad((y * weights).sum(), inputs)
    for name_, a, b in zip(
        ["x", *dict(net.named_parameters())], found, torch.autograd.grad((expected * weights).sum(), inputs), strict=True
    ):
        assert size_of_the_error(a, b) < 1e-9, name_
        assert b.abs().max() > 0, f"{name_} must matter"


@pytest.mark.parametrize("name", BOTH)
@settings(max_examples=15, deadline=None)
@given(steps=st.integers(2, 40), chunk=st.integers(1, 40), seed=st.integers(0, 2**16), data=st.data())
def test_a_chunk_holds_episodes_packed_as_if_they_were_separate(name, steps, chunk, seed, data):
    torch.manual_seed(seed)
    net = encoder(name, 4, size=8, headdim=4, state=4, layers=2, chunk=chunk)
    x = torch.randn(steps, 1, 4)
    begins = sorted(data.draw(st.sets(st.integers(1, steps - 1), max_size=5)))
    fresh = torch.zeros(steps, 1, dtype=torch.bool)
    fresh[begins] = True
    with torch.no_grad():
        packed, state = net(x, net.initial_state(1), fresh)
        for begin, end in zip([0, *begins], [*begins, steps], strict=True):
            apart, last = net(x[begin:end], net.initial_state(1), torch.zeros_like(fresh[begin:end]))
            assert size_of_the_error(packed[begin:end], apart) < 1e-5
    for name_, value in last.items():
        if name_.endswith("angle"):
            assert size_of_the_error(state[name_].sin(), value.sin()) < 1e-4
            assert size_of_the_error(state[name_].cos(), value.cos()) < 1e-4
        else:
            assert size_of_the_error(state[name_], value) < 1e-4, name_


@pytest.mark.parametrize("name", BOTH)
def test_the_chunk_is_a_matter_of_speed_only(name):
    outputs = []
    for chunk in (1, 7, 32, 100):
        torch.manual_seed(3)
        net = encoder(name, 4, layers=2, chunk=chunk)
        generator = torch.Generator().manual_seed(4)
        x, fresh = torch.randn(70, 3, 4, generator=generator), torch.rand(70, 3, generator=generator) < 0.1
        outputs.append(net(x, net.initial_state(3), fresh)[0])
    for other in outputs[1:]:
        assert size_of_the_error(other, outputs[0]) < 1e-5


def test_mamba3_without_turns_and_trapezoid_is_the_recurrence_of_mamba2():
    *numbers, _, fresh, carry = sequence(50)
    query, key, value, log_decay, own = numbers
    none = torch.zeros_like(own)
    with_zero, last_zero = scan(query, key, value, log_decay, own, none, fresh, carry, 16)
    without, last = scan(query, key, value, log_decay, own, None, fresh, carry, 16)
    assert torch.equal(with_zero, without)
    assert torch.equal(last_zero, last)


def test_the_convolution_reads_the_last_inputs_of_its_own_episode():
    x = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0]).reshape(5, 1, 1)
    before = torch.tensor([100.0, 200.0]).reshape(1, 2, 1)
    weights, bias = torch.tensor([[1.0], [1.0], [1.0]]), torch.zeros(1)
    fresh = torch.tensor([False, False, False, True, False]).reshape(5, 1)
    y, last = convolve(x, before, fresh, weights, bias)
    assert y.flatten().tolist() == [301.0, 203.0, 7.0, 8.0, 24.0]
    assert last.flatten().tolist() == [8.0, 16.0]
    _, last = convolve(x[:1], before, fresh[3:4], weights, bias)
    assert last.flatten().tolist() == [0.0, 1.0], "what lay before the begin is forgotten"


def test_angles_begin_at_zero_with_the_episode_and_stay_exact():
    turn = torch.full((4000, 1, 1, 1), 3.0)
    fresh = torch.zeros(4000, 1, dtype=torch.bool)
    before = torch.full((1, 1, 1), 0.5)
    angle = turned(turn, before, fresh).flatten().double()
    exact = torch.remainder(0.5 + 3.0 * torch.arange(1, 4001, dtype=torch.float64), 2.0 * torch.pi)
    assert size_of_the_error(angle, exact) < 1e-6
    fresh[10] = True
    angle = turned(turn, before, fresh).flatten()
    assert angle[10] == 3.0
    assert size_of_the_error(angle[:10], exact[:10]) < 1e-6
