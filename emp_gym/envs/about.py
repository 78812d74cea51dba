"""What an environment is, asked in one place: a market of ours, a certificate, or an environment of somebody else."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

import gymnasium as gym
from gymnasium.envs.registration import load_env_creator

from emp_gym.types import Action, Feature, Instrument

if TYPE_CHECKING:  # what asks must not load what it is told of
    from emp_gym.data.tape.tape_set import TapeSet
    from emp_gym.evaluation.assumptions import Assumptions
    from emp_gym.market.clock import Clock
    from emp_gym.market.starts import Starts

MARKET, CERTIFICATE, FOREIGN = "market", "certificate", "foreign"


@dataclass(frozen=True)
class EnvInfo:
    """What is known of an environment besides Gymnasium's own. None, or empty: it has no such thing, or does not say it."""

    kind: str  # MARKET: an order book of ours, CERTIFICATE: its optimum is known, FOREIGN: of somebody else
    env_id: str
    features: tuple[Feature, ...] = ()  # columns of the observation
    task: Any = None  # a dataclass of its parameters
    days: TapeSet | None = None  # that it is on
    starts: Starts | None = None  # of its split
    clock: Clock | None = None  # from decision to decision
    episode: int = 0  # decisions
    assumes: Assumptions | None = None  # of its own orders; None: there is no book in which fills are an assumption
    problem: Any = None  # of a certificate: closed form and dynamic programme
    windows: Callable[..., list[tuple[int, int]]] | None = None  # (day, start) of disjoint episodes; ``windows(n)`` picks n
    menu: tuple[str, ...] = ()  # names of its actions, where it has such
    actions: tuple[Action, ...] = ()  # what they do, where the task says it in a table
    relative: bool = False  # whether that table speaks of a parent order's side instead of bid and ask
    levers: tuple[str, ...] = ()  # names of the numbers that an action is instead
    reward: str | None = None  # its name
    reward_unit: str = ""  # in words; "" where it does not say it
    reward_parameters: Mapping[str, Any] = field(default_factory=dict)  # by keyword
    constant_features: tuple[str, ...] = ()  # columns that may stay constant for long
    first_observations: int = 8  # how many different ones there are; 8 stands for any number
    requests: int = 0  # orders that a lane may send at a time
    threads: int = 1  # that it runs on
    market: str = ""  # of somebody else, "module:Class"; "" for ours
    market_setting: Mapping[str, Any] = field(default_factory=dict)  # keywords of such a one, defaults too
    instruments: tuple[Instrument, ...] = ()  # that are traded

    @property
    def data_hash(self) -> str | None:
        """Of its days, where they have one."""
        return getattr(self.days, "hash", None)

    @property
    def simulated(self) -> bool:
        """Whether it is a market without recorded days, all told."""
        return self.kind == MARKET and self.days is None and self.starts is not None

    @property
    def parameters(self) -> dict[str, Any]:
        """The task's, by name."""
        return {each.name: getattr(self.task, each.name) for each in fields(self.task)} if is_dataclass(self.task) else {}

    def for_agents(self) -> EnvInfo:
        """Without days, their starts and solved problems: ``spec.about``, which an agent may read, copy and pickle."""
        return replace(self, task=copy.copy(self.task), days=None, starts=None, problem=None, windows=None)

    @property
    def truth(self) -> bool:
        """Whether a signal was planted in its days, which an oracle reads."""
        return self.days is not None and self.days.signal is not None


class Described:
    """An environment that says itself what it is."""

    kind: str

    @property
    def about(self) -> EnvInfo:
        raise NotImplementedError(f"{type(self).__qualname__} must define about")


def about(env: Any) -> EnvInfo:
    """What `env`, wrapped or not, is. Of an environment of somebody else this is what it says by the attributes `features`, `task`,
    `tape_set`, `problem`, `windows`, `constant_features` and `starts`."""
    inner = env.unwrapped
    if isinstance(inner, Described):
        return inner.about
    spec, starts, windows = (getattr(inner, name, None) for name in ("spec", "starts", "windows"))
    task = getattr(inner, "task", None)
    relative, reward = (getattr(task, name, None) for name in ("relative", "reward"))
    actions = tuple(entry for entry in _listed(task, "actions") if isinstance(entry, Action))
    return EnvInfo(
        FOREIGN, type(inner).__name__ if spec is None else spec.id, _listed(inner, "features"), task, getattr(inner, "tape_set", None),
        problem=getattr(inner, "problem", None), windows=windows if callable(windows) else None, menu=_listed(task, "menu"),
        actions=actions, relative=relative is True, levers=_listed(task, "levers"),
        reward=reward,
        constant_features=_listed(inner, "constant_features"), first_observations=starts if isinstance(starts, int) else 8,
    )  # fmt: skip


def kind_of(env_id: str) -> str:
    """The kind of a registered environment, which is not made for it."""
    entry: Any = gym.spec(env_id).entry_point
    made = load_env_creator(entry) if isinstance(entry, str) else entry
    return made.kind if isinstance(made, type) and issubclass(made, Described) else FOREIGN


def told_by(spec: Any) -> EnvInfo:
    """What ``spec.about`` says, that of an environment of somebody else too; next to nothing where there is none."""
    told = getattr(spec, "about", None)
    return told if isinstance(told, EnvInfo) else EnvInfo(FOREIGN, str(getattr(spec, "id", "this environment")))


def _listed(owner: Any, name: str) -> tuple[Any, ...]:
    """What `owner` lists under `name`; nothing where it means something else by it."""
    told = getattr(owner, name, ())
    return tuple(told) if isinstance(told, list | tuple | set | frozenset) else ()
