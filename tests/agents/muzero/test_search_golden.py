"""The same inputs as mctx was given, the same visits: data of golden/recipe.py."""

from pathlib import Path

import numpy as np
import pytest
from tabular import Tabular

from emp_gym.agents.muzero.gumbel import NONE
from emp_gym.agents.muzero.search import SearchConfig, _SearchRun, search

GOLDEN = Path(__file__).parent / "golden"


def cases(name):
    found = {}
    with np.load(GOLDEN / name) as arrays:
        for key in arrays:
            case, array = key.split("/")
            found.setdefault(case, {})[array] = arrays[key]
    return found


def without_chance(case):
    logits = case["logits"]
    return Tabular(
        logits, case["value"], np.ones((*logits.shape, 1)), case["reward"][:, :, None], case["discount"][:, :, None],
        case["follows"][:, :, None], np.zeros(logits.shape),
    )  # fmt: skip


def run(case, **changes):
    simulations, considered, value_scale, visit_offset, q_floor = case["config"]
    config = dict(
        simulations=int(simulations), max_considered=int(considered), value_scale=value_scale, visit_offset=visit_offset,
        q_floor=q_floor, root_expansion=False,
    )  # fmt: skip
    world = without_chance(case)
    return search(world.root(case["root"], case["mask"]), world, SearchConfig(**config | changes), case["gumbel"])


@pytest.mark.parametrize(("name", "case"), cases("gumbel.npz").items(), ids=lambda value: value if isinstance(value, str) else "")
def test_visits_are_those_of_mctx_and_weights_within_1e_5(name, case):
    found = run(case)
    np.testing.assert_array_equal(found.visits, case["visits"])
    np.testing.assert_array_equal(found.action, case["action"])
    np.testing.assert_allclose(found.weights, case["weights"], atol=1e-5)
    seen = case["visits"] > 0
    np.testing.assert_allclose(found.q[seen], case["q"][seen], atol=1e-5)
    root = case["value"][case["root"]].astype(float)
    mean = (root + (found.visits * found.q).sum(axis=1)) / (1 + found.visits.sum(axis=1))
    np.testing.assert_allclose(mean, case["mean"], atol=1e-5, err_msg="mctx's value of the root")


@pytest.mark.parametrize("change", [{"value_scale": 0.2}, {"visit_offset": 0.0}, {"q_floor": 3.0}, {"max_considered": 2}])
def test_the_golden_cases_notice_another_constant(change):
    case = cases("gumbel.npz")["usual"]
    found = run(case, **change)
    same = np.array_equal(found.visits, case["visits"]) and np.allclose(found.weights, case["weights"], atol=1e-5)
    assert not same


def visits_by_path(parent, edge, visits):
    """path of edges from the root -> visits, of one tree."""

    def path(node):
        return () if node == 0 else (*path(parent[node]), int(edge[node]))

    return {path(node): int(n) for node, n in enumerate(visits) if node == 0 or parent[node] != NONE}


def paths_of(tree, lane, simulations):
    """The same of ours: afterstates and states in turn, actions counted from 0 and codes from A = 1, as in mctx."""
    found = {(): simulations + 1}

    def walk(state, path):
        after = tree.child[lane, state, 0]
        if after == NONE:
            return
        found[(*path, 0)] = int(tree.visits[lane, state, 0])
        for code in np.flatnonzero(tree.outcome[lane, after] != NONE):
            found[(*path, 0, 1 + int(code))] = int(tree.outcome_visits[lane, after, code])
            walk(tree.outcome[lane, after, code], (*path, 0, 1 + int(code)))

    walk(0, ())
    return found


@pytest.mark.parametrize(("name", "case"), cases("stochastic.npz").items(), ids=lambda value: value if isinstance(value, str) else "")
def test_chance_is_shared_out_as_in_the_stochastic_search_of_mctx(name, case):
    """One action, so that mctx's PUCT has nothing to choose and every visit follows from the rule for chance."""
    states, codes = case["chance"].shape
    world = Tabular(
        np.zeros((states, 1)), case["value"], case["chance"][:, None], case["reward"][:, None],
        np.full((states, 1, codes), 0.97), case["follows"][:, None], case["after_value"][:, None],
    )  # fmt: skip
    simulations = case["visits"].shape[1] - 1
    ours = _SearchRun(
        world.root(case["root"]), world, SearchConfig(simulations=simulations, q_floor=1e-8, root_expansion=False), None, None
    )
    for _ in range(simulations):
        ours.simulate()
    for lane in range(len(case["root"])):
        theirs = visits_by_path(case["parent"][lane], case["edge"][lane], case["visits"][lane])
        assert paths_of(ours.tree, lane, simulations) == theirs
