"""What can be wrong with one environment, one space, one observation; see `dreamerv2.checking`."""

from __future__ import annotations

import dataclasses
import math
import pathlib
import sys
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from dreamerv2.common.envs import images
from dreamerv2.common.errors import UserError

SEVERITIES = ("error", "warning", "note")

RESET = "def reset(self, *, seed=None, options=None):"


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing about an environment that the user should know.

    Attributes:
        severity: `error`: training is refused or learns from garbage; `warning`: it works, but
            probably not as meant; `note`: nothing wrong, only good to know.
        problem: What was found.
        mend: What to do, often the line to write.
    """

    severity: str
    problem: str
    mend: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.problem}\n    {self.mend}"


class Broken(Exception):
    """The environment cannot be examined any further; holds the finding that says why."""

    def __init__(self, problem: str, mend: str) -> None:
        super().__init__(problem)
        self.finding = Finding("error", problem, mend)


def kind_findings(env: Any) -> Iterator[Finding]:
    """Look at what was passed as an environment, before anything of it is called."""
    import gymnasium

    if not isinstance(env, gymnasium.Env):
        bases = [base.__module__.partition(".")[0] for base in type(env).__mro__]
        problem = f"this is a {type(env).__module__}.{type(env).__qualname__}, not a gymnasium.Env"
        if "gym" in bases:
            mend = "the old gym is not supported any more: write `import gymnasium as gym`"
        else:
            mend = "derive it from gymnasium.Env, or convert it with a package such as shimmy"
        raise Broken(problem, mend)
    for name in ("observation_space", "action_space"):
        if not isinstance(getattr(env, name, None), gymnasium.Space):
            raise Broken(
                f"the environment has no {name}",
                f"set `self.{name} = gymnasium.spaces...` in __init__()",
            )
    if env.render_mode == "human":
        yield Finding(
            "warning",
            "render_mode is 'human', which opens a window and slows every step down",
            'make it without: render_mode=None, or "rgb_array" if you call render() yourself',
        )


def space_findings(env: Any, size: tuple[int, int]) -> Iterator[Finding]:
    """Look at the spaces."""
    from gymnasium import spaces

    from dreamerv2.common.envs.observations import obs_leaves
    from dreamerv2.common.envs.spaces import UNBOUNDED, act_spec

    for name, space in _walk(env.observation_space):
        box = isinstance(space, spaces.Box)
        shape: tuple[int, ...] = getattr(space, "shape", None) or ()
        if box and space.dtype == np.uint8 and images.channel_first(shape):
            channels, height, width = shape
            raise Broken(
                f"the image {name!r} is channel-first, {shape}",
                f"declare Box(0, 255, ({height}, {width}, {channels}), np.uint8) and return "
                "`np.transpose(image, (1, 2, 0))`",
            )
        if box and space.dtype != np.uint8 and len(shape) == 3:
            yield Finding(
                "warning",
                f"the observation {name!r} looks like an image, {shape}, but is {space.dtype}, so "
                f"that it counts as a vector of {int(np.prod(shape)):,} numbers",
                f"for an image, declare Box(0, 255, {shape}, np.uint8) and return "
                "`(255 * image).astype(np.uint8)`",
            )
    try:
        leaves = obs_leaves(env.observation_space, size, "checked")
        actions = act_spec(env.action_space, "checked")
    except UserError as error:
        problem, _, mend = (
            str(error).replace("environment 'checked'", "environment").rpartition(": ")
        )
        raise Broken(problem, mend) from None
    for leaf in leaves:
        if leaf.key in ("kl", "discount"):
            raise Broken(
                f"the observation {leaf.key!r} has the name of a loss", "rename it in a wrapper"
            )
        if leaf.key.startswith("log_"):
            yield Finding(
                "note",
                f"the observation {leaf.key!r} is only logged, as its name starts with log_",
                "rename it if the agent is to see it",
            )
        if leaf.spec.is_image and leaf.shape[:2] != size:
            yield Finding(
                "note",
                f"images {leaf.key!r} of {leaf.shape[0]}x{leaf.shape[1]} pixels are resized to "
                f"{size[0]}x{size[1]}",
                "look whether all that matters can still be seen; `render_size` changes the size",
            )
    if actions.kind == "continuous":
        limits = np.abs([*actions.low, *actions.high])
        if (limits >= UNBOUNDED).any():
            yield Finding(
                "warning",
                "the action space has infinite bounds, so that the agent's actions in [-1, 1] are "
                "passed on as they are",
                "declare the range that makes sense, as Box(-2.0, 2.0, (n,), np.float32)",
            )


def _walk(space: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    from gymnasium import spaces

    if isinstance(space, spaces.Dict):
        for key, sub in space.spaces.items():
            yield from _walk(sub, f"{name}_{key}" if name else key)
    else:
        yield name or "observation", space


def observation_findings(space: Any, obs: Any, name: str = "observation") -> Iterator[Finding]:
    """Compare an observation with its space."""
    from gymnasium import spaces

    if isinstance(space, spaces.Dict):
        if not isinstance(obs, Mapping):
            raise Broken(
                f"{name} is a {type(obs).__name__}, but its space is a Dict",
                f"return a dict with the keys {', '.join(map(str, space.spaces))}",
            )
        for key in space.spaces:
            if key not in obs:
                raise Broken(f"{name} lacks the key {key!r} of its space", f'add `obs["{key}"]`')
            yield from observation_findings(space[key], obs[key], f"{name}[{key!r}]")
        if extra := sorted(set(obs) - set(space.spaces)):
            yield Finding(
                "warning",
                f"{name} has {extra[0]!r}, which its space lacks, so that nobody sees it",
                "add it to the observation space, or leave it out",
            )
    elif isinstance(space, spaces.Box):
        yield from _box_findings(space, obs, name)
    elif not space.contains(obs) and not space.contains(np.asarray(obs, space.dtype)):
        raise Broken(
            f"{name} is {obs!r}, which is not in its space {space}", "return only what it allows"
        )


def _box_findings(space: Any, obs: Any, name: str) -> Iterator[Finding]:
    value = np.asarray(obs)
    if value.shape != space.shape:
        raise Broken(
            f"{name} has the shape {value.shape}, but its space says {space.shape}",
            f"declare `shape={value.shape}`, or return an array of {space.shape}",
        )
    if value.dtype.kind not in "fiub":
        raise Broken(f"{name} is of the type {value.dtype}", "return an array of numbers")
    if not np.isfinite(value).all():
        raise Broken(
            f"{name} holds NaN or infinity", "find the step that makes it, or end the episode there"
        )
    if space.dtype == np.uint8 and value.dtype.kind == "f":
        raise Broken(
            f"{name} is {value.dtype}, but its space says uint8, which cuts fractions off",
            "return `(255 * image).astype(np.uint8)` if its values are between 0 and 1",
        )
    outside = (value < space.low) | (value > space.high)
    if outside.any():
        low, high = value[outside].min(), value[outside].max()
        where = f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
        if space.dtype == np.uint8:
            raise Broken(f"{name} holds {where}, outside of uint8", "clip it to 0 to 255")
        yield Finding(
            "warning",
            f"{name} leaves the bounds of its space (it holds {where})",
            "widen the bounds, to np.inf if there are none; the agent does not rely on them",
        )
    if not np.can_cast(value.dtype, space.dtype):
        yield Finding(
            "warning",
            f"{name} is {value.dtype}, but its space says {space.dtype}",
            f"return `obs.astype(np.{space.dtype})`",
        )


def result_findings(reward: Any, flags: Mapping[str, Any], info: Any) -> Iterator[Finding]:
    """Look at what step() returns besides the observation."""
    try:
        number = float(np.asarray(reward).reshape(()))
    except (TypeError, ValueError):
        raise Broken(
            f"the reward is {reward!r}, not one number", "return a float: `float(reward)`"
        ) from None
    if not math.isfinite(number):
        raise Broken(f"the reward is {number}", "find the step that makes it")
    for name, flag in flags.items():
        if not isinstance(flag, (bool, np.bool_)):
            yield Finding(
                "warning",
                f"{name} is {flag!r} of the type {type(flag).__name__}, not a bool",
                f"return `bool({name})`",
            )
    if not isinstance(info, dict):
        yield Finding("warning", f"info is of the type {type(info).__name__}", "return a dict: {}")


def failure(error: BaseException, what: str) -> Broken:
    """Describe an exception in the user's code, with the innermost line of it."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "site-packages" not in frame.filename] or list(frames)
    where = f"{pathlib.PurePath(own[-1].filename).name}:{own[-1].lineno}: {own[-1].line}"
    if isinstance(error, TypeError) and what == "reset" and "argument" in str(error):
        return Broken(f"reset() does not take seed and options ({error})", f"write `{RESET}`")
    here = pathlib.PurePath(sys.modules[__name__].__file__ or "").parent
    mend = "mend that line" if not own[-1].filename.startswith(str(here)) else "see above"
    return Broken(f"{what}() raised {type(error).__name__}: {error} ({where})", mend)
