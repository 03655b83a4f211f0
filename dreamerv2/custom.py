"""Environments that a user's own code makes or hands over, instead of naming a task."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import gymnasium

from dreamerv2.common import envs
from dreamerv2.common.config import Config
from dreamerv2.common.envs.spaces import ActSpec, ObsSpec
from dreamerv2.common.envs.vector import VecEnv
from dreamerv2.common.errors import UserError
from dreamerv2.tasks import CUSTOM


class Borrowed(gymnasium.Wrapper):
    """Keeps an environment open that belongs to the caller, who may go on using it."""

    def close(self) -> None:
        """Do nothing."""


def is_instance(env: Any) -> bool:
    """Return whether this is an environment itself, not a function or class that makes one."""
    return hasattr(env, "step") and not isinstance(env, type)


def task_name(env: Any) -> str:
    """Return `custom_<name>` for an environment: its registered id, or the name of its class."""
    spec = getattr(env, "spec", None)
    name = spec.id if spec is not None else type(getattr(env, "unwrapped", env)).__name__
    return CUSTOM + re.sub(r"[^\w.-]", "_", name)


def make_env(
    env: Any, config: Config, seed: int, *, num: int = 1, parallel: str | None = None
) -> VecEnv:
    """Make the vector environment of a user's environments, with the settings of a run.

    Args:
        env: A function that makes one, or one itself, which stays open when this is closed.
        config: Of the run.
        seed: Every environment gets its own stream of random numbers derived from it.
        num: Number of environments.
        parallel: Instead of `envs_parallel`.

    Raises:
        UserError: The environment or its spaces cannot be used.
        EnvError: Worker processes do not start.
    """
    return envs.make_from(
        Borrowed(env) if isinstance(env, gymnasium.Env) else env,
        num=num,
        parallel=config.envs_parallel if parallel is None else parallel,
        seed=seed,
        action_repeat=config.action_repeat,
        time_limit=config.time_limit,
        timeout=config.envs_timeout,
        size=config.render_size,
        name=config.task,
    )


class CustomEnvs:
    """Makes the environments for the training loop.

    Attributes:
        shared: Training and evaluation use the same environment.
    """

    def __init__(self, env: Any, eval_env: Any, config: Config) -> None:
        """Keep what environments are made of.

        Args:
            env: For training: a function that makes one, or one itself.
            eval_env: For evaluation; None for the same as `env`.
            config: Of the run.

        Raises:
            UserError: Several environments are asked for, but there is one only.
        """
        self._env, self._config = env, config
        self._eval_env = env if eval_env is None else eval_env
        self.shared = is_instance(env) and self._eval_env is env
        if is_instance(env) and (config.envs > 1 or config.envs_parallel != "none"):
            raise UserError(
                f"envs is {config.envs} and envs_parallel {config.envs_parallel!r}, but one "
                "environment was handed over; pass the function or class that makes it instead."
            )

    def __call__(self, mode: str, seed: int) -> VecEnv:
        """Make the environments of `mode` train or eval."""
        config = self._config
        if mode == "train":
            return make_env(self._env, config, seed, num=config.envs)
        if is_instance(self._eval_env):
            return make_env(self._eval_env, config, seed, parallel="none")
        num = max(1, min(config.envs, config.eval_eps))
        return make_env(self._eval_env, config, seed, num=num)


def require_spaces(
    env: VecEnv, obs_space: Mapping[str, ObsSpec], act_space: ActSpec, keys: Iterable[str]
) -> None:
    """Refuse environments that an agent was not made for.

    Args:
        env: The environments.
        obs_space: What the agent observes, by key.
        act_space: How it acts.
        keys: The observations that have to be there.

    Raises:
        UserError: An observation is missing or of another shape, or actions differ.
    """
    for key in keys:
        spec, found = obs_space[key], env.obs_space.get(key)
        if found != spec:
            there = "does not have it" if found is None else f"has the shape {found.shape}"
            raise UserError(
                f"the agent observes {key!r} of the shape {spec.shape}, but the environment "
                f"{env.name!r} {there}; use the kind of environment that it was trained on."
            )
    if (env.act_space.kind, env.act_space.sizes) != (act_space.kind, act_space.sizes):
        raise UserError(
            f"the agent takes {act_space.kind} actions of sizes {act_space.sizes}, but the "
            f"environment {env.name!r} takes {env.act_space.kind} ones of {env.act_space.sizes}; "
            "use the kind of environment that it was trained on."
        )
