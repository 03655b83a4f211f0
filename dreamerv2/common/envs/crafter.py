"""Crafter: an open world with 22 achievements (Hafner, 2021, https://arxiv.org/abs/2109.06780).

The library is not bound to any version of Gym; what it lacks for Gymnasium is added here. It is
also made reproducible: in the library the same seed and actions give different animals from one
run to the next, because it walks over sets of objects, whose order depends on their addresses.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np

from dreamerv2.common.envs import extras
from dreamerv2.common.errors import UserError

NAMES = ("reward", "noreward")

# Two pixels for each of 9 cells, inventory included: with fewer its textures vanish.
SMALLEST = 18


def constructor(name: str, *, size: tuple[int, int]) -> Callable[[], gymnasium.Env]:
    """Make a function that creates the environment.

    Args:
      name: `reward`, or `noreward` for zero rewards.
      size: Height and width of images, at least 18.

    Raises:
      UserError: If there is no such task, the size is too small, or the library is missing.
    """
    task = f"crafter_{name}"
    if name not in NAMES:
        raise UserError(f"the task {task!r} does not exist: use crafter_reward or crafter_noreward")
    if min(size) < SMALLEST:
        raise UserError(
            f"render_size is {list(size)}, but an image of Crafter needs at least {SMALLEST} by "
            f"{SMALLEST} pixels: use the usual [64, 64]"
        )
    extras.require("crafter", "crafter", task)
    return lambda: Crafter(reward=name == "reward", size=size)


class Crafter(gymnasium.Env):
    """One world after another.

    Observations are `image`, `(H, W, 3)` uint8, and for the logs only, float32 scalars:
    `log_reward`, the reward even where the agent gets none, and `log_achievement_<name>`, how
    often the achievement was unlocked in this episode.

    The reward is 1 when an achievement is unlocked for the first time in the episode, and 0.1 for
    every health point won or lost. An episode terminates with death and is truncated after 10,000
    steps. There are 17 discrete actions.
    """

    def __init__(self, reward: bool = True, size: tuple[int, int] = (64, 64)) -> None:
        """Create the environment.

        Args:
          reward: Give the reward to the agent.
          size: Height and width of images.
        """
        constants = extras.require("crafter.constants", "crafter", "crafter_reward")
        self._reward = reward
        self._size = size
        self._world: Any = None
        self._achievements = tuple(constants.achievements)
        scalar = functools.partial(gymnasium.spaces.Box, shape=(), dtype=np.float32)
        self.action_space = gymnasium.spaces.Discrete(len(constants.actions))
        self.observation_space = gymnasium.spaces.Dict(
            {
                "image": gymnasium.spaces.Box(0, 255, (*size, 3), np.uint8),
                "log_reward": scalar(-np.inf, np.inf),
                **{f"log_achievement_{name}": scalar(0, np.inf) for name in self._achievements},
            }
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Generate the next world of the seed, or the first one of a new seed."""
        super().reset(seed=seed)
        if seed is not None or self._world is None:
            # The library draws worlds from this number and a count of episodes.
            number = int(self.np_random.integers(2**31 - 1))
            self._world = _reproducible()(size=self._size[::-1], reward=self._reward, seed=number)
        return self._obs(self._world.reset(), 0.0, {}), {}

    def step(self, action: Any) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Take one of 17 actions."""
        image, reward, done, info = self._world.step(int(action))
        obs = self._obs(image, info["reward"], info["achievements"])
        terminated = info["discount"] == 0
        return obs, float(reward), terminated, done and not terminated, {}

    def _obs(
        self, image: np.ndarray, reward: float, unlocked: dict[str, int]
    ) -> dict[str, np.ndarray]:
        counts = {
            f"log_achievement_{name}": np.array(unlocked.get(name, 0), np.float32)
            for name in self._achievements
        }
        return {"image": image, "log_reward": np.array(reward, np.float32), **counts}


@functools.cache
def _reproducible() -> Any:
    """The environment of the library, with objects taken in the order of their creation."""
    import crafter

    class Reproducible(crafter.Env):
        def _balance_chunk(self, chunk: Any, objs: Any) -> None:
            indices = self._world._obj_map
            super()._balance_chunk(chunk, sorted(objs, key=lambda obj: indices[tuple(obj.pos)]))

    return Reproducible
