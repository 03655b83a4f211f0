"""Every example runs from beginning to end, with networks too small to learn."""

from __future__ import annotations

import json
import os
import pathlib
import runpy
import sys
from typing import Any

import pytest
import tiny

import dreamerv2.api as dv2

EXAMPLES = pathlib.Path(__file__).resolve().parents[1] / "examples"
CONFIGS = dv2.configs


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    short = {"eval_eps": 1, "time_limit": 12}
    monkeypatch.setattr(
        dv2, "configs", lambda *names: CONFIGS(*names).update(tiny.SIZES).update(short)
    )


@pytest.fixture(scope="module")
def catch(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The folder of an agent for the catching game that has learned nothing."""
    logdir = tmp_path_factory.mktemp("catch")
    config = CONFIGS("debug").update(tiny.SIZES)
    changes = {"logdir": str(logdir), "steps": 40, "prefill": 40, "eval_eps": 0, "pretrain": 0}
    dv2.train("dummy_catch", config.update(changes))
    return logdir


def run(name: str, *arguments: Any) -> dict[str, Any]:
    """Run an example as `python examples/<name>` does, in this process."""
    before = sys.argv
    sys.argv = [name, *map(str, arguments)]
    try:
        return runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    finally:
        sys.argv = before


def rows(logdir: pathlib.Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (logdir / "metrics.jsonl").read_text().splitlines()]


def test_all_examples_are_here() -> None:
    tested = {name for name, value in globals().items() if name.startswith("test_")}
    for path in EXAMPLES.glob("*.py"):
        assert f"test_{path.stem}" in tested, path
        assert os.access(path, os.R_OK) and len(path.read_text().splitlines()) < 140


def test_own_environment(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("own_environment.py", "--logdir", tmp_path, "--steps", 110, "--configs", "vector", "debug")
    output = capsys.readouterr().out
    # The environment has no finding, and what the callback logs arrives.
    assert "warning" not in output and "note" not in output.replace("notebook", "")
    assert "over 20 episodes" in output
    assert any("eval_worst_return" in row for row in rows(tmp_path))


def test_dict_observations(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--logdir", tmp_path, "--steps", 110, "--configs", "small", "debug"]
    run("dict_observations.py", *arguments)
    output = capsys.readouterr().out
    assert "'map': (1, 10, 64, 64, 3)" in output and "'place': (1, 10, 2)" in output
    logged = {key for row in rows(tmp_path) for key in row}
    assert {"map_loss", "place_loss", "mean_train_log_distance"} <= logged


def test_continuous_control(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--logdir", tmp_path, "--steps", 110, "--configs", "vector", "debug"]
    run("continuous_control.py", *arguments)
    assert "over 5 episodes" in capsys.readouterr().out
    assert rows(tmp_path)[-1]["step"] == 220


def test_use_policy(catch: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("use_policy.py", "--logdir", catch, "--steps", 12)
    output = capsys.readouterr().out
    assert "12 steps in four environments" in output and "over 10 episodes" in output
    assert "uint8 (4, 10, 64, 64, 3)" in output


def test_latents(
    catch: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "latents.png"
    seen = run("latents.py", "--logdir", catch, "--episodes", 16, "--out", picture)
    assert picture.stat().st_size > 10_000
    assert "latents know" in capsys.readouterr().out
    # Where the ball can be seen, a linear map of the pixels finds it in most episodes.
    assert seen["from_pixels"][0] > seen["from_pixels"][5] and len(seen["from_latents"]) == 11
