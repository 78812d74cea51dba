"""The recurrence behind both state-space encoders, as a scan over chunks: a few matrix products instead of T small steps.

For one head, with a state h of S keys by P values:

    h_t = a_t (h_{t-1} + e_t k_{t-1} v_{t-1}^T) + g_t k_t v_t^T,        y_t = q_t h_t,        a_t = exp(log_decay_t) <= 1

Every write j is read at i > j with the weight s_j = g_j + e_{j+1} and the decay between them, and at i = j with g_j, so

    y_i = sum_{j < i} exp(c_i - c_j) s_j (q_i . k_j) v_j + g_i (q_i . k_i) v_i,        c = cumsum(log_decay)

which is a masked matrix product inside a chunk, and between chunks a state that is carried. Mamba-2 is e = 0 and g = Delta
(Dao & Gu 2024, arXiv 2405.21060, section 6: block decomposition of a semiseparable matrix); Mamba-3 is the trapezoid with
e_t = (1 - lambda_t) Delta_t and g_t = lambda_t Delta_t (Lahoti et al. 2026, arXiv 2603.15569).

The cumulative sums begin anew in every chunk: in float32 a sum over the whole sequence would lose the digits that the difference
c_i - c_j needs. Where an episode begins inside a chunk, pairs (i, j) of different episodes are masked, and so are the carried
state and what the chunk adds to it; decays are never set to a large negative number, which would spoil the sums after it. y_i
touches nothing after i, not even to cancel it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional


def scan(
    query: Tensor, key: Tensor, value: Tensor, log_decay: Tensor, own: Tensor, late: Tensor | None,
    fresh: Tensor, carry: Tensor, chunk: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Reads y [T, N, H, P] and the last state h [N, H, S, P]. Letters: T decisions, N lanes, H heads, S keys, P values.

    `query`, `key` [T, N, H, S], or [T, N, 1, S] shared by all heads; `value` [T, N, H, P]; `log_decay` (<= 0), `own` (g) and
    `late` (e; None: 0) [T, N, H]; `fresh` bool [T, N]: an episode begins, nothing before it is seen; `carry` [N, H, S, P]: the
    state before the first decision, with the late write of the decision before it in it (h_{-1} + e_0 k_{-1} v_{-1}^T).
    """
    chunk = -(-len(fresh) // -(-len(fresh) // chunk))  # as many chunks, as even as can be
    weight = own if late is None else own + functional.pad(late[1:], (0, 0, 0, 0, 0, 1))
    y, last = _Scan.apply(query, key, value * weight.unsqueeze(-1), log_decay, fresh, carry, chunk)
    return torch.addcmul(y, (query * key).sum(dim=-1, keepdim=True) * own.unsqueeze(-1), value), last


class _Scan(torch.autograd.Function):
    """The sum over j < i of weighted values, and the carried state. Backwards is written by hand: with A the masked matrix of
    a chunk, the gradient of c_i is (q_i . dq_i) - (k_i . dk_i), so no other matrix of chunk by chunk is ever differentiated.
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, log_decay: Tensor, fresh: Tensor, carry: Tensor, chunk: int
    ) -> tuple[Tensor, Tensor]:
        steps = len(fresh)
        query, key, value = (_chunks(part, chunk) for part in (query, key, value))  # [K, N, H, C, X]
        total = _chunks(log_decay.unsqueeze(-1), chunk).cumsum(dim=-2)  # [K, N, H, C, 1]: c
        episode = _chunks(fresh[..., None, None].to(total.dtype), chunk).cumsum(dim=-2)  # begun in this chunk so far
        apart = torch.ones(chunk, chunk, dtype=torch.bool, device=fresh.device).triu() | (episode != episode.mT)
        between = (total - total.mT).masked_fill_(apart, -torch.inf).exp_()  # [K, N, H, C, C]
        last, latest = total[..., -1:, :], episode[..., -1:, :]
        from_start = total.masked_fill(episode > 0, -torch.inf).exp_()
        to_end = (last - total).masked_fill_(episode != latest, -torch.inf).exp_()
        through = last.masked_fill(latest > 0, -torch.inf).exp_()  # [K, N, H, 1, 1]
        states = torch.empty(len(total) + 1, *carry.shape, dtype=carry.dtype, device=carry.device)
        states[0] = carry
        added = (key * to_end).mT @ value  # [K, N, H, S, P]
        for number, addition in enumerate(added):
            torch.addcmul(addition, through[number], states[number], out=states[number + 1])
        masked = (query @ key.mT) * between
        y = (masked @ value).add_((query * from_start) @ states[:-1])
        ctx.save_for_backward(query, key, value, between, masked, from_start, to_end, through, states)
        ctx.steps = steps
        return _steps(y, steps), states[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor, grad_last: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, between, masked, from_start, to_end, through, states = ctx.saved_tensors
        grad_y = _chunks(grad_y, query.shape[-2])
        grad_states = (query * from_start).mT @ grad_y  # of the state before each chunk, from what the chunk reads
        grad_added = torch.empty_like(grad_states)
        for number in range(len(grad_states) - 1, -1, -1):
            grad_added[number] = grad_last
            grad_last = torch.addcmul(grad_states[number], through[number], grad_last)
        grad_masked = (grad_y @ value.mT).mul_(between)
        grad_query = (grad_masked @ key).add_((grad_y @ states[:-1].mT).mul_(from_start))
        late_key = (value @ grad_added.mT).mul_(to_end)  # of keys, through the state at the end of the chunk
        grad_key = (grad_masked.mT @ query).add_(late_key)
        grad_value = (masked.mT @ grad_y).add_((key * to_end) @ grad_added)
        grad_total = ((query * grad_query).sum(-1) - (key * grad_key).sum(-1)).unsqueeze_(-1)  # [K, N, H, C, 1]
        at_end = (key * late_key).sum((-2, -1)) + through[..., 0, 0] * (grad_added * states[:-1]).sum((-2, -1))
        grad_total[..., -1, 0] += at_end
        grad_decay = grad_total.flip(-2).cumsum(dim=-2).flip(-2)
        grads = grad_query.sum_to_size(query.shape), grad_key.sum_to_size(key.shape), grad_value, grad_decay
        query_, key_, value_, decay_ = (_steps(part, ctx.steps) for part in grads)
        return query_, key_, value_, decay_.squeeze(-1), None, grad_last, None


def _chunks(x: Tensor, chunk: int) -> Tensor:
    """[T, N, H, X] as [K, N, H, C, X], zeros at the end: these decay nothing, write nothing, and their outputs are dropped."""
    missing = -len(x) % chunk
    if missing:
        x = functional.pad(x, (0, 0) * (x.dim() - 1) + (0, missing))
    return x.unflatten(0, (-1, chunk)).permute(0, 2, 3, 1, 4).contiguous()


def _steps(y: Tensor, steps: int) -> Tensor:
    """[K, N, H, C, X] as [T, N, H, X]."""
    return y.permute(0, 3, 1, 2, 4).flatten(0, 1)[:steps]
