"""Hooks are called at their time, see what they should, end runs, and lose nothing by failing."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import numpy as np
import pytest
import tiny

import dreamerv2.api as dv2
from dreamerv2.callbacks import HOOKS, Callback, Hooks
from dreamerv2.common.config import Config
from dreamerv2.common.envs.dummy import Count
from dreamerv2.common.errors import UserError

PREFILL, STEPS = 20, 34


def settings(logdir: pathlib.Path, **changes: Any) -> Config:
    config = dv2.configs("debug").update(tiny.SIZES)
    return config.update(
        {
            "logdir": str(logdir), "steps": STEPS, "prefill": PREFILL, "train_every": 10,
            "log_every": 10, "eval_every": 0, "eval_eps": 1, "pretrain": 1, "time_limit": 0,
            "dataset": {"batch": 2, "length": 5}, "encoder.cnn_keys": "$^",
            "decoder.cnn_keys": "$^", **changes,
        }
    )  # fmt: skip


def last(logdir: pathlib.Path) -> dict[str, float]:
    return json.loads((logdir / "metrics.jsonl").read_text().splitlines()[-1])


class Tape(Callback):
    """Writes down every call."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []
        self.episodes: list[Any] = []
        self.metrics: list[dict[str, float]] = []

    def on_start(self, run: Any) -> None:
        self.calls.append(("start", run.steps))

    def on_step(self, run: Any) -> None:
        self.calls.append(("step", run.steps))
        run.log("twice_steps", 2 * run.steps)

    def on_episode(self, run: Any, episode: Any) -> None:
        self.calls.append(("episode", run.steps))
        self.episodes.append(episode)

    def on_update(self, run: Any) -> None:
        self.calls.append(("update", run.updates))

    def on_evaluation(self, run: Any, episodes: Any) -> None:
        self.calls.append(("evaluation", run.steps))
        assert [len(episode["reward"]) for episode in episodes] == [11]
        run.log("evaluated", 1.0)

    def on_log(self, run: Any, metrics: Any) -> None:
        self.metrics.append({"step": run.frames, **metrics})

    def on_end(self, run: Any) -> None:
        self.calls.append(("end", run.steps))


def test_every_hook_at_its_time(tmp_path: pathlib.Path) -> None:
    tape = Tape()
    dv2.train(Count, settings(tmp_path), tape)
    expected: list[tuple[str, int]] = [("start", 0)]
    for step in range(1, STEPS + 1):
        if step % 10 == 0:
            expected.append(("episode", step))
        expected.append(("step", step))
        if step == PREFILL:
            expected.append(("update", 1))
        if step in (21, 31):
            expected.append(("update", 2 + (step > 30)))
    assert tape.calls == [*expected, ("evaluation", STEPS), ("end", STEPS)]
    assert [episode["reward"].sum() for episode in tape.episodes] == [55.0] * 3
    written = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in written] == tape.metrics
    assert any("evaluated" in row for row in tape.metrics)
    twice = [row["twice_steps"] for row in tape.metrics if "twice_steps" in row]
    assert twice[0] == np.mean(2 * np.arange(1, 22))


def test_everything_is_done_at_its_step_whatever_the_intervals(tmp_path: pathlib.Path) -> None:
    seen: dict[str, list[int]] = {"update": [], "evaluation": [], "log": [], "step": []}

    class Steps(Callback):
        def on_step(self, run: Any) -> None:
            seen["step"].append(run.steps)

        def on_update(self, run: Any) -> None:
            seen["update"].append(run.steps)

        def on_evaluation(self, run: Any, episodes: Any) -> None:
            seen["evaluation"].append(run.steps)

        def on_log(self, run: Any, metrics: Any) -> None:
            if "model_loss" in metrics:
                seen["log"].append(run.steps)

    every = {"train_every": 7, "log_every": 11, "eval_every": 40, "steps": 111, "pretrain": 0}
    dv2.train(Count, settings(tmp_path, **every), Steps())
    assert seen["step"] == [*range(1, 112)]
    assert seen["update"] == [*range(21, 112, 7)]
    assert seen["evaluation"] == [20, 60, 100, 111]
    assert seen["log"] == [*range(21, 112, 11)]


class StopsAt(Callback):
    """Ends the run in one of the hooks."""

    def __init__(self, hook: str, step: int) -> None:
        self._hook, self._step = hook, step

    def on_step(self, run: Any) -> bool:
        return not (self._hook == "on_step" and run.steps >= self._step)

    def on_update(self, run: Any) -> bool:
        return not (self._hook == "on_update" and run.steps >= self._step)


@pytest.mark.parametrize("stop", [("on_step", 25), ("on_step", 7), ("on_update", 20)])
def test_false_ends_the_run_which_goes_on_later(
    stop: tuple[str, int], tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = settings(tmp_path, eval_eps=0)
    dv2.train(Count, config, StopsAt(*stop))
    assert f"Stopped at {stop[1]} frames and saved" in capsys.readouterr().out
    trained = dv2.train(Count, config)
    assert trained.run.steps == STEPS
    # Whenever it was stopped, no update is lost: one before acting, then at 21 and 31.
    assert last(tmp_path)["updates"] == trained.run.updates == 3


class Fails(Callback):
    def on_episode(self, run: Any, episode: Any) -> None:
        if run.steps >= 30:
            raise ValueError("my own mistake")


def test_a_failing_hook_saves_the_run(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = settings(tmp_path, eval_eps=0)
    with pytest.raises(ValueError, match="my own mistake"):
        dv2.train(Count, config, [lambda run: None, Fails()])
    assert "A callback failed at 30 frames; saved" in capsys.readouterr().out
    saved = dv2.load(tmp_path)
    assert saved.run.steps == 30 and saved.run.updates == 2
    assert dv2.train(Count, config).run.updates == 3


def test_functions_are_called_at_every_step(tmp_path: pathlib.Path) -> None:
    seen: list[int] = []
    config = settings(tmp_path, eval_eps=0, steps=PREFILL, pretrain=0)
    dv2.train(Count, config, lambda run: seen.append(run.steps))
    assert seen == list(range(1, PREFILL + 1))


def test_a_hook_may_save_and_look_at_the_run(tmp_path: pathlib.Path) -> None:
    def look(run: Any) -> bool:
        assert run.logdir == tmp_path and run.config.steps == STEPS and run.frames == run.steps
        assert run.agent.variables()
        run.save()
        return run.steps < 5

    dv2.train(Count, settings(tmp_path, eval_eps=0, save_keep=9), look)
    assert len(list((tmp_path / "checkpoint").glob("*.index"))) == 6


@pytest.mark.parametrize(
    ("result", "stops"),
    [(False, True), (np.float32(0) > 1, True), (True, False), (None, False), (0, False)],
    ids=range(5),
)
def test_only_false_ends_a_run_also_that_of_numpy(result: Any, stops: bool) -> None:
    hooks = Hooks(lambda run: result)
    hooks.step(None)  # type: ignore[arg-type]
    assert hooks.stopped == stops and not hooks.failed


def test_only_hooks_that_are_overridden_are_kept() -> None:
    hooks = Hooks([Callback(), StopsAt("on_step", 3)])
    assert [name for name in HOOKS if name in hooks] == ["on_step", "on_update"]
    assert not any(name in Hooks() for name in HOOKS)
    Hooks().keep({"reward": np.zeros(3)})


class Misspelt(Callback):
    def on_episodes(self, run: Any) -> None:
        """Is never called."""


@pytest.mark.parametrize(
    ("callback", "words"),
    [
        (Tape, r"write Tape\(\)"),
        (Misspelt(), "a hook on_episodes, which nothing calls; the hooks are on_start"),
        ([3], "of the type int; derive it from dreamerv2.api.Callback"),
        (3, "of the type int"),
        ("on_step", "of the type str"),
    ],
    ids=range(5),
)
def test_what_is_no_callback_is_refused(callback: Any, words: str, tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match=words):
        dv2.train(Count, settings(tmp_path / "run"), callback)
    assert not (tmp_path / "run").exists()
