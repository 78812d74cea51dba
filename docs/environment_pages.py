"""Pages of the environments, made from the environments themselves: a page an id, a page of keyword arguments, an index.

`pages()` gives texts and pictures by path; the documentation's build puts them into its tree (`docs/site_hooks.py`).
"""

from __future__ import annotations

import dataclasses
import inspect
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import gymnasium as gym
import numpy as np

import emp_gym  # noqa: F401  (registers the ids)
from emp_gym.envs import CERTIFICATES, ENVIRONMENTS, certificates, trading
from emp_gym.envs.about import EnvInfo, about
from emp_gym.envs.tasks import rewards
from emp_gym.types import LEAVE, WITHDRAW, Action, Feature

SEED = 7
DECISIONS = 96  # of the episode in a picture
TASKS = {
    "emp-lob-v0": "Trade the book: quote, take, cancel or wait, and keep the position within bounds.",
    "emp-lob-market-making-v0": "Quote both sides of the book all the time: how wide, how far to one side, how large.",
    "emp-lob-execution-v0": "Buy or sell a given quantity before a deadline, for less than the arrival price says.",
}
RULE = re.compile(r"^\s*=+(\s+=+)+\s*$")
DIRECTIVE = re.compile(r"`(emp_gym[\w.]*)`")


def pages() -> dict[str, str | bytes]:
    """Path below `environments/` -> Markdown, or the bytes of a PNG."""
    made: dict[str, str | bytes] = {"index.md": index(), "keywords.md": keywords()}
    for env_id in (*ENVIRONMENTS, *CERTIFICATES):
        with_book = env_id in ENVIRONMENTS
        env = gym.make(env_id, disable_env_checker=True, **({"render_mode": "rgb_array"} if with_book else {}))
        try:
            known = about(env)
            made[f"{env_id}.md"] = (market_page if with_book else certificate_page)(env_id, env, known)
            made[f"{env_id}.png"] = frame(env) if with_book else drawn(env, known)
        finally:
            env.close()
    return made


def names() -> Iterator[str]:
    """Every page of an id, in the order of the navigation."""
    yield from (*ENVIRONMENTS, *CERTIFICATES)


def index() -> str:
    """All ids with what they ask."""
    rows = [(f"[`{env_id}`]({env_id}.md)", TASKS[env_id], ENVIRONMENTS[env_id]["task"]) for env_id in ENVIRONMENTS]
    known = [
        (f"[`{env_id}`]({env_id}.md)", first_sentence(problem_class(env_id).__doc__), "known")
        for env_id in CERTIFICATES
    ]
    return "\n\n".join(
        (
            "# Environments",
            "Every id works with `gym.make` (one lane) and `gym.make_vec` (N lanes natively, the same to the bit in each). The pages of the "
            "ids are made by a program from the environments of this version. Words such as *lane* and *clip* stand in the "
            "[glossary](../glossary.md).",
            "## Order books",
            "Recorded or synthetic days, replayed message by message, with your orders in their exact place in the queue "
            "([market model](../market.md)). All three take the same [keyword arguments](keywords.md).",
            table(("id", "what it asks", "task"), rows),
            "## Certificates: markets whose optimum is known",
            "Small markets with an optimum that a dynamic programme or a closed form gives exactly, to ask of an agent whether it "
            "learns at all ([how agents are certified](../certificates.md)).",
            table(("id", "what it asks", "optimum"), known),
        )
    )


def keywords() -> str:
    """Keyword arguments of the order books and of the certificates, from the docstrings of their modules."""
    parts = [
        "# Keyword arguments",
        "JSON values, the same for `gym.make` and `gym.make_vec`, and on a command line `--set env.KEY=VALUE`.",
    ]
    for title, module in (("Order books", trading), ("Certificates", certificates)):
        text = inspect.cleandoc(module.__doc__ or "")
        parts += [f"## {title}", markdown(text.partition("\n\n")[2])]
    return "\n\n".join(parts)


def market_page(env_id: str, env: Any, known: EnvInfo) -> str:
    """An order book and a task."""
    task, inner = known.task, env.unwrapped
    doc = inspect.cleandoc(type(task).__doc__ or "")
    parts = [
        f"# {env_id}", TASKS[env_id], picture_of(env_id, "An episode of a random policy: touch and own fills, position, equity"),
        code(env_id), facts(env, known), "## Actions", *actions(known, env, doc),
        "## Observation", observation(known.features),
        "## Reward", reward_text(known),
        "## Start and end", start_of_market(known), end_of_market(known),
    ]  # fmt: skip
    parts += ["## Masks", masks(known, inner)]
    parameters = table(
        ("keyword", "default"), [(f"`{name}`", f"`{value!r}`") for name, value in known.parameters.items()]
    )
    parts += [
        "## Keyword arguments",
        "Parameters of the task; what all order books take stands under [keyword arguments](keywords.md).",
        parameters,
        "## Baselines",
        "Rules that are judged beside an agent here ([what they are](../baselines.md)): "
        + ", ".join(f"`{name}`" for name in baselines(env_id)) + ".",
    ]  # fmt: skip
    return "\n\n".join(parts)


def certificate_page(env_id: str, env: Any, known: EnvInfo) -> str:
    """A problem whose optimum is known."""
    problem = known.problem
    doc = markdown(inspect.cleandoc(type(problem).__doc__ or ""))
    optimum, (name, base) = problem.optimal().value, problem.base()
    defaults = [
        (f"`{each.name}`", f"`{getattr(problem, each.name)!r}`", comment_of(type(problem), each.name))
        for each in dataclasses.fields(problem)
    ]
    discrete = isinstance(env.action_space, gym.spaces.Discrete)
    meaning = rung_actions(env) if discrete else control_actions(env, problem)
    return "\n\n".join(
        (
            f"# {env_id}", doc, picture_of(env_id, "An episode of random actions: what is observed, and the sum of rewards"),
            code(env_id), facts(env, known), "## The optimum",
            f"The optimum is **{optimum:.6g}**, the best simple policy, `{name}`, makes {base:.6g}: the scores 1 and 0 of an agent. "
            f"In Python, `env.unwrapped.problem.optimal().value`; [certificates](../certificates.md) says how they are computed.",
            "## Actions", meaning, "## Observation", observation(known.features),
            "## Reward", "In the problem's own unit, as the description says; its sum over an episode is what the optimum is of.",
            "## Start and end",
            "The number of an episode fixes all its noise, whatever a policy does. `reset(options={\"day\": n})` pins that number, "
            f"`stagger` cuts first episodes short at random. An episode terminates after {known.episode} decisions.",
            "## Masks", "None: every action is allowed at any time.", "## Keyword arguments",
            "Parameters of the problem; `split`, `reward` and the others stand under [keyword arguments](keywords.md#certificates).",
            table(("keyword", "default", "meaning"), defaults),
            "## Baselines", "Judged beside an agent here: " + ", ".join(f"`{name}`" for name in baselines(env_id)) + ".",
        )
    )  # fmt: skip


def rung_actions(env: Any) -> str:
    """A taker's positions, or a quoter's two ways."""
    taker = ("flat, the idle action", "short one lot for the coming step", "long one lot for the coming step")
    words = taker if env.action_space.n == len(taker) else ("abstain, the idle action", "quote both sides for one step")
    return table(("action", "meaning"), [(str(i), word) for i, word in enumerate(words)])


def control_actions(env: Any, problem: Any) -> str:
    """What the ends of each number are in the problem's own units."""
    inner, shape = env.unwrapped, (1, *env.action_space.shape)
    low, high = (np.atleast_2d(inner.decode(np.full(shape, end, np.float32)))[0] for end in (-1.0, 1.0))
    rows = [(str(i), what, f"{low[i]:g}", f"{high[i]:g}") for i, what in enumerate(type(problem).action)]
    return table(("number", "what [unit]", "at -1", "at +1"), rows)


def facts(env: Any, known: EnvInfo) -> str:
    """Spaces and length."""
    rows = [
        ("action space", f"`{env.action_space}`"),
        ("observation space", f"`{env.observation_space}`"),
        ("decisions an episode", str(known.episode)),
    ]
    if known.clock is not None:
        rows.append(
            (
                "from decision to decision",
                f"{known.clock.count:,} {known.clock.unit}s" if known.clock.count else f"{known.clock.ns:,} ns",
            )
        )
    return table(("property", "value"), rows)


def actions(known: EnvInfo, env: Any, doc: str) -> Iterator[str]:
    """What the numbers mean."""
    if known.actions:
        yield "A clip is `order_quantity`; *touch* is the best price of a side, +1 one tick behind it." + (
            " *Own side* is that of the parent order." if known.relative else ""
        )
        sides = ("own side", "other side") if known.relative else ("bid", "ask")
        rows = [
            (str(i), entry.name, placed(entry.bid), placed(entry.ask), taken(entry, known.relative))
            for i, entry in enumerate(known.actions)
        ]
        yield table(("action", "name", *sides, "besides"), rows)
        return
    low, high = np.asarray(env.action_space.low), np.asarray(env.action_space.high)
    yield table(
        ("number", "name", "from", "to"),
        [(str(i), name, f"{low[i]:g}", f"{high[i]:g}") for i, name in enumerate(known.levers)],
    )
    yield markdown(doc.partition("\n\n")[2])


def placed(level: int) -> str:
    if level == LEAVE:
        return "as it is"
    return "none" if level == WITHDRAW else "touch" if level == 0 else f"touch {level:+d}"


def taken(entry: Action, relative: bool) -> str:
    """What an action does besides quoting."""
    said = ["cancels everything first"] if entry.cancel else []
    if entry.take:
        clips = f"{abs(entry.take)} clip" + ("s" if abs(entry.take) > 1 else "")
        said.append(f"takes {clips}" if relative else f"{'buys' if entry.take > 0 else 'sells'} {clips} at the market")
    if entry.to is not None:
        said.append(
            "closes the position at the market" if entry.to == 0 else f"trades to {entry.to} clips at the market"
        )
    return ", ".join(said)


def observation(features: Sequence[Feature]) -> str:
    """Every column."""
    rows = [
        (
            str(i),
            f"`{each.name}`",
            each.unit,
            each.transform.replace("_", " "),
            f"{each.scale:g}",
            f"{each.low:g} to {each.high:g}",
        )
        for i, each in enumerate(features)
    ]
    told = "`float32`, one column a feature: value = transform(quantity in its unit) / scale, clipped to the range; *signed log* is sign(x) · log(1 + |x|)."
    return told + "\n\n" + table(("column", "feature", "unit", "transform", "scale", "range"), rows)


def reward_text(known: EnvInfo) -> str:
    """The reward of the id, and others by name."""
    others = {
        "pnl": rewards.Pnl, "inventory": rewards.Inventory, "damped": rewards.Damped, "shortfall": rewards.Shortfall,
    }  # fmt: skip
    own = others.get(known.reward or "")
    said = "" if own is None else " " + first_sentence(own.__doc__)
    rows = [
        (f"`{name}`", first_sentence(kind.__doc__))
        for name, kind in others.items()
        if (name == "shortfall") == (known.reward == "shortfall")
    ]
    text = f'`reward="{known.reward}"`, in {known.reward_unit}.{said}'
    return (
        text
        if len(rows) == 1
        else f"{text} By name there are:\n\n"
        + table(("reward", "what a step is worth"), rows)
        + "\n\nOr [your own](../own_reward.md)."
    )


def start_of_market(known: EnvInfo) -> str:
    return (
        'An episode begins at a random message of a random day of the split (`split="train"` or `"test"`, cut by time: '
        "[which rows are held out](../evaluation.md#which-rows-are-held-out)), with no position, no orders and no cash. "
        '`reset(options={"day": d, "start": row})` pins it; `stagger` lets lanes begin within an episode, so that they do not all end together.'
    )


def end_of_market(known: EnvInfo) -> str:
    if known.relative:
        return (
            f"The episode terminates when the parent order is done or after {known.episode} decisions, when what remains is taken from the book. "
            'The step that ends it has `info["summary"]`.'
        )
    return (
        f"The episode is truncated after {known.episode} decisions; then everything is cancelled and the position closed at the book's prices, for which "
        'the last reward pays. The step that ends it has `info["summary"]`.'
    )


def masks(known: EnvInfo, inner: Any) -> str:
    if known.levers:
        return "None: actions are numbers, and a side that would exceed `max_position` is cut or withdrawn."
    return (
        '`info["action_mask"]` (bool, one entry an action; `env.unwrapped.action_masks()` for sb3-contrib\'s `MaskablePPO`) forbids what the position limit, '
        "a halt or an empty side forbids. A masked action is executed as action 0 and counted in the summary (`masked`)."
    )


def code(env_id: str) -> str:
    return f"""```python
import gymnasium as gym
import emp_gym

env = gym.make("{env_id}")
observation, info = env.reset(seed=7)
observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
env.close()
```"""


def picture_of(env_id: str, words: str) -> str:
    return f"![{words}]({env_id}.png)"


def frame(env: Any) -> bytes:
    """A frame of a played episode, as Gymnasium renders it."""
    from PIL import Image

    env.reset(seed=SEED, options={"day": 0})
    chosen = np.random.default_rng(SEED)
    for _ in range(DECISIONS):
        mask = env.unwrapped.mask[0]
        discrete = isinstance(env.action_space, gym.spaces.Discrete)
        action = (
            chosen.choice(np.flatnonzero(mask))
            if discrete
            else chosen.uniform(-0.8, 0.4, env.action_space.shape).astype(np.float32)
        )
        if any(env.step(action)[2:4]):
            break
    out = io.BytesIO()
    Image.fromarray(np.asarray(env.render())).save(out, "PNG", optimize=True)
    return out.getvalue()


def drawn(env: Any, known: EnvInfo) -> bytes:
    """Observations and the sum of rewards of an episode of random actions."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    observed, _ = env.reset(seed=SEED)
    env.action_space.seed(SEED)
    seen, earned, over = [observed], [0.0], False
    while not over:
        observed, reward, terminated, truncated, _ = env.step(env.action_space.sample())
        over = terminated or truncated
        seen.append(observed)
        earned.append(earned[-1] + float(reward))
    figure = Figure(figsize=(7, 4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, 1, sharex=True)
    steps = np.arange(len(seen))
    for column, each in enumerate(known.features):
        upper.step(
            steps[:-1], np.array(seen)[:-1, column], where="post", label=each.name.replace("_", " "), linewidth=1.2
        )
    upper.legend(fontsize=7, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    upper.set_ylabel("observation")
    lower.plot(steps, earned, color="#20242c", linewidth=1.4)
    lower.axhline(0.0, color="#d9dde3", linewidth=0.8)
    lower.set_ylabel("sum of rewards")
    lower.set_xlabel("decision")
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()


def baselines(env_id: str) -> tuple[str, ...]:
    from emp_gym.agents import registry

    return tuple(registry.baselines(env_id))


def problem_class(env_id: str) -> type:
    from emp_gym.evaluation.optimal import PROBLEMS

    return PROBLEMS[CERTIFICATES[env_id]]


def comment_of(owner: type, name: str) -> str:
    """What the source says behind a field, here or in a class above."""
    for kind in owner.__mro__[:-1]:
        try:
            source = inspect.getsource(kind)
        except OSError:
            continue
        if found := re.search(rf"^    {name}: [^#\n]*#\s*(.+)$", source, re.MULTILINE):
            return found[1].replace("|", "\\|")
    return ""


def paragraph(doc: str | None) -> str:
    """The first one, on a line."""
    return " ".join(inspect.cleandoc(doc or "").partition("\n\n")[0].split())


def first_sentence(doc: str | None) -> str:
    return re.split(r"(?<=\.)\s", paragraph(doc))[0]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def markdown(text: str) -> str:
    """A docstring's simple tables and double backticks as Markdown; indented formulas become code."""
    lines, out = text.split("\n"), []
    i = 0
    while i < len(lines):
        if RULE.match(lines[i]):
            i, rows = grid(lines, i)
            out += ["", table(rows[0], rows[1:]), ""]
        elif lines[i].startswith("    ") and (not out or not out[-1].strip()):
            out.append("```text")
            while i < len(lines) and (lines[i].startswith("    ") or not lines[i].strip()):
                out.append(lines[i].removeprefix("    "))
                i += 1
            while not out[-1].strip():
                out.pop()
            out += ["```", ""]
        else:
            out.append(lines[i].replace("``", "`"))
            i += 1
    return "\n".join(out).strip()


def grid(lines: list[str], i: int) -> tuple[int, list[list[str]]]:
    """A simple table from its first rule on: the line after it, and its rows, continued ones joined."""
    spans = [(m.start(), m.end()) for m in re.finditer(r"=+", lines[i])]
    bounds = [(begin, spans[k + 1][0] if k + 1 < len(spans) else None) for k, (begin, _) in enumerate(spans)]
    rows: list[list[str]] = []
    seen = 1
    while seen < 3:
        i += 1
        if RULE.match(lines[i]):
            seen += 1
            continue
        cells = [lines[i][a:b].strip() for a, b in bounds]
        if cells[0] or not rows:
            rows.append(cells)
        else:
            rows[-1] = [f"{old} {new}".strip() for old, new in zip(rows[-1], cells, strict=True)]
    code_first = [rows[0], *([f"`{row[0]}`", *row[1:]] for row in rows[1:])]
    return i + 1, [[cell.replace("``", "`").replace("|", "\\|") for cell in row] for row in code_first]
