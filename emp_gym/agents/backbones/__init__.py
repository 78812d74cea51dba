"""Encoders of observations, by name: feed-forward, recurrent, convolutional over book levels, and state-space.

`encoder` makes one, `NAMES` lists them, `Encoder` says what all of them promise.
"""

from emp_gym.extras import told

try:
    from emp_gym.agents.backbones.base import NAMES, Encoder, State, encoder
except ModuleNotFoundError as error:
    raise told(error) or error from error

__all__ = ["NAMES", "Encoder", "State", "encoder"]
