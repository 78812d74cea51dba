"""The learned half of the planner's world: five small networks, the scale of rewards and values, and numbers as weights.

=====================  =========================================================================================
network                gives
=====================  =========================================================================================
represent ``h``        market latent [M, H] of an observation, each row scaled to [0, 1]
predict ``f``          what the policy is made of [M, O], and the value of a state
afterstate ``phi``     what is known once we have decided and the market has not answered
chance ``psi``         value of the afterstate, and how likely each outcome code is
dynamics ``g``         next market latent, reward, and whether the episode ends, given the code
=====================  =========================================================================================

A state is a row ``[private | market]``: the columns of the observation that an `KnownDynamics` keeps exactly, then the latent.
Where the account keeps every column there is no latent, and nothing is left to learn but the odds and the rewards.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from emp_gym.agents.muzero.known_dynamics import KnownDynamics

BINS, REACH = 51, 10.0
RARELY = -4.0
"""Logit of the chance that a step ends an episode, before anything was learned."""
QUICK = 10.0
"""How much faster the linear part of the odds learns. Adam's steps are alike in size, and a slope of 2 is a long way in noise."""


def squash(x: Tensor) -> Tensor:
    """sgn(x) (sqrt(|x| + 1) - 1) + 0.001 x, which spares large values (Pohlen et al. 2018, arXiv 1805.11593)."""
    return x.sign() * ((x.abs() + 1).sqrt() - 1) + 0.001 * x


def stretch(y: Tensor) -> Tensor:
    """The inverse of `squash`."""
    return y.sign() * ((((1 + 0.004 * (y.abs() + 1.001)).sqrt() - 1) / 0.002).square() - 1)


class Support(nn.Module):
    """A number as weights of 51 bins in [-10, 10] of its scale (a little beyond with smooth weights), finer near 0: knots at even
    steps after `squash`.

    Weights are the B-splines of `degree` at the number (de Boor 1978), bins their Greville points. The weighted mean of the bins is
    then the number itself, so the mean of noisy targets is kept: with weights that are linear after the transform, as in the original, a
    mixture decodes to less than its mean. Degree 1 is two neighbouring bins. What a softmax learns of a number that moves across those is
    wavy, which moves the top of a flat value by a twentieth; with degree 3 it is smooth, and slower to tell large values apart.
    """

    bins: Tensor
    knots: Tensor

    def __init__(self, degree: int = 1) -> None:
        super().__init__()
        self.degree = degree
        end = float(squash(torch.tensor(REACH, dtype=torch.float64)))
        places = torch.arange(-degree, BINS + 1, dtype=torch.float64)
        knots = stretch((places / (BINS - degree) * 2 - 1) * end)
        bins = torch.stack([knots[1 + k : 1 + k + BINS] for k in range(degree)]).mean(0)
        bins[BINS // 2] = 0.0
        self.register_buffer("knots", knots.float(), persistent=False)
        self.register_buffer("bins", bins.float(), persistent=False)

    def encode(self, x: Tensor) -> Tensor:
        """Weights [..., 51] of `x` [...]; beyond the scale it is clipped."""
        knots, last = self.knots, self.degree
        x = x.clamp(knots[last], knots[BINS])
        right = torch.searchsorted(knots[last : BINS + 1], x.contiguous(), right=True).clamp(1, BINS - last) + last
        weights = [torch.ones_like(x)]
        for degree in range(1, last + 1):  # Cox and de Boor: each spline is shared out among two of the next degree
            shares = [torch.zeros_like(x)] * (degree + 1)
            for k, weight in enumerate(weights):
                low, high = knots[right - degree + k], knots[right + k]
                share = weight / (high - low)
                shares[k] = shares[k] + share * (high - x)
                shares[k + 1] = share * (x - low)
            weights = shares
        first = right.unsqueeze(-1) - 1 - last
        return torch.zeros(*x.shape, BINS).scatter_(-1, first + torch.arange(last + 1), torch.stack(weights, -1))

    def decode(self, logits: Tensor) -> Tensor:
        """The mean [...] that `logits` [..., 51] stand for: exactly 0 where they are even, however many rows are asked about."""
        weights, middle = logits.softmax(-1), BINS // 2
        return (weights[..., middle + 1 :] - weights[..., :middle].flip(-1)) @ self.bins[middle + 1 :]


class Normaliser(nn.Module):
    """Observations to mean 0 and deviation 1 by statistics that change only in `absorb`; saved with the weights."""

    mean: Tensor
    variance: Tensor
    count: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("variance", torch.ones(size, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    def forward(self, rows: Tensor, columns: Tensor | None = None) -> Tensor:
        """`rows` [M, D], or their `columns` only."""
        mean, variance = self.mean.float(), self.variance.float()
        if columns is not None:
            mean, variance = mean[columns], variance[columns]
        return ((rows - mean) * torch.rsqrt(variance + 1e-4)).clamp(-10.0, 10.0)

    def absorb(self, rows: Tensor) -> None:
        """Counts `rows` [M, D] in (Chan et al. 1979, parallel form)."""
        rows, count = rows.double(), rows.shape[0]
        total = self.count + count
        mean, variance = rows.mean(0), rows.var(0, correction=0)
        delta = mean - self.mean
        spread = self.variance * self.count + variance * count + delta**2 * (self.count * count / total)
        self.mean += delta * (count / total)
        self.variance.copy_(spread / total)
        self.count.copy_(total)


class RunningScale(nn.Module):
    """The size of a stream of numbers: its root mean square, or a tenth of the largest where that is more, so that nothing
    which was ever seen is clipped by `Support`."""

    square: Tensor
    largest: Tensor
    count: Tensor
    size: Tensor  # float32 [], 1 before anything but 0 was seen

    def __init__(self) -> None:
        super().__init__()
        for name in ("square", "largest", "count"):
            self.register_buffer(name, torch.zeros((), dtype=torch.float64))
        self.register_buffer("size", torch.ones(()))

    def absorb(self, numbers: Tensor) -> None:
        self.square += numbers.double().square().sum()
        self.count += numbers.numel()
        self.largest.copy_(torch.maximum(self.largest, numbers.double().abs().max()))
        size = torch.maximum((self.square / self.count).sqrt(), self.largest / REACH)
        if size > 0:
            self.size.copy_(size)


@dataclass(frozen=True)
class Shape:
    """Sizes of the networks."""

    observation: int  # D
    action: int  # numbers that describe an action
    policy: int  # O, numbers that describe a policy
    codes: int  # C
    latent: int  # H
    hidden: int
    depth: int  # hidden layers
    degree: int = 1  # of the splines that numbers are given as


class Networks(nn.Module):
    """All that is learned, and the buffers that belong to it."""

    columns: Tensor

    def __init__(self, shape: Shape, account: KnownDynamics, *, learned_codes: bool) -> None:
        super().__init__()
        self.shape, self.account = shape, account
        self.register_buffer("columns", torch.tensor(account.columns, dtype=torch.int64), persistent=False)
        self.private = len(account.columns)
        self.market = 0 if self.private == shape.observation else shape.latent
        self.normalise, self.support = Normaliser(shape.observation), Support(shape.degree)
        self.reward_scale, self.value_scale = RunningScale(), RunningScale()
        self._build(learned_codes)

    def _build(self, learned_codes: bool) -> None:
        s, state = self.shape, self.private + self.market
        after = self.private + s.action + s.latent

        def trunk(inputs: int, *heads: int, first: tuple[float, ...] = ()) -> SplitPerceptron:
            return SplitPerceptron(inputs, heads, s.hidden, s.depth, first or (0.0,) * len(heads))

        self.h = perceptron(s.observation, self.market, s.hidden, s.depth) if self.market else None
        self.f = trunk(state, s.policy, BINS)
        self.phi = perceptron(state + s.action, s.latent, s.hidden, s.depth)
        self.psi = trunk(after, s.codes, BINS) if s.codes > 1 else None
        self.odds = nn.Linear(self.private + s.action, s.codes) if s.codes > 1 else None
        if self.odds is not None:
            nn.init.zeros_(self.odds.weight)
            nn.init.zeros_(self.odds.bias)
        self.g = trunk(after + s.codes, self.market, BINS, 1, first=(math.nan, 0.0, RARELY))
        self.encoder = perceptron(2 * s.observation, s.codes, s.hidden, s.depth) if learned_codes else None
        if self.market:  # SimSiam (Chen and He 2021): the rolled-out latent must agree with the one that was then seen
            self.project = nn.Sequential(nn.Linear(self.market, s.hidden), nn.SiLU(), nn.Linear(s.hidden, s.hidden))
            self.foresee = nn.Sequential(nn.Linear(s.hidden, s.hidden // 2), nn.SiLU(), nn.Linear(s.hidden // 2, s.hidden))

    # ---- the functions of the model; rows M stand for any leading shape

    def represent(self, observation: Tensor) -> Tensor:
        """State [M, P + H] of an observation [M, D]."""
        private = observation[..., self.columns]
        if self.h is None:
            return private
        return torch.cat((private, unit(self.h(self.normalise(observation)))), -1)

    def predict(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """What the policy is made of [M, O], and the value as logits [M, 51]."""
        policy, value = self.f(self._seen(state))
        return policy, value

    def afterstate(self, state: Tensor, action: Tensor) -> Tensor:
        """``[private | action | latent]`` [M, P + A + H] of a state and an action [M, A]."""
        latent = self.phi(torch.cat((self._seen(state), action), -1))
        return torch.cat((state[..., : self.private], action, latent), -1)

    def chance(self, after: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the codes [M, C] and of the afterstate's value [M, 51]; there must be more than one code.

        The odds are linear in what is exact and in the action, and psi adds what bends: a generalised linear model says from few
        rare events how fast they become rarer with the distance of a quote.
        """
        assert self.psi is not None and self.odds is not None
        row = self._seen(after)
        code, value = self.psi(row)
        return code + QUICK * self.odds(row[..., : self.private + self.shape.action]), value

    def outcome(self, after: Tensor, code: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Next market latent [M, H], logits of the reward [M, 51] and of the episode's end [M], for a code as weights [M, C].
        The latent is empty where the account keeps everything."""
        market, reward, end = self.g(torch.cat((self._seen(after), code), -1))
        return unit(market) if self.market else market, reward, end.squeeze(-1)

    def account_after(self, after: Tensor, code: Tensor) -> Tensor:
        """The private columns [M, P] that follow exactly from an afterstate and the number of a code [M]."""
        private, action = after[..., : self.private], after[..., self.private : self.private + self.shape.action]
        return self.account.advance(private, action, code)

    def _seen(self, row: Tensor) -> Tensor:
        """A row with its private columns normalised, as networks read it."""
        if not self.private:
            return row
        return torch.cat((self.normalise(row[..., : self.private], self.columns), row[..., self.private :]), -1)

    def code_of(self, before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
        """Learned code of two observations: one-hot [M, C] whose gradient is the encoder's, and the encoder's answer."""
        assert self.encoder is not None
        answer = self.encoder(torch.cat((self.normalise(before), self.normalise(after)), -1)).softmax(-1)
        hard = torch.zeros_like(answer).scatter_(-1, answer.argmax(-1, keepdim=True), 1.0)
        return hard + answer - answer.detach(), answer

    def reward_of(self, logits: Tensor) -> Tensor:
        return self.support.decode(logits) * self.reward_scale.size

    def value_of(self, logits: Tensor) -> Tensor:
        return self.support.decode(logits) * self.value_scale.size


class SplitPerceptron(nn.Module):
    """A perceptron whose answer is cut into parts of `sizes`; what a part gives `first`, if it is a number, is that number."""

    def __init__(self, inputs: int, sizes: tuple[int, ...], hidden: int, depth: int, first: tuple[float, ...]) -> None:
        super().__init__()
        self.sizes = list(sizes)
        self.body = perceptron(inputs, sum(sizes), hidden, depth)
        last = self.body[-1]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():
            for weight, bias, number in zip(last.weight.split(self.sizes), last.bias.split(self.sizes), first):
                if not math.isnan(number):
                    weight.zero_()
                    bias.fill_(number)

    def forward(self, rows: Tensor) -> tuple[Tensor, ...]:
        return self.body(rows).split(self.sizes, -1)


def perceptron(inputs: int, outputs: int, hidden: int, depth: int) -> nn.Sequential:
    """`depth` hidden layers with LayerNorm and SiLU."""
    layers: list[nn.Module] = []
    for size in [inputs, *[hidden] * (depth - 1)]:
        layers += [nn.Linear(size, hidden), nn.LayerNorm(hidden), nn.SiLU()]
    return nn.Sequential(*layers, nn.Linear(hidden, outputs))


def unit(latent: Tensor) -> Tensor:
    """Each row [..., H] scaled to [0, 1]."""
    low, high = latent.min(-1, keepdim=True).values, latent.max(-1, keepdim=True).values
    return (latent - low) / (high - low).clamp(min=1e-5)
