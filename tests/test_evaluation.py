"""Whole episodes by a policy, and what is made of them; the agent is a stand-in."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from dreamerv2 import evaluation
from dreamerv2.common import envs
from dreamerv2.logdir import default_config, derive_seed


class Player:
    """Acts randomly, with random numbers of its own that evaluations restart."""

    def seed_evaluation(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def policy(self, batch: Any, state: Any, mode: str) -> tuple[tf.Tensor, Any]:
        assert mode == "eval"
        actions = np.eye(3, dtype=np.float32)[self.rng.integers(3, size=len(batch["is_first"]))]
        return tf.constant(actions), (state or 0) + 1


def play(seed: int, env_seed: int = 7, num: int = 2, **options: Any) -> list[np.ndarray]:
    with envs.make("dummy_catch", num=num, seed=env_seed) as env:
        episodes = evaluation.evaluate(Player(), env, 5, seed, **options)  # type: ignore[arg-type]
    return [episode["reward"] for episode in episodes]


def test_the_same_seeds_give_the_same_episodes() -> None:
    first = play(1)
    assert len(first) == 5
    np.testing.assert_array_equal(first, play(1))
    assert not np.array_equal(first, play(2))
    assert not np.array_equal(first, play(1, env_seed=8))


def test_tells_of_every_transition_and_of_the_episodes_that_count() -> None:
    transitions, ends = [], []
    rewards = play(
        1,
        on_transition=lambda transition, worker: transitions.append((worker, transition)),
        on_episode=lambda episode, worker: ends.append((worker, episode["reward"])),
    )
    np.testing.assert_array_equal(rewards, [reward for _, reward in ends])
    np.testing.assert_array_equal(rewards, play(1))
    assert sorted(worker for worker, _ in ends) == [0, 0, 0, 1, 1]
    assert len(transitions) == 2 * 33  # The second worker's third episode does not count.
    first = [transition["reward"] for worker, transition in transitions if worker == 0]
    np.testing.assert_array_equal(np.concatenate([r for w, r in ends if w == 0]), first)


def test_keeps_what_was_asked_for() -> None:
    with envs.make("dummy_catch", seed=0) as env:
        (episode,) = evaluation.evaluate(Player(), env, 1, 0, video="image$")  # type: ignore[arg-type]
    assert episode.keys() == {"reward", "image"}
    assert episode["image"].shape == (11, 64, 64, 3)


def test_stops_when_asked_to() -> None:
    asked = []
    with pytest.raises(evaluation.Stopped):
        play(0, stop=lambda: asked.append(0) or len(asked) > 3)
    assert len(asked) == 4


def test_seed_differs_by_step_and_run() -> None:
    config = default_config()
    seeds = {evaluation.evaluation_seed(config.update({"seed": s}), t) for s in (0, 1)
             for t in (1, 2)}  # fmt: skip
    assert len(seeds) == 4
    assert evaluation.evaluation_seed(config, 9) == derive_seed(config.seed, 3, 9)


def test_metrics_of_an_episode() -> None:
    config = default_config().update(
        {"log_keys_sum": "log_a", "log_keys_mean": "log_b", "log_keys_max": "log_c"}
    )
    episode = {
        "reward": np.array([0, 1.5, -0.5], np.float32),
        "log_a": np.array([1.0, 2.0, 3.0]),
        "log_b": np.array([1.0, 2.0, 3.0]),
        "log_c": np.array([[1, 0], [0, 5], [3, 0]], np.float32),
    }
    assert evaluation.episode_metrics(config, episode, "eval") == {
        "eval_return": 1.0,
        "eval_length": 2.0,
        "sum_eval_log_a": 6.0,
        "mean_eval_log_b": 2.0,
        "max_eval_log_c": 4.0,
    }

    pattern = re.compile(evaluation.kept_keys(config))
    assert all(pattern.match(key) for key in episode)
    assert not any(pattern.match(key) for key in ("image", "log_d", "action"))
    assert re.match(evaluation.video_keys(config), "image")
    assert not re.match(evaluation.video_keys(config), "image_2")
