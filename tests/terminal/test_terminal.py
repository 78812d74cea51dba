"""What commands say while they work."""

from __future__ import annotations

import pytest

from emp_gym.terminal import console


def test_the_same_number_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    with console.ProgressBar(100, "learning", lines=True) as bar:
        bar.update(50, {"rollout/ep_rew_mean": 621.9, "market/pnl": 621.9})
        bar.update(100, {"rollout/ep_rew_mean": -1.5, "market/pnl": 621.9})
    first, second = capsys.readouterr().err.splitlines()
    assert "return = P&L 621.9" in first and first.count("621.9") == 1
    assert "return -1.5 · P&L 621.9" in second


def test_time_left_is_told_from_the_speed_of_late(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A hundred steps a second at first, ten from then on: after 40 % what is left takes 60 s, whatever the speed since the begin."""
    now = 0.0
    monkeypatch.setattr(console.time, "monotonic", lambda: now)
    with console.ProgressBar(1000, "learning", lines=True) as bar:
        for steps in range(0, 1001, 50):
            now = steps / 100 if steps <= 100 else 1.0 + (steps - 100) / 10
            bar.update(steps, {"time/fps": steps / max(now, 1e-9)})
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].split()[-3:] == ["0", "s", "left"], "nothing is known of the speed before there are two updates"
    late = [line.split() for line in lines if int(line.split()[2].replace(",", "")) >= 400]
    assert len(late) >= 5
    for words in late:
        assert words[-3:] == [f"{(1000 - int(words[2].replace(',', ''))) / 10:.0f}", "s", "left"]
    assert "100%" in lines[-1]
