"""Gymnasium wrappers that every single environment of the Gymnasium kind goes through."""

from __future__ import annotations

import logging
import pathlib
import traceback
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils import RecordConstructorArgs

from dreamerv2.common.envs import observations, spaces
from dreamerv2.common.errors import UserError

_log = logging.getLogger(__name__)


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


def to_number(reward: Any) -> float:
    """Return a reward as a float.

    Raises:
      EnvError: If it is not one number.
    """
    try:
        return float(reward if isinstance(reward, float) else np.asarray(reward).reshape(()))
    except (TypeError, ValueError):
        raise spaces.EnvError(f"the reward is {reward!r:.50}, not one number") from None


def made(build: Callable[[], Any], name: str, index: int) -> Any:
    """Return what a function makes.

    Raises:
      UserError: If it raises an exception.
    """
    try:
        return build()
    except (UserError, spaces.EnvError):
        raise
    except (Exception, SystemExit) as error:
        what = f"environment {index} of {name!r} could not be made"
        raise UserError(f"{what}: {describe(error)}: mend that") from error


def describe(error: BaseException) -> str:
    """Return type, message and place of an exception of somebody else's code, in one line."""
    place = ""
    package = str(pathlib.Path(__file__).parents[2])
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "site-packages" not in frame.filename] or frames
    if own and not own[-1].filename.startswith(package):
        place = f" (in {pathlib.PurePath(own[-1].filename).name}, line {own[-1].lineno})"
    text = " ".join(str(error).split())
    text = text if len(text) <= 200 else text[:197] + "..."
    return f"{type(error).__name__}{': ' * bool(text)}{text}{place}"


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
            total += to_number(reward)
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
        self._step = 0
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
          EnvError: If the inner environment raised an exception, or returned what its spaces do
            not promise.
        """
        self._step = 0
        try:
            obs, _ = unpack(self.env.reset(seed=seed, options=options), "reset")
            return self._convert(obs), {}
        except UserError:
            raise
        except (Exception, SystemExit) as error:
            raise self._failure("reset", error) from error

    def step(self, action: Any) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Step the inner environment.

        Raises:
          EnvError: If the inner environment raised an exception, or returned what its spaces do
            not promise.
        """
        self._step += 1
        try:
            obs, reward, terminated, truncated, _ = unpack(self.env.step(action), "step")
            done = bool(terminated), bool(truncated)
            return self._convert(obs), to_number(reward), *done, {}
        except UserError:
            raise
        except (Exception, SystemExit) as error:
            raise self._failure("step", error) from error

    def close(self) -> None:
        """Close the inner environment; a failure is only logged, as nothing depends on it."""
        try:
            self.env.close()
        except Exception as error:
            _log.warning(f"{self._label} failed in close(): {describe(error)}")

    def _convert(self, obs: Any) -> dict[str, np.ndarray]:
        return {leaf.key: leaf(obs) for leaf in self._leaves}

    def _failure(self, what: str, error: BaseException) -> spaces.EnvError:
        where = f"{self._label} failed in {what}(), at step {self._step} of its episode"
        if isinstance(error, spaces.EnvError):
            return spaces.EnvError(f"{where}: {error}")
        # One string survives the way from a worker process; exception classes of the environment
        # might not.
        trace = "".join(traceback.format_exception(error)).rstrip()
        return spaces.EnvError(f"{where}: {describe(error)}\n{trace}")


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
