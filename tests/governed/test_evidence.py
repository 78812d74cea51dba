"""What an execution counts while it plays."""

from __future__ import annotations

import numpy as np

from emp_gym.envs.base_env import Published
from emp_gym.governed import evidence


class Verdict:
    """One lane, two orders: one cut by a control, one that passed in spite of it."""

    reason = np.array([[1 << 18, 1 << 18, 1 << 23]], np.uint64)
    quantity_before, quantity_after, touched = np.array([[5, 5, 5]]), np.array([[2, 5, 5]]), True


def test_a_breach_is_an_order_that_was_sent_whole_against_a_control_limit() -> None:
    class Env(Published):
        last_verdicts = [Verdict()]  # type: ignore[assignment]

        @property
        def unwrapped(self) -> Env:
            return self

    watch = evidence.ObjectionCounter()
    watch(Env(), np.array([True]))
    assert watch.breaches == 1 and watch.reasons == {"bit 18": 2, "bit 23": 1}
    watch(Env(), np.array([False]))
    assert watch.breaches == 1
