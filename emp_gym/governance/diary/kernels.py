"""What a diary does once a step for every lane, compiled: it must not slow training down."""

from __future__ import annotations

import numpy as np

from emp_gym.jit import hot
from emp_gym.types import RequestType

NONE = int(RequestType.NONE)
MASKED, TERMINATED, TRUNCATED, SETTLED = 1, 2, 4, 8  # as in diary_blocks
PRIME = np.uint64(0x9E3779B185EBCA87)
SHIFT = np.uint64(32)


@hot
def hash_lanes(lanes, words, out):
    """Writes the hash of rows `lanes` of u4 [N, D] into out [N]; `diary_blocks.hash_rows` says which."""
    size = words.shape[1]
    for j in range(len(lanes)):
        i = lanes[j]
        h = np.uint64(size)
        for k in range(0, size - 1, 2):
            h = (h ^ (np.uint64(words[i, k]) | (np.uint64(words[i, k + 1]) << SHIFT))) * PRIME
            h ^= h >> SHIFT
        if size % 2:
            h = (h ^ np.uint64(words[i, size - 1])) * PRIME
            h ^= h >> SHIFT
        out[i] = h


@hot
def _put(entry, at, slot, kind, record):
    entry["at"], entry["slot"], entry["kind"] = at, slot, kind
    entry["price"], entry["quantity"], entry["id"] = record["price"], record["quantity"], record["id"]
    entry["target"], entry["instrument"], entry["side"] = record["target"], record["instrument"], record["side"]


@hot
def _same(kind, a, b):
    """Whether two requests of one kind ask for the same."""
    if kind == NONE:
        return True
    same = a["price"] == b["price"] and a["quantity"] == b["quantity"] and a["id"] == b["id"]
    return same and a["target"] == b["target"] and a["instrument"] == b["instrument"] and a["side"] == b["side"]


@hot
def decide(
    used, step, moved, masked, hashes, latch, time_ns, decision, day, row, regime,
    kinds, records, sent_kinds, sent_records, changed, decisions, orders, sent, place,
):  # fmt: skip
    """Notes the decisions of the lanes that `moved` [N]: used [3] counts decisions, orders and sent; place [N] is where
    each lane's decision stands, -1 for none."""
    for i in range(len(moved)):
        place[i] = -1
        if not moved[i]:
            continue
        at = used[0]
        place[i] = at
        used[0] += 1
        entry = decisions[at]
        entry["step"], entry["lane"], entry["time_ns"], entry["decision"] = step, i, time_ns[i], decision[i]
        entry["observation"], entry["day"], entry["row"], entry["regime"] = hashes[i], day[i], row[i], regime[i]
        entry["latch"], entry["flags"], entry["reward"], entry["pnl2"] = latch[i], MASKED if masked[i] else 0, 0.0, 0
        for k in range(kinds.shape[1]):
            kind = kinds[i, k]
            if kind != NONE:
                _put(orders[used[1]], at, k, kind, records[i, k])
                used[1] += 1
            if changed and (sent_kinds[i, k] != kind or not _same(kind, records[i, k], sent_records[i, k])):
                if sent_kinds[i, k] == NONE:  # dropped: its own record has no meaning any more
                    _put(sent[used[2]], at, k, NONE, records[i, k])
                else:
                    _put(sent[used[2]], at, k, sent_kinds[i, k], sent_records[i, k])
                used[2] += 1


@hot
def settle(place, reward, terminated, truncated, equity2, before2, decisions):
    """Notes what became of the decisions at place [N]; before2 [N] keeps twice the equity, for the next time."""
    for i in range(len(place)):
        if place[i] >= 0:
            entry = decisions[place[i]]
            entry["reward"] = reward[i]
            entry["pnl2"] = equity2[i] - (before2[i] if entry["decision"] > 0 else 0)  # an episode begins with nothing
            flags = entry["flags"] | SETTLED
            if terminated[i]:
                flags |= TERMINATED
            if truncated[i]:
                flags |= TRUNCATED
            entry["flags"] = flags
        before2[i] = equity2[i]


@hot
def fill(used, place, lane, row, time_ns, ids, side, price, quantity, fee, maker, beyond_depth, instrument, fills):
    """Notes the executions [F] of the step; used [1] counts them."""
    for j in range(len(lane)):
        if place[lane[j]] < 0:
            continue
        entry = fills[used[0]]
        entry["at"], entry["row"], entry["time_ns"], entry["id"] = place[lane[j]], row[j], time_ns[j], ids[j]
        entry["side"], entry["price"], entry["quantity"], entry["fee"] = side[j], price[j], quantity[j], fee[j]
        entry["maker"], entry["beyond_depth"], entry["instrument"] = maker[j], beyond_depth[j], instrument[j]
        used[0] += 1
