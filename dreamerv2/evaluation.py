"""Plays episodes with a trained agent; the same during training and afterwards."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from dreamerv2.agent import Agent
from dreamerv2.common.config import Config
from dreamerv2.common.driver import Callback, Driver
from dreamerv2.common.envs.spaces import EnvError
from dreamerv2.common.envs.vector import Batch, VecEnv
from dreamerv2.logdir import derive_seed

Episode = Mapping[str, np.ndarray]

# What tells the random numbers of evaluations from all others that a run derives from its seed.
PURPOSE = 3

# Frames of an episode video; 27000-step episodes would make files nobody can open.
VIDEO_LENGTH = 500


# Agent steps after which an episode is taken for endless; evaluations wait for the end of episodes.
ENDLESS = 200_000


class Stopped(Exception):
    """An evaluation was given up because the run was asked to stop."""


def evaluation_seed(config: Config, steps: int) -> int:
    """Return the seed of the evaluation that a run makes after so many agent steps."""
    return derive_seed(config.seed, PURPOSE, steps)


def evaluate(
    agent: Agent,
    env: VecEnv,
    episodes: int,
    seed: int,
    *,
    keep: str = r"reward$",
    video: str = r"$^",
    stop: Callable[[], bool] = lambda: False,
    on_transition: Callback | None = None,
    on_episode: Callback | None = None,
) -> list[Episode]:
    """Play whole episodes in evaluation mode.

    The same weights, environments (with their seed) and seed give the same episodes.

    Args:
        agent: Its policy is used; its training state does not change.
        env: Fresh environments.
        episodes: Number of episodes.
        seed: Of the latents sampled by the policy and of its noise.
        keep: Keys of the episodes to return, by regular expression.
        video: Image keys to return the first `VIDEO_LENGTH` transitions of.
        stop: Asked before every step.
        on_transition: Called as ``f(transition, worker)`` for every transition, also those of
            episodes that are not finished when the last one that counts is.
        on_episode: Called as ``f(episode, worker)`` for every episode that counts.

    Returns:
        Episodes with arrays ``(T, ...)``, in the order in which they ended.

    Raises:
        Stopped: `stop` returned true.
        EnvError: An environment failed, or an episode is longer than `ENDLESS`.
    """
    agent.seed_evaluation(seed)
    finished: list[Episode] = []
    lengths = np.zeros(env.num, np.int64)

    def policy(batch: Batch, state: Any) -> tuple[np.ndarray, Any]:
        if stop():
            raise Stopped
        lengths[:] = np.where(batch["is_first"], 0, lengths + 1)
        if lengths.max() > ENDLESS:
            raise EnvError(
                f"an episode of {env.name!r} has not ended after {ENDLESS:,} agent steps of an "
                "evaluation: set time_limit to cut episodes off, or eval_eps to 0"
            )
        action, state = agent.policy(batch, state, mode="eval")
        return action.numpy(), state

    def finish(episode: dict[str, np.ndarray], worker: int) -> None:
        finished.append(episode)
        if on_episode is not None:
            on_episode(episode, worker)

    driver = Driver(
        env,
        on_transition=on_transition,
        on_episode=finish,
        keep=keep,
        video=video,
        video_length=VIDEO_LENGTH,
    )
    driver(policy, episodes=episodes)
    return finished


def kept_keys(config: Config) -> str:
    """Return the regular expression of the keys that metrics of episodes read."""
    extra = [
        config.log_keys_sum,
        config.log_keys_mean,
        config.log_keys_max,
        config.log_keys_success,
    ]
    return "|".join(["reward$", *(f"(?:{pattern})" for pattern in extra)])


def video_keys(config: Config) -> str:
    """Return the regular expression of the image keys recorded as videos."""
    return "|".join(f"{re.escape(key)}$" for key in config.log_keys_video) or "$^"


def episode_metrics(config: Config, episode: Episode, mode: str) -> dict[str, float]:
    """Return the scalars logged for one episode of `mode` train or eval.

    That is its return (sum of rewards), its length in agent steps, and for the keys chosen by
    `log_keys_sum`, `log_keys_mean` and `log_keys_max` the sum, the mean, and the mean over
    elements of the maximum over time.
    """
    metrics = {
        f"{mode}_return": float(episode["reward"].astype(np.float64).sum()),
        f"{mode}_length": float(len(episode["reward"]) - 1),
    }
    for key, value in episode.items():
        if re.match(config.log_keys_sum, key):
            metrics[f"sum_{mode}_{key}"] = float(value.sum())
        if re.match(config.log_keys_mean, key):
            metrics[f"mean_{mode}_{key}"] = float(value.mean())
        if re.match(config.log_keys_max, key):
            metrics[f"max_{mode}_{key}"] = float(value.max(0).mean())
    return metrics
