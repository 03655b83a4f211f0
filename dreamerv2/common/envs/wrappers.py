"""Gymnasium wrappers that every single environment of the Gymnasium kind goes through."""

from __future__ import annotations

import traceback
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils import RecordConstructorArgs

from dreamerv2.common.envs import observations, spaces
from dreamerv2.common.errors import UserError


def unpack(result: Any, what: str) -> tuple[Any, ...]:
    """Return what `reset()` or `step()` of an environment gave, as a tuple of the right length.

    Raises:
      UserError: If the environment has the interface of the old gym, before version 0.26.
    """
    length = 5 if what == "step" else 2
    if isinstance(result, tuple) and len(result) == length:
        return result
    names = "obs, reward, terminated, truncated, info" if what == "step" else "obs, info"
    if isinstance(result, tuple):
        given = f"{len(result)} values"
    else:
        given = f"one value of the type {type(result).__name__}"
    old = (what == "step" and given == "4 values") or what == "reset"
    raise UserError(
        f"{what}() of the environment returned {given}{' as the old gym did' * old}: "
        f"write `return {names}` at its end"
    )


class ActionRepeat(gymnasium.Wrapper, RecordConstructorArgs):
    """Take every action `repeat` times: rewards are summed, the end of an episode stops it."""

    def __init__(self, env: gymnasium.Env, repeat: int) -> None:
        RecordConstructorArgs.__init__(self, repeat=repeat)
        gymnasium.Wrapper.__init__(self, env)
        self._repeat = repeat

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step the inner environment up to `repeat` times."""
        total = 0.0
        for _ in range(self._repeat):
            obs, reward, terminated, truncated, info = unpack(self.env.step(action), "step")
            total += float(reward)
            if terminated or truncated:
                break
        return obs, total, terminated, truncated, info


class FlatObservation(gymnasium.Wrapper, RecordConstructorArgs):
    """Give observations as a flat dict of images and vectors; name the environment in errors.

    Infos are dropped: nothing reads them, and between processes they would cost more than the
    observations.

    Raises:
      UserError: If the observation or action space is not supported.
    """

    def __init__(self, env: gymnasium.Env, size: tuple[int, int], name: str, index: int) -> None:
        RecordConstructorArgs.__init__(self, size=size, name=name, index=index)
        gymnasium.Wrapper.__init__(self, env)
        spaces.act_spec(env.action_space, name)  # Refuses what is not supported.
        self._leaves = observations.obs_leaves(env.observation_space, size, name)
        self._label = f"environment {index} of {name!r}"
        self.observation_space = gymnasium.spaces.Dict(
            {leaf.key: _space(leaf.spec) for leaf in self._leaves}
        )

    @property
    def specs(self) -> dict[str, spaces.ObsSpec]:
        """The specs of the observation keys."""
        return {leaf.key: leaf.spec for leaf in self._leaves}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Reset the inner environment.

        Raises:
          EnvError: If the inner environment raised an exception.
        """
        try:
            obs, _ = unpack(self.env.reset(seed=seed, options=options), "reset")
            return self._convert(obs), {}
        except UserError:
            raise
        except Exception as error:
            raise self._failure("reset", error) from error

    def step(self, action: Any) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Step the inner environment.

        Raises:
          EnvError: If the inner environment raised an exception.
        """
        try:
            obs, reward, terminated, truncated, _ = unpack(self.env.step(action), "step")
            return self._convert(obs), float(reward), bool(terminated), bool(truncated), {}
        except UserError:
            raise
        except Exception as error:
            raise self._failure("step", error) from error

    def _convert(self, obs: Any) -> dict[str, np.ndarray]:
        return {leaf.key: leaf(obs) for leaf in self._leaves}

    def _failure(self, what: str, error: Exception) -> spaces.EnvError:
        # One string survives the way from a worker process; exception classes of the environment
        # might not.
        trace = "".join(traceback.format_exception(error)).rstrip()
        return spaces.EnvError(
            f"{self._label} failed in {what}(): {type(error).__name__}: {error}\n{trace}"
        )


def _space(spec: spaces.ObsSpec) -> gymnasium.spaces.Box:
    if spec.is_image:
        return gymnasium.spaces.Box(0, 255, spec.shape, np.uint8)
    return gymnasium.spaces.Box(-np.inf, np.inf, spec.shape, np.float32)


def wrap(
    env: Any,
    *,
    name: str,
    index: int = 0,
    action_repeat: int = 1,
    time_limit: int = 0,
    size: tuple[int, int] = (64, 64),
) -> FlatObservation:
    """Wrap one Gymnasium environment into the form that the vector environments expect.

    Args:
      env: The environment.
      name: Task name, for errors.
      index: Position in the vector environment, for errors.
      action_repeat: Environment frames per agent step.
      time_limit: Agent steps after which an episode is truncated; 0 is off. Limits inside the
        environment stay.
      size: Height and width of images.

    Raises:
      UserError: If it is not a Gymnasium environment or has unsupported spaces.
    """
    if not isinstance(env, gymnasium.Env):
        raise UserError(
            f"the environment {name!r} is a {type(env).__module__}.{type(env).__qualname__}, not "
            "a gymnasium.Env: derive it from gymnasium.Env or use a conversion such as shimmy"
        )
    if action_repeat > 1:
        env = ActionRepeat(env, action_repeat)
    if time_limit:
        env = gymnasium.wrappers.TimeLimit(env, time_limit)
    return FlatObservation(env, size, name, index)
