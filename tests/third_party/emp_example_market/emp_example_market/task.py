"""A task: hold one of five positions."""

from dataclasses import dataclass

from emp_gym.extend import Action, Task


@dataclass
class Position(Task):
    """Holds -2 to +2 clips: each action but the first is a target, traded to at the market."""

    actions = (Action("keep"), *(Action(f"hold {clips:+d}", to=clips, cancel=True) for clips in range(-2, 3)))
    features = ("book", "flow", "clock", "account")
    rewards = ("pnl", "inventory")
