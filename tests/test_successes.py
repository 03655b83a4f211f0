"""Success rates, and the Crafter score against values known from elsewhere."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest

import dreamerv2
from dreamerv2.common import flags
from dreamerv2.common.logger import Terminal
from dreamerv2.common.successes import Successes, score
from dreamerv2.progress import Progress

CONFIGS = pathlib.Path(dreamerv2.__file__).parent / "configs.yaml"


def episode(**values: list[float]) -> dict[str, np.ndarray]:
    return {key: np.array(value, np.float32) for key, value in values.items()}


def test_rates_are_of_episodes_not_of_counts() -> None:
    successes = Successes("^log_a")
    successes.add(episode(log_a=[0, 3, 3], log_ab=[0, 0, 0], reward=[1, 1, 1]))
    successes.add(episode(log_a=[0, 0], log_ab=[0, 1]))
    successes.add(episode(log_a=[0, 1], log_ab=[0, 0]))
    metrics = successes.metrics("train")
    assert metrics == {
        "success_train_log_a": pytest.approx(2 / 3),
        "success_train_log_ab": pytest.approx(1 / 3),
        "success_train_score": pytest.approx(score([2 / 3, 1 / 3])),
    }


def test_no_keys_no_metrics() -> None:
    successes = Successes("^$")
    assert successes.metrics("eval") == {}
    successes.add(episode(reward=[1]))
    assert successes.metrics("eval") == {}


def test_goes_on_where_it_stopped() -> None:
    first = Successes("a")
    first.add(episode(a=[1]))
    second = Successes("a")
    second.restore(json.loads(json.dumps(first.state())))
    for successes in (first, second):
        successes.add(episode(a=[0]))
    assert (
        first.metrics("x")
        == second.metrics("x")
        == {
            "success_x_a": 0.5,
            "success_x_score": pytest.approx(50),
        }
    )


def test_score() -> None:
    assert score([0, 0]) == 0
    assert score([1, 1, 1]) == pytest.approx(100)
    # sqrt((1 + 100) * (1 + 0)) - 1: far from the arithmetic mean.
    assert score([1, 0]) == pytest.approx(np.sqrt(101) - 1)
    # A rare success counts more than a frequent one that becomes more frequent.
    assert score([0.01, 0.5]) - score([0.0, 0.5]) > score([0.0, 0.6]) - score([0.0, 0.5])


def test_checkpoints_hold_the_count_and_older_ones_do_without() -> None:
    config = flags.build(CONFIGS).update({"log_keys_success": "log_a"})
    first, second, third = (Progress(config) for _ in range(3))
    first.successes.add(episode(log_a=[1]))
    first.successes.add(episode(log_a=[0]))
    state = json.loads(json.dumps(first.state()))
    second.restore(state)
    assert second.successes.metrics("train")["success_train_log_a"] == 0.5
    del state["successes"]
    third.restore(state)
    assert third.successes.metrics("train") == {}


def test_runs_and_evaluations_log_them(tmp_path: pathlib.Path) -> None:
    reporting = pytest.importorskip("dreamerv2.reporting")
    health = pytest.importorskip("dreamerv2.health").Health({}, scaling=False)
    config = flags.build(CONFIGS).update({"log_keys_success": "log_a"})
    with Terminal() as terminal:
        progress = Progress(config)
        reporter = reporting.Reporter(config, tmp_path, terminal, progress, health)
        progress.steps += 8
        for unlocked in (0, 2, 2, 0):
            reporter.episode(episode(reward=[0, 1], log_a=[0, unlocked]))
        reporter.evaluation([episode(reward=[0, 1], log_a=[0, 1])], {})
        reporter.write_updates({"total_episodes": 4, "loaded_steps": 4, "loaded_episodes": 4})
        reporter.logger.close()
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    metrics = json.loads(line)
    assert metrics["success_train_log_a"] == 0.5 and metrics["success_eval_log_a"] == 1
    assert metrics["success_train_score"] == pytest.approx(50)
    assert metrics["success_eval_score"] == pytest.approx(100)
