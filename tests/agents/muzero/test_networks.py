"""Networks: numbers as weights of bins, running statistics, and gradients that reach everything."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from emp_gym.agents.muzero.actions import BoxActions, DiscreteActions, actions_of, even_normals
from emp_gym.agents.muzero.known_dynamics import KnownDynamics, QuoteDynamics
from emp_gym.agents.muzero.loss import Weights, loss
from emp_gym.agents.muzero.networks import (
    BINS,
    REACH,
    Networks,
    Normaliser,
    RunningScale,
    Shape,
    Support,
    squash,
    stretch,
    unit,
)
from emp_gym.agents.muzero.search import SearchResult

NUMBERS = st.floats(-1e4, 1e4, allow_nan=False)


@given(NUMBERS)
def test_squash_and_stretch_undo_each_other(x: float) -> None:
    one = torch.tensor(x, dtype=torch.float64)
    assert float(stretch(squash(one))) == pytest.approx(x, rel=1e-6, abs=1e-6)
    assert float(squash(stretch(one / 100))) == pytest.approx(x / 100, rel=1e-6, abs=1e-6)


@given(st.floats(-REACH, REACH, width=32), st.sampled_from([1, 2, 3]))
def test_a_few_bins_hold_a_number_exactly(x: float, degree: int) -> None:
    support = Support(degree)
    weights = support.encode(torch.tensor([x]))
    assert weights.shape == (1, BINS) and int((weights != 0).sum()) <= degree + 1 and bool((weights >= 0).all())
    assert float(weights.sum()) == pytest.approx(1, abs=1e-6)
    assert float(weights @ support.bins) == pytest.approx(x, abs=1e-5)


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_weights_are_the_splines(degree: int) -> None:
    scipy = pytest.importorskip("scipy.interpolate")
    support, x = Support(degree), np.linspace(-REACH, REACH, 501)
    splines = scipy.BSpline.design_matrix(x, support.knots.double().numpy(), degree, extrapolate=False).toarray()
    assert np.allclose(support.encode(torch.from_numpy(x).float()).numpy(), splines, atol=1e-5)


def test_numbers_beyond_the_support_are_clipped() -> None:
    support = Support()
    assert float(support.encode(torch.tensor([1e6])) @ support.bins) == pytest.approx(REACH, rel=1e-5)
    assert float(support.encode(torch.tensor([-1e6])) @ support.bins) == pytest.approx(-REACH, rel=1e-5)


def test_the_mean_of_noisy_targets_is_kept() -> None:
    """1 in 1000 steps pays 9: the weights that minimise the loss decode to 0.009, not to what the transform's mean gives."""
    support, numbers = Support(), torch.tensor([9.0, *[0.0] * 999])
    best = support.encode(numbers).mean(0)
    assert float(support.decode(best.log().clamp(min=-50.0))) == pytest.approx(0.009, rel=1e-3)
    transformed = float(stretch(squash(numbers.double()).mean()))
    assert transformed < 0.6 * 0.009, "decoding the transform's mean would lose almost half"


def test_heads_begin_at_zero_and_a_policy_at_even_chances() -> None:
    networks = build(DiscreteActions(spaces.Discrete(3)))
    state = networks.represent(torch.randn(7, 4))
    policy, value = networks.predict(state)
    after = networks.afterstate(state, torch.eye(3)[torch.arange(7) % 3])
    _, reward, end = networks.outcome(after, torch.eye(2)[torch.arange(7) % 2])
    assert torch.allclose(policy, torch.zeros(7, 3)) and float(end.detach().sigmoid().max()) < 0.05
    assert torch.allclose(networks.value_of(value), torch.zeros(7), atol=1e-5)
    assert torch.allclose(networks.reward_of(reward), torch.zeros(7), atol=1e-5)


def test_latents_lie_between_0_and_1() -> None:
    rows = unit(100 * torch.randn(50, 9))
    assert torch.allclose(rows.min(1).values, torch.zeros(50)) and torch.allclose(rows.max(1).values, torch.ones(50))
    assert torch.isfinite(unit(torch.ones(2, 5))).all()


def test_running_statistics_equal_those_of_all_rows() -> None:
    normalise = Normaliser(3)
    parts = [torch.randn(7, 3) * (1 + i) + i for i in range(5)]
    for part in parts:
        normalise.absorb(part)
    rows = torch.cat(parts).double()
    assert torch.allclose(normalise.mean, rows.mean(0)) and torch.allclose(normalise.variance, rows.var(0, correction=0))
    assert torch.equal(normalise(rows.float())[:, [2]], normalise(rows.float()[:, [2]], torch.tensor([2])))


def test_the_scale_never_clips_what_was_seen() -> None:
    scale = RunningScale()
    assert float(scale.size) == 1
    scale.absorb(torch.zeros(100))
    assert float(scale.size) == 1, "nothing but 0 has no size"
    scale.absorb(torch.tensor([3.0, -3.0]))
    assert float(scale.size) == pytest.approx((18 / 102) ** 0.5)
    scale.absorb(torch.tensor([50.0]))
    assert float(scale.size) == pytest.approx(5.0)


# ---- actions


def test_even_noise_is_a_normal_sample_that_begins_at_0() -> None:
    noise = even_normals(16, 2)
    assert torch.equal(noise[0], torch.zeros(2)) and noise.mean(0).abs().max() < 0.2
    assert noise.std(0).sub(1).abs().max() < 0.25


def test_levers_fill_any_box() -> None:
    levers = actions_of(spaces.Box(np.array([0.0, -4.0], np.float32), np.array([2.0, 4.0], np.float32)), 8, 8, 1.0, 0.1, 0.5)
    assert isinstance(levers, BoxActions)
    assert np.allclose(levers.played(torch.tensor([[-1.0, 0.0], [1.0, 1.0]])), [[0, 0], [2, 4]])


def test_priors_of_sampled_candidates_undo_the_wider_draw() -> None:
    """Draws from a distribution twice as wide, weighted by their priors, have the policy's own mean and variance."""
    levers = actions_of(spaces.Box(-1, 1, (1,), np.float32), 200_000, 200_000, 2.0, 0.01, 0.1)
    levers.draw(np.random.default_rng(0))
    policy = torch.zeros(1, 2)
    weights = levers.logits(policy).softmax(1).numpy()
    nothing = np.zeros_like(weights)
    found = levers.found(policy, SearchResult(np.zeros(1, int), nothing, weights, nothing, np.zeros(1)))
    assert found[0].tolist() == pytest.approx([0.0, 0.01], abs=1e-3)


def test_the_loss_of_levers_is_the_weighted_likelihood_of_their_candidates() -> None:
    levers = actions_of(spaces.Box(-1, 1, (2,), np.float32), 5, 5, 1.0, 0.1, 0.5)
    policy = torch.randn(3, 4)
    weights = torch.rand(3, 5).softmax(1)
    candidates = torch.stack([levers.encode(policy, torch.full((3,), k)) for k in range(5)], 1)
    mean, deviation = levers._normal(policy)
    slow = -(weights * torch.distributions.Normal(mean[:, None], deviation[:, None]).log_prob(candidates).sum(-1)).sum(1)
    nothing = np.zeros((3, 5))
    found = levers.found(policy, SearchResult(np.zeros(3, int), nothing, weights.numpy(), nothing, np.zeros(3)))
    constant = np.log(2 * np.pi)
    assert torch.allclose(levers.loss(policy, found) + constant, slow, atol=1e-4)


# ---- odds


def slope_error(linear: bool, decay: float) -> float:
    """How wrong a slope of -2 is that was learned from some 350 events of probability exp(-4 - 2 x) among 10,000."""
    networks, random = build(actions_of(spaces.Box(-1, 1, (1,), np.float32), 8, 8, 1.0, 0.1, 0.5)), np.random.default_rng(0)
    x = random.uniform(-1, 1, (10_000, 1)).astype(np.float32)
    code = torch.from_numpy((random.random(10_000) < np.exp(-4 - 2 * x[:, 0])).astype(np.int64))
    networks.odds.requires_grad_(linear)
    optimiser = torch.optim.AdamW(
        [{"params": networks.psi.parameters(), "weight_decay": decay}, {"params": networks.odds.parameters()}], 2e-3
    )

    def log_odds(rows: np.ndarray) -> torch.Tensor:
        state = networks.represent(torch.zeros(len(rows), 4))
        return networks.chance(networks.afterstate(state, torch.from_numpy(rows)))[0].log_softmax(-1)

    for _ in range(500):
        part = random.integers(0, 10_000, 256)
        optimiser.zero_grad()
        torch.nn.functional.nll_loss(log_odds(x[part]), code[part]).backward()
        optimiser.step()
    with torch.no_grad():
        grid = np.linspace(-1, 1, 21, dtype=np.float32)[:, None]
        slope = np.diff(log_odds(grid)[:, 1].numpy()) / 0.1
    return float(np.sqrt(np.mean((slope + 2) ** 2)))


def test_few_rare_events_tell_how_fast_they_become_rarer() -> None:
    with torch.random.fork_rng(devices=[]):
        assert slope_error(True, 1.0) < 0.5 < 0.8 < slope_error(False, 1e-4), "what the linear part is there for"


# ---- gradients


def build(actions: Any, observation: int = 4, codes: int = 2, account: KnownDynamics | None = None, learned: bool = False) -> Networks:
    shape = Shape(observation, actions.size, actions.policy, codes, latent=8, hidden=16, depth=1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Networks(shape, account or KnownDynamics(), learned_codes=learned)


def batch_of(networks: Networks, actions: Any, size: int = 12, unroll: int = 3) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(size, unroll + 1, *shape, generator=random)

    s = networks.shape
    return {
        "observation": normal(s.observation), "following": normal(s.observation), "action": normal(s.action),
        "code": torch.randint(s.codes, (size, unroll + 1), generator=random), "reward": normal(), "value": normal(),
        "finished": torch.rand(size, unroll + 1, generator=random) < 0.2, "policy": normal(actions.target).softmax(-1),
        "lived": torch.ones(size, unroll + 1, dtype=torch.bool), "weight": torch.ones(size), "share": torch.ones(size),
    }  # fmt: skip


@pytest.mark.parametrize("space", [spaces.Discrete(3), spaces.Box(-1, 1, (2,), np.float32)], ids=["menu", "levers"])
@pytest.mark.parametrize("kind", ["named codes", "learned codes", "exact"])
def test_gradients_reach_every_network(space: Any, kind: str) -> None:
    actions = actions_of(space, 8, 8, 1.0, 0.1, 0.5)
    if kind == "exact":
        account = QuoteDynamics({"elapsed": 0, "inventory": 1, "closing": 2}, 0.1)
        networks = build(actions, 3, 3, account)
        assert networks.market == 0 and networks.h is None
    else:
        networks = build(actions, learned=kind == "learned codes")
    optimiser = torch.optim.SGD(networks.parameters(), 1e-2)
    for _ in range(2):  # heads that begin at 0 let nothing through in the first update
        total, parts, error = loss(networks, actions, batch_of(networks, actions), 0.9, Weights())
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
    silent = [name for name, p in networks.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert silent == []
    assert error.shape == (12,) and all(np.isfinite(list(parts.values())))


def test_what_was_not_lived_teaches_nothing() -> None:
    actions = DiscreteActions(spaces.Discrete(3))
    networks = build(actions)
    one, two = batch_of(networks, actions), batch_of(networks, actions)
    one["lived"][:, 2:] = two["lived"][:, 2:] = False
    one["finished"][:, 1] = two["finished"][:, 1] = True
    for name in ("observation", "action", "reward", "policy", "value"):
        two[name][:, 2:] += 100.0
    two["following"][:, 2:] += 100.0
    two["reward"][:, 2:] -= 50.0
    first, second = (loss(networks, actions, batch, 0.9, Weights())[0] for batch in (one, two))
    assert float(first.detach()) == pytest.approx(float(second.detach()), rel=1e-6)
