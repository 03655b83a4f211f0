"""Environments that break their promises, one way each; registered when this is imported."""

from __future__ import annotations

import functools
import os
import sys
import time
from typing import Any

import gymnasium
import numpy as np

AT = 25  # Step at which something happens, in the first episode that gets there.


class Bad(gymnasium.Env[Any, Any]):
    """A vector and two actions; episodes of 40 steps, unless they are bad in another way."""

    at = AT

    def __init__(self, how: str = "fine", at: int = 0) -> None:
        self.how = how
        if at:
            self.at = at
        self.observation_space = gymnasium.spaces.Box(-1, 1, (3,), np.float32)
        if how.startswith("image"):
            self.observation_space = gymnasium.spaces.Box(0, 255, (8, 8, 1), np.uint8)
        if how.startswith("choice"):
            self.observation_space = gymnasium.spaces.Discrete(3)
        self.action_space = gymnasium.spaces.Discrete(2)
        self.count = 0
        if how == "make":
            raise OSError("no such\nsimulator")

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.count = 0
        return self._obs(), {}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self.count += 1
        obs, reward, last = self._obs(), 1.0, self.count == 40
        if self.how == "never":
            last = False
        if self.how == "first":
            last = True
        if self.count == self.at:
            obs, reward = self._misbehave(obs, reward)
        return obs, reward, last, False, {}

    def close(self) -> None:
        if self.how == "close":
            raise RuntimeError("cannot close")

    def _obs(self) -> Any:
        obs = self.observation_space.sample()
        return obs

    def _misbehave(self, obs: Any, reward: Any) -> tuple[Any, Any]:
        if self.how == "raise":
            raise KeyError("oh no")
        if self.how == "quit":
            sys.exit(3)
        if self.how == "die":
            os._exit(3)
        if self.how == "hang":
            time.sleep(1000)
        changed = {
            "nan": lambda: obs * np.nan,
            "inf": lambda: obs + np.inf,
            "overflow": lambda: obs.astype(np.float64) * 1e300,
            "shape": lambda: np.zeros(4, np.float32),
            "text": lambda: np.array(["a", "b", "c"]),
            "none": lambda: None,
            "ragged": lambda: [1.0, [2.0, 3.0]],
            "double": lambda: obs.astype(np.float64),
            "whole": lambda: np.ones(3, np.int64),
            "image_float": lambda: obs / 255.0,
            "image_wide": lambda: obs.astype(np.int64),
            "image_outside": lambda: obs.astype(np.int64) + 300,
            "choice_outside": lambda: 3,
            "choice_negative": lambda: -1,
            "choice_float": lambda: 1.5,
        }
        rewards = {
            "reward_nan": np.nan,
            "reward_inf": -np.inf,
            "reward_huge": 1e300,
            "reward_none": None,
            "reward_list": [1.0, 2.0],
            "reward_array": np.ones((1, 1)),
            "reward_text": "lots",
        }
        obs = changed[self.how]() if self.how in changed else obs
        return obs, rewards.get(self.how, reward)


def make(how: str, at: int = 0) -> Any:
    """Return a function that makes such environments."""
    return functools.partial(Bad, how, at)


for _how in ("fine", "raise", "quit", "hang", "die", "nan", "reward_nan", "never", "first", "make"):
    gymnasium.register(f"Bad_{_how}-v0", make(_how))
