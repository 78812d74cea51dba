"""The risk layer's cost is measured by a function that runs small, too."""

from __future__ import annotations

from emp_gym.benchmarks import risk
from emp_gym.benchmarks.figures import SMALL, Figures


def test_gate_and_mask_are_measured_apart(monkeypatch, root):
    monkeypatch.chdir(root)
    figures = Figures()
    monkeypatch.setattr(risk, "LIMITS", ("configs/limits/strict.yaml",))
    risk.measure(figures, SMALL)
    assert [figure["unit"] for figure in figures.values.values()] == ["ns per env-step", "%", "ns per env-step"]
    assert all(figure["median"] > 0 for figure in figures.values.values())
