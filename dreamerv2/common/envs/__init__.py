"""Environments: `make` for tasks by name, `make_from` for the user's own.

Nothing here imports an environment library before an environment is made.
"""

from __future__ import annotations

import difflib
import threading
from collections.abc import Callable
from typing import Any

from dreamerv2.common.envs.spaces import ActSpec, EnvError, ObsSpec
from dreamerv2.common.envs.vector import Batch, VecEnv, vectorize
from dreamerv2.common.errors import UserError

__all__ = [
    "SUITES",
    "ActSpec",
    "Batch",
    "EnvError",
    "ObsSpec",
    "VecEnv",
    "make",
    "make_from",
]

SUITES = {
    "atari": "atari_<game>",
    "dmc": "dmc_<domain>_<task>",
    "crafter": "crafter_reward",
    "minigrid": "minigrid_<id>",
    "gym": "gym_<id>",
    "dummy": "dummy_catch",
}


def make(
    task: str,
    *,
    num: int = 1,
    parallel: str = "none",
    seed: int = 0,
    action_repeat: int = 1,
    time_limit: int = 0,
    timeout: float = 300,
    size: tuple[int, int] = (64, 64),
    atari_grayscale: bool = True,
    atari_sticky: float = 0.25,
    atari_noops: int = 30,
    atari_full_actions: bool = False,
    dmc_camera: int = -1,
    dmc_image: bool = True,
) -> VecEnv:
    """Create the environments of a task.

    Args:
      task: `suite_name`: `atari_<game>`, `dmc_<domain>_<task>`, `crafter_reward`,
        `crafter_noreward`, `minigrid_<id>`, `gym_<registered id>`, `dummy_count`, `dummy_catch`.
      num: Number of environments.
      parallel: `none` (one after another), `process` (one process each) or `native` (ALE's own
        threads, Atari only). Rendered environments of DeepMind Control have one process each in
        any case.
      seed: Every environment gets its own stream of random numbers derived from it.
      action_repeat: Environment frames per agent step.
      time_limit: Agent steps after which an episode is truncated; 0 is off. An environment's own
        limits stay.
      timeout: Seconds that a step, a reset or the start of a process of its own may take; 0 is no
        limit.
      size: Height and width of images.
      atari_grayscale: Atari images with one channel instead of three.
      atari_sticky: Probability that Atari repeats the previous action.
      atari_noops: At most this many no-ops at the start of an Atari episode.
      atari_full_actions: All 18 Atari actions instead of the game's minimal set.
      dmc_camera: Number of the camera of DeepMind Control, -1 for the usual one of the task.
      dmc_image: Render DeepMind Control.

    Raises:
      UserError: If the task or an option is not valid, or a package is missing; one sentence
        that says what to do.
      EnvError: If worker processes do not start.
    """
    suite, _, rest = task.partition("_")
    _check_options(num, parallel, seed, action_repeat, time_limit, timeout, size)
    if suite not in SUITES or not rest:
        *first, last = SUITES.values()
        raise UserError(f"the task {task!r} names no known suite: use {', '.join(first)} or {last}")
    if parallel == "native" and suite != "atari":
        raise UserError(
            f"envs_parallel 'native' exists for Atari only, not for the task {task!r}: use "
            "'process' or 'none'"
        )
    size = (int(size[0]), int(size[1]))
    common: dict[str, Any] = dict(
        num=num, parallel=parallel, seed=seed, size=size, name=task, timeout=timeout
    )
    if suite == "atari":
        from dreamerv2.common.envs import atari

        if not 0 <= atari_sticky <= 1:
            raise UserError(f"atari_sticky is a probability, not {atari_sticky}: use 0 to 1")
        if atari_noops < 0:
            raise UserError(f"atari_noops cannot be {atari_noops}: use 0 or more")
        options: dict[str, Any] = dict(
            action_repeat=action_repeat,
            size=size,
            grayscale=atari_grayscale,
            sticky=float(atari_sticky),
            noops=int(atari_noops),
            full_actions=atari_full_actions,
        )
        if parallel == "native":
            return atari.native(
                rest, name=task, num=num, seed=seed, time_limit=time_limit, **options
            )
        limit = atari.step_limit(action_repeat, time_limit)
        game = atari.constructor(rest, **options)
        return _build(
            game, action_repeat=action_repeat, time_limit=limit, repeats_itself=True, **common
        )
    common.update(action_repeat=action_repeat, time_limit=time_limit)
    if suite == "dmc":
        from dreamerv2.common.envs import dmc

        options = dict(action_repeat=action_repeat, size=size, camera=dmc_camera, image=dmc_image)
        if dmc_image:
            common.update(parallel="process")  # TensorFlow and graphics libraries do not mix.
        return _build(dmc.constructor(rest, **options), repeats_itself=True, **common)
    return _build(_plain(suite, rest, size), **common)


def make_from(
    env: Any,
    *,
    num: int = 1,
    parallel: str = "none",
    seed: int = 0,
    action_repeat: int = 1,
    time_limit: int = 0,
    timeout: float = 300,
    size: tuple[int, int] = (64, 64),
    name: str = "custom",
) -> VecEnv:
    """Use environments of the user's own.

    Args:
      env: A function without arguments that returns a new `gymnasium.Env`, or, for one
        environment in this process, the environment itself.
      num: Number of environments.
      parallel: `none` or `process`.
      seed: Every environment gets its own stream of random numbers derived from it.
      action_repeat: Environment frames per agent step.
      time_limit: Agent steps after which an episode is truncated; 0 is off.
      timeout: Seconds that a step, a reset or the start of a process of its own may take; 0 is no
        limit.
      size: Height and width of images.
      name: What errors call the environment.

    Raises:
      UserError: If the environment or an option is not valid, or making it raises an exception.
      EnvError: If worker processes do not start.
    """
    _check_options(num, parallel, seed, action_repeat, time_limit, timeout, size)
    if parallel == "native":
        raise UserError("envs_parallel 'native' exists for Atari only: use 'process' or 'none'")
    build: Callable[[], Any] = env
    if hasattr(env, "step") and not isinstance(env, type):
        if num > 1 or parallel == "process":
            raise UserError(
                f"envs {num} with envs_parallel {parallel!r} needs a function that creates "
                f"environments, but {name!r} is one environment: pass the function"
            )
        build = lambda: env  # noqa: E731
    if not callable(build):
        raise UserError(
            f"the environment {name!r} is of the type {type(env).__name__}: pass a "
            "gymnasium.Env or a function that creates one"
        )
    return _build(
        build,
        num=num,
        parallel=parallel,
        seed=seed,
        action_repeat=action_repeat,
        time_limit=time_limit,
        timeout=timeout,
        size=(int(size[0]), int(size[1])),
        name=name,
    )


def _build(
    build: Callable[[], Any],
    *,
    num: int,
    parallel: str,
    seed: int,
    time_limit: int,
    timeout: float,
    size: tuple[int, int],
    name: str,
    action_repeat: int,
    repeats_itself: bool = False,
) -> VecEnv:
    def constructor(index: int) -> Callable[[], Any]:
        def construct() -> Any:
            from dreamerv2.common.envs import wrappers

            return wrappers.wrap(
                wrappers.made(build, name, index),
                name=name,
                index=index,
                action_repeat=1 if repeats_itself else action_repeat,
                time_limit=time_limit,
                size=size,
            )

        return construct

    return vectorize(
        [constructor(index) for index in range(num)],
        name=name,
        parallel=parallel,
        seed=seed,
        action_repeat=action_repeat,
        timeout=timeout,
    )


def _plain(suite: str, name: str, size: tuple[int, int]) -> Callable[[], Any]:
    """A function that creates an environment of a suite without options of its own."""
    if suite == "crafter":
        from dreamerv2.common.envs import crafter

        return crafter.constructor(name, size=size)
    if suite == "minigrid":
        from dreamerv2.common.envs import minigrid

        return minigrid.constructor(name)
    if suite == "gym":
        from dreamerv2.common.envs import gym

        return gym.constructor(name)
    from dreamerv2.common.envs import dummy

    if name not in dummy.ENVS:
        near = difflib.get_close_matches(name, dummy.ENVS, 1, 0) or list(dummy.ENVS)
        raise UserError(f"the task 'dummy_{name}' does not exist: did you mean dummy_{near[0]}?")
    return dummy.ENVS[name]


def _check_options(
    num: int,
    parallel: str,
    seed: int,
    action_repeat: int,
    time_limit: int,
    timeout: float,
    size: Any,
) -> None:
    if num < 1:
        raise UserError(f"envs cannot be {num}: use 1 or more")
    if parallel not in ("none", "process", "native"):
        raise UserError(f"envs_parallel cannot be {parallel!r}: use none, process or native")
    if seed < 0:
        raise UserError(f"seed cannot be {seed}: use 0 or more")
    if action_repeat < 1:
        raise UserError(f"action_repeat cannot be {action_repeat}: use 1 or more")
    if time_limit < 0:
        raise UserError(f"time_limit cannot be {time_limit}: use 0 for off, or more")
    if not 0 <= timeout <= threading.TIMEOUT_MAX:
        raise UserError(f"envs_timeout cannot be {timeout}: use 0 for off, or seconds")
    if len(size) != 2 or min(size) < 1:
        raise UserError(
            f"render_size cannot be {list(size)}: use a height and a width, such as [64, 64]"
        )
