"""Two small environments: one to find errors of bookkeeping, one to learn within minutes."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

Obs = Any


class Count(gymnasium.Env):
    """Counts episodes and steps, so that every value tells where it came from.

    The step counter is 0 at a reset. `count` is `[episode, step]`; the red and green channels of
    `image` hold the same numbers modulo 256; `log_action` is the action that was taken, -1 at a
    reset. The reward of a step is its number. Even episodes terminate, odd ones are truncated.
    A reset with a seed starts at episode 0.
    """

    def __init__(self, length: int = 10, variable: bool = False) -> None:
        """Create the environment.

        Args:
          length: Steps of an episode.
          variable: Lengthen episode i by `i % 3` steps.
        """
        self.action_space = gymnasium.spaces.Discrete(3)
        self.observation_space = gymnasium.spaces.Dict(
            {
                "count": gymnasium.spaces.Box(0, np.inf, (2,), np.float32),
                "image": gymnasium.spaces.Box(0, 255, (8, 8, 3), np.uint8),
                "log_action": gymnasium.spaces.Box(-1, 2, (), np.float32),
            }
        )
        self._length = length
        self._variable = variable
        self._episode = -1
        self._step = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Obs, dict[str, Any]]:
        """Start the next episode, or episode 0 if there is a seed."""
        super().reset(seed=seed)
        self._episode = 0 if seed is not None else self._episode + 1
        self._step = 0
        return self._obs(-1), {}

    def step(self, action: Any) -> tuple[Obs, float, bool, bool, dict[str, Any]]:
        """Count one step."""
        self._step += 1
        end = self._step >= self._length + (self._episode % 3 if self._variable else 0)
        odd = self._episode % 2 == 1
        return self._obs(int(action)), float(self._step), end and not odd, end and odd, {}

    def _obs(self, action: int) -> Obs:
        image = np.zeros((8, 8, 3), np.uint8)
        image[..., 0] = self._episode % 256
        image[..., 1] = self._step % 256
        return {
            "count": np.array([self._episode, self._step], np.float32),
            "image": image,
            "log_action": np.array(action, np.float32),
        }


class Catch(gymnasium.Env):
    """A ball falls and vanishes; the paddle must stand where it lands.

    The world has 8 by 8 cells. The ball (white) starts at the top of a random column and is visible
    in the first two observations only. The paddle (green), two cells wide, starts anywhere in the
    bottom row and moves one cell per step: left, stay or right. After 10 steps the ball lands and
    is shown once more; catching it gives the reward 1, all else 0. A perfect agent has the mean
    return 1, a random one about 0.25, and the best one that forgets the ball less than 0.7.
    """

    CELLS = 8
    LENGTH = 10
    VISIBLE = 2

    def __init__(self) -> None:
        self.action_space = gymnasium.spaces.Discrete(3)
        self.observation_space = gymnasium.spaces.Box(0, 255, (64, 64, 3), np.uint8)
        self._ball = self._paddle = self._step = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Obs, dict[str, Any]]:
        """Drop a ball in a random column, put the paddle anywhere."""
        super().reset(seed=seed)
        self._ball = int(self.np_random.integers(self.CELLS))
        self._paddle = int(self.np_random.integers(self.CELLS - 1))
        self._step = 0
        return self._image(), {}

    def step(self, action: Any) -> tuple[Obs, float, bool, bool, dict[str, Any]]:
        """Move the paddle: 0 left, 1 stay, 2 right."""
        self._step += 1
        self._paddle = int(np.clip(self._paddle + int(action) - 1, 0, self.CELLS - 2))
        landed = self._step >= self.LENGTH
        caught = landed and self._ball - self._paddle in (0, 1)
        return self._image(), float(caught), landed, False, {}

    def _image(self) -> np.ndarray:
        cells = np.zeros((self.CELLS, self.CELLS, 3), np.uint8)
        cells[-1, self._paddle : self._paddle + 2, 1] = 255
        if self._step < self.VISIBLE:
            cells[self._step, self._ball] = 255
        elif self._step >= self.LENGTH:
            cells[-2, self._ball] = 255
        return cells.repeat(8, 0).repeat(8, 1)


ENVS = {"count": Count, "catch": Catch}
