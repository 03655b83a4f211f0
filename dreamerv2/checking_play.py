"""Plays an environment with random actions to see what only shows in use; see `checking`."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from dreamerv2.checking_rules import (
    Broken,
    Finding,
    failure,
    observation_findings,
    result_findings,
)
from dreamerv2.common.envs.observations import obs_leaves
from dreamerv2.common.envs.spaces import act_spec
from dreamerv2.common.envs.wrappers import unpack
from dreamerv2.common.errors import UserError

# Seconds of playing after which a slow environment is judged by what was seen.
PATIENCE = 20.0


@dataclasses.dataclass
class Play:
    """What was seen while playing.

    Attributes:
        rewards: Of every step.
        lengths: Steps of every episode that ended.
        terminated: Whether it ended by `terminated`, for each of those.
        vectors: For each vector observation, those of all steps.
        images: For each image, the largest value, and whether it ever changed.
        speed: Steps per second.
    """

    rewards: list[float] = dataclasses.field(default_factory=list)
    lengths: list[int] = dataclasses.field(default_factory=list)
    terminated: list[bool] = dataclasses.field(default_factory=list)
    vectors: dict[str, list[np.ndarray]] = dataclasses.field(default_factory=dict)
    images: dict[str, tuple[int, bool]] = dataclasses.field(default_factory=dict)
    speed: float = 0.0


class Player:
    """Calls an environment with random actions, and looks at everything that it returns.

    Args:
        env: A gymnasium.Env whose spaces are supported.
        size: Height and width of images for the networks.
        add: Called with every finding.
    """

    def __init__(self, env: Any, size: tuple[int, int], add: Callable[[Finding], None]) -> None:
        self._env, self._add = env, add
        self._leaves = obs_leaves(env.observation_space, size, "checked")
        self._actions = act_spec(env.action_space, "checked")

    def reset(self, seed: int | None = None) -> Any:
        """Reset and return the observation.

        Raises:
            Broken: The result is not usable.
        """
        obs, info = self._call("reset", seed=seed, options=None)
        if not isinstance(info, dict):
            self._add(
                Finding(
                    "warning",
                    f"reset() returns an info of the type {type(info).__name__}",
                    "return `obs, {}`",
                )
            )
        self._look(obs)
        return obs

    def step(self, rng: np.random.Generator) -> tuple[Any, float, bool, bool]:
        """Take a random action.

        Raises:
            Broken: The result is not usable.
        """
        action = self._actions.to_env(self._actions.sample(rng, 1))[0]
        obs, reward, terminated, truncated, info = self._call("step", action)
        flags = {"terminated": terminated, "truncated": truncated}
        for finding in result_findings(reward, flags, info):
            self._add(finding)
        self._look(obs)
        return obs, float(np.asarray(reward).reshape(())), bool(terminated), bool(truncated)

    def _call(self, what: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        try:
            result = getattr(self._env, what)(*args, **kwargs)
        except Exception as error:
            raise failure(error, what) from error
        try:
            return unpack(result, what)
        except UserError as error:
            problem, _, mend = str(error).partition(": ")
            raise Broken(problem.replace(" of the environment", ""), mend) from None

    def _look(self, obs: Any) -> None:
        for finding in observation_findings(self._env.observation_space, obs):
            self._add(finding)

    def play(self, steps: int, seed: int) -> Play:
        """Play for a number of steps, less if the environment is slow."""
        seen, rng = Play(), np.random.default_rng(seed)
        obs, length = self.reset(seed), 0
        begin = time.monotonic()
        first = {leaf.key: leaf(obs) for leaf in self._leaves}
        for _ in range(steps):
            obs, reward, terminated, truncated = self.step(rng)
            length += 1
            seen.rewards.append(reward)
            for leaf in self._leaves:
                value = leaf(obs)
                if leaf.spec.is_image:
                    top, moved = seen.images.get(leaf.key, (int(first[leaf.key].max()), False))
                    moved = moved or not np.array_equal(value, first[leaf.key])
                    seen.images[leaf.key] = max(top, int(value.max())), moved
                else:
                    seen.vectors.setdefault(leaf.key, []).append(value)
            if terminated or truncated:
                seen.lengths.append(length)
                seen.terminated.append(terminated)
                self.reset()
                length = 0
            if time.monotonic() - begin > PATIENCE:
                break
        seen.speed = len(seen.rewards) / max(time.monotonic() - begin, 1e-9)
        return seen

    def trace(self, steps: int, seed: int) -> list[tuple[Any, ...]]:
        """Return what the first steps after a reset with a seed are."""
        rng = np.random.default_rng(seed)
        obs, result = self.reset(seed), []
        result.append((*self._arrays(obs), 0.0, False, False))
        for _ in range(steps):
            obs, *rest = self.step(rng)
            result.append((*self._arrays(obs), *rest))
            if rest[1] or rest[2]:
                break
        return result

    def _arrays(self, obs: Any) -> list[np.ndarray]:
        return [leaf(obs) for leaf in self._leaves]


def seed_findings(player: Player, steps: int = 30) -> Iterator[Finding]:
    """Look whether the same seed and actions lead to the same episode."""
    first, second = player.trace(steps, 7), player.trace(steps, 7)
    for step, (left, right) in enumerate(zip(first, second, strict=False)):
        if not all(np.array_equal(a, b) for a, b in zip(left, right, strict=True)):
            yield Finding(
                "warning",
                "two episodes with the same seed and the same actions differ, first "
                + (f"in step {step}" if step else "in what reset(seed=7) returns"),
                "begin reset() with `super().reset(seed=seed)` and draw every random number from "
                "`self.np_random`",
            )
            return


def play_findings(seen: Play, *, limited: bool, clip_rewards: str, steps: int) -> Iterator[Finding]:
    """Judge what was seen while playing.

    Args:
        seen: From `Player.play`.
        limited: Whether there is a time limit.
        clip_rewards: Setting of that name.
        steps: Number of steps that were asked for.
    """
    yield from _length_findings(seen, limited)
    yield from _reward_findings(seen, clip_rewards)
    for key, (top, moved) in seen.images.items():
        if top <= 1:
            yield Finding(
                "warning",
                f"the largest value of the image {key!r} is {top}",
                "images go from 0 to 255: multiply by 255",
            )
        elif not moved:
            yield Finding(
                "warning",
                f"the image {key!r} is the same in all steps",
                "look whether it is drawn anew in every step",
            )
    for key, rows in seen.vectors.items():
        spread = np.std(np.stack(rows), 0) if rows else np.zeros(1)
        largest = float(np.max(np.abs(rows))) if rows else 0.0
        if largest > 100:
            yield Finding(
                "warning",
                f"the observation {key!r} reaches {largest:.4g}, which outweighs all other losses",
                "divide it, or wrap with gymnasium.wrappers.TransformObservation, to about -1 to 1",
            )
        elif 1e-6 < spread.max() < 1e-2:
            yield Finding(
                "note",
                f"the observation {key!r} varies by {spread.max():.2g} only, too little to be "
                "learned beside the other losses",
                "scale it to about -1 to 1, or raise `loss_scales.proprio`",
            )
    if len(seen.rewards) < steps or seen.speed < 50:
        yield Finding(
            "note",
            f"the environment makes {seen.speed:.3g} steps per second",
            "several in processes of their own may help: `envs` and `envs_parallel: process`",
        )


def _length_findings(seen: Play, limited: bool) -> Iterator[Finding]:
    lengths = seen.lengths
    if not lengths and not limited:
        yield Finding(
            "warning",
            f"no episode ended within {len(seen.rewards):,} random steps, and there is no time "
            "limit",
            "set `time_limit`, or wrap with gymnasium.wrappers.TimeLimit(env, max_episode_steps)",
        )
    if len(lengths) >= 3 and max(lengths) == 1:
        yield Finding(
            "warning",
            "all episodes end after one step",
            "there is nothing to plan; a bandit algorithm is simpler",
        )
    elif len(lengths) >= 3 and len(set(lengths)) == 1 and all(seen.terminated):
        yield Finding(
            "note",
            f"all episodes ended by terminated after exactly {lengths[0]} steps, which looks like "
            "a time limit",
            "if it is one, return terminated=False and truncated=True there: the world goes on, "
            "and so do the values of its states",
        )


def _reward_findings(seen: Play, clip_rewards: str) -> Iterator[Finding]:
    sizes = np.abs(seen.rewards or [0.0])
    largest = float(sizes.max())
    scale = f"TransformReward(env, lambda reward: reward / {largest:.2g})"
    if largest == 0:
        yield Finding(
            "note",
            f"{len(seen.rewards):,} random steps met no reward",
            "the agent learns nothing before it finds one: start closer to it, or reward progress",
        )
    elif clip_rewards == "tanh" and largest > 3:
        yield Finding(
            "warning",
            f"rewards reach {largest:.4g}, but `clip_rewards: tanh` maps all beyond 3 to 1",
            f"set `clip_rewards: identity` and bring them to about 1: gymnasium.wrappers.{scale}",
        )
    elif clip_rewards == "identity" and largest > 30:
        yield Finding(
            "warning",
            f"rewards reach {largest:.4g}, which outweighs all other losses",
            f"bring them to about 1: gymnasium.wrappers.{scale}",
        )
    elif largest < 1e-2:
        yield Finding(
            "warning",
            f"the largest reward is {largest:.2g}, less than the world model notices",
            "bring rewards to about 1 with gymnasium.wrappers.TransformReward",
        )
