"""Makes the golden cases beside it with mctx, in an environment of its own: ``pip install mctx==0.0.71`` and then
``python tests/agents/muzero/golden/recipe.py``. Nothing in the package or in its tests needs mctx or jax.

gumbel.npz: searches of ``mctx.gumbel_muzero_policy`` in random tabular worlds without chance. stochastic.npz: searches of
``mctx.stochastic_muzero_policy`` with a single action, so that nothing but its rule for chance decides.
"""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import mctx
import numpy as np

HERE = Path(__file__).parent
STATES = 24
LANES = 6

CASES = {  # name: actions, simulations, most considered, share of masked actions, value_scale, visit_offset, q_floor
    "one-simulation": (5, 1, 16, 0.0, 0.1, 50.0, 1e-8),
    "two-actions": (2, 9, 16, 0.0, 0.1, 50.0, 1e-8),
    "fewer-simulations-than-actions": (9, 6, 16, 0.0, 0.1, 50.0, 1e-8),
    "usual": (9, 16, 16, 0.0, 0.1, 50.0, 1e-8),
    "many-simulations": (6, 100, 16, 0.0, 0.1, 50.0, 1e-8),
    "more-actions-than-considered": (20, 32, 16, 0.0, 0.1, 50.0, 1e-8),
    "few-considered": (11, 24, 3, 0.0, 0.1, 50.0, 1e-8),
    "one-considered": (4, 5, 1, 0.0, 0.1, 50.0, 1e-8),
    "masked": (9, 16, 16, 0.5, 0.1, 50.0, 1e-8),
    "masked-many": (7, 50, 16, 0.7, 0.1, 50.0, 1e-8),
    "masked-and-few-considered": (12, 20, 4, 0.4, 0.1, 50.0, 1e-8),
    "another-scale": (5, 40, 16, 0.0, 1.0, 10.0, 1e-8),
    "a-floor": (5, 40, 16, 0.2, 0.1, 50.0, 4.0),
}
CHANCE = {"coin": (2, 12), "usual": (12, 40), "many": (5, 100)}  # name: codes, simulations


def gumbel_case(seed, actions, simulations, considered, masked, value_scale, visit_offset, q_floor):
    """One random world and what mctx does in it."""
    random = np.random.default_rng(seed)
    world = {
        "logits": random.normal(0, 1.5, (STATES, actions)).astype(np.float32),
        "value": random.normal(0, 1, STATES).astype(np.float32),
        "reward": random.normal(0, 1, (STATES, actions)).astype(np.float32),
        "discount": np.where(random.random((STATES, actions)) < 0.1, 0, random.uniform(0.9, 1, (STATES, actions))).astype(np.float32),
        "follows": random.integers(0, STATES, (STATES, actions)).astype(np.int32),
        "root": random.integers(0, STATES, LANES).astype(np.int32),
    }
    mask = random.random((LANES, actions)) >= masked
    mask[np.arange(LANES), random.integers(0, actions, LANES)] = True
    table = {name: jnp.asarray(array) for name, array in world.items()}

    def step(params, key, action, state):
        after = table["follows"][state, action]
        return mctx.RecurrentFnOutput(
            reward=table["reward"][state, action], discount=table["discount"][state, action],
            prior_logits=table["logits"][after], value=table["value"][after],
        ), after  # fmt: skip

    root = mctx.RootFnOutput(
        prior_logits=table["logits"][table["root"]], value=table["value"][table["root"]], embedding=table["root"]
    )
    scale = {"value_scale": value_scale, "maxvisit_init": visit_offset, "epsilon": q_floor}
    found = mctx.gumbel_muzero_policy(
        (), jax.random.PRNGKey(seed), root, step, simulations, invalid_actions=jnp.asarray(~mask),
        max_num_considered_actions=considered, qtransform=partial(mctx.qtransform_completed_by_mix_value, **scale),
    )  # fmt: skip
    summary = found.search_tree.summary()
    return world | {
        "mask": mask,
        "config": np.array([simulations, considered, value_scale, visit_offset, q_floor]),
        "gumbel": found.search_tree.extra_data.root_gumbel,
        "action": np.asarray(found.action, np.int32),
        "weights": found.action_weights,
        "visits": np.asarray(summary.visit_counts, np.int32),
        "q": summary.qvalues,
        "mean": summary.value,
    }


def chance_case(seed, codes, simulations):
    """A random world with one action, and the tree that mctx grows in it: visits, parent and edge of every node."""
    random = np.random.default_rng(seed)
    world = {
        "chance": random.dirichlet(np.full(codes, 0.7), STATES).astype(np.float32),
        "after_value": random.normal(0, 1, STATES).astype(np.float32),
        "value": random.normal(0, 1, STATES).astype(np.float32),
        "reward": random.normal(0, 1, (STATES, codes)).astype(np.float32),
        "follows": random.integers(0, STATES, (STATES, codes)).astype(np.int32),
        "root": random.integers(0, STATES, LANES).astype(np.int32),
    }
    table = {name: jnp.asarray(array) for name, array in world.items()}

    def decide(params, key, action, state):
        return mctx.DecisionRecurrentFnOutput(
            chance_logits=jnp.log(table["chance"][state]), afterstate_value=table["after_value"][state]
        ), state

    def happen(params, key, code, after):
        state = table["follows"][after, code]
        return mctx.ChanceRecurrentFnOutput(
            action_logits=jnp.zeros((*state.shape, 1)), value=table["value"][state],
            reward=table["reward"][after, code], discount=jnp.full(state.shape, 0.97),
        ), state  # fmt: skip

    root = mctx.RootFnOutput(
        prior_logits=jnp.zeros((LANES, 1)), value=table["value"][table["root"]], embedding=table["root"]
    )
    tree = mctx.stochastic_muzero_policy((), jax.random.PRNGKey(seed), root, decide, happen, simulations).search_tree
    return world | {
        "visits": np.asarray(tree.node_visits, np.int32),
        "parent": np.asarray(tree.parents, np.int32),
        "edge": np.asarray(tree.action_from_parent, np.int32),
    }


def save(name, cases):
    arrays = {f"{case}/{key}": np.asarray(array) for case, arrays in cases.items() for key, array in arrays.items()}
    np.savez_compressed(HERE / name, **arrays)


if __name__ == "__main__":
    save("gumbel.npz", {name: gumbel_case(seed, *case) for seed, (name, case) in enumerate(CASES.items())})
    save("stochastic.npz", {name: chance_case(seed, *case) for seed, (name, case) in enumerate(CHANCE.items())})
