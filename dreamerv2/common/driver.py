"""Steps environments with a policy and hands out what happened, transition by transition."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from dreamerv2.common.envs.spaces import ActSpec
from dreamerv2.common.envs.vector import Batch, VecEnv

Transition = dict[str, np.ndarray]
Policy = Callable[[Batch, Any], tuple[np.ndarray, Any]]
Callback = Callable[[Transition, int], None]


class PolicyError(ValueError):
    """A policy gave actions of a wrong shape or actions that are not finite."""


class Driver:
    """Steps a vector environment with a policy.

    Alignment: `action[t]` and `reward[t]` of a transition belong to arriving at observation t.
    The transition of a reset (`is_first`) has a zero action and a zero reward; whatever the
    policy answered to the last observation of an episode is dropped.

        obs      o0 ----> o1 ----> o2 (is_last)  o0' ----> o1'
        action   0        a0       a1            0         a0'
        reward   0        r1       r2            0         r1'

    Episodes run on between calls, and so does the policy state.
    """

    def __init__(
        self,
        env: VecEnv,
        *,
        on_transition: Callback | None = None,
        on_episode: Callback | None = None,
        keep: str = r"reward$|log_",
        video: str = r"$^",
        video_length: int = 1000,
    ) -> None:
        """Create a driver; the environment is not touched before the first call.

        An episode of Atari images can take 100 MB and more, which is why only the keys that
        somebody asked for are kept until its end.

        Args:
          env: The environments.
          on_transition: Called as `f(transition, worker)` for every transition, also that of a
            reset; arrays without batch dimension.
          on_episode: Called as `f(episode, worker)` after the last transition of an episode, with
            arrays `(T, ...)`, T being one more than its agent steps.
          keep: Regular expression (matched from the start) of the keys kept for `on_episode`.
          video: Regular expression of keys of which only the first `video_length` transitions
            are kept; takes precedence over `keep`.
          video_length: Transitions; 0 keeps none.
        """
        self._env = env
        self._on_transition = on_transition
        self._on_episode = on_episode
        self._keep = re.compile(keep)
        self._video = re.compile(video)
        self._video_length = video_length
        self._limits: dict[str, float] = {}  # Transitions of an episode that are kept, by key.
        self._keys: list[str] = []
        self.reset()

    def reset(self) -> None:
        """Drop the running episodes and the policy state; the next call starts new episodes."""
        self._batch: Batch | None = None
        self._state: Any = None
        self._episodes: list[dict[str, list[np.ndarray]]] = [{} for _ in range(self._env.num)]
        self._lengths = [0] * self._env.num
        self._left = [0] * self._env.num  # Episodes of each environment that are still wanted.

    def __call__(self, policy: Policy, steps: int = 0, episodes: int = 0) -> int:
        """Step until at least `steps` agent steps and `episodes` episodes have been seen.

        With several environments every one of them contributes its share of `episodes`, and those
        beyond its share are not reported to `on_episode` if `steps` is 0. Taking the first ones
        to finish would prefer short episodes.

        Args:
          policy: `actions, state = policy(batch, state)` with the batch as `VecEnv` gives it and
            actions `(N, A)` float32. The state is None at first and otherwise what the policy
            returned last.
          steps: Agent steps, that is, actions taken; resets do not count.
          episodes: Episodes.

        Returns:
          The agent steps taken.

        Raises:
          PolicyError: If the actions have a wrong shape or are not finite.
          EnvError: From the environments.
        """
        num = self._env.num
        self._left = [episodes // num + (i < episodes % num) for i in range(num)]
        taken = 0
        while taken < steps or (episodes and max(self._left) > 0):
            taken += self._step(policy, report_all=steps > 0)
        return taken

    def _step(self, policy: Policy, report_all: bool) -> int:
        """Step the environments once, or reset them at the start; return the agent steps taken."""
        num = self._env.num
        if self._batch is None:
            self._batch = self._env.reset()
            zeros = np.zeros((num, self._env.act_space.dim), np.float32)
            self._emit(self._batch, zeros, report_all=True)
            return 0
        actions, self._state = policy(self._batch, self._state)
        actions = self._check(actions)
        self._batch = self._env.step(actions)
        is_first = self._batch["is_first"]
        resets = int(np.count_nonzero(is_first))
        if resets:
            actions = np.where(is_first[:, None], np.float32(0), actions)
        self._emit(self._batch, actions, report_all)
        return num - resets

    def _emit(self, batch: Batch, actions: np.ndarray, report_all: bool) -> None:
        for i in range(self._env.num):
            transition = {key: value[i] for key, value in batch.items()}
            transition["action"] = actions[i]
            if self._on_transition:
                self._on_transition(transition, i)
            if self._on_episode:
                self._record(transition, i)
            if transition["is_last"]:
                self._left[i] -= 1
                if self._on_episode and (report_all or self._left[i] >= 0):
                    episode = {k: np.stack(v) for k, v in self._episodes[i].items()}
                    self._on_episode(episode, i)

    def _record(self, transition: Transition, worker: int) -> None:
        if transition["is_first"]:
            self._episodes[worker] = {}
            self._lengths[worker] = 0
        self._lengths[worker] += 1
        episode = self._episodes[worker]
        if self._keys != [*transition]:
            self._find_limits([*transition])
        for key, limit in self._limits.items():
            if self._lengths[worker] <= limit:
                # A view would keep the arrays of all environments alive.
                episode.setdefault(key, []).append(transition[key].copy())

    def _find_limits(self, keys: list[str]) -> None:
        """Match the keys of transitions, which do not change, to what is kept of them."""
        self._keys, self._limits = keys, {}
        for key in keys:
            kept = math.inf if self._keep.match(key) else 0
            if limit := self._video_length if self._video.match(key) else kept:
                self._limits[key] = limit

    def _check(self, actions: Any) -> np.ndarray:
        actions = np.asarray(actions, np.float32)
        shape = (self._env.num, self._env.act_space.dim)
        if actions.shape != shape:
            raise PolicyError(
                f"the policy for {self._env.name!r} must give actions of the shape {shape}, one "
                f"row per environment, but gave {actions.shape}"
            )
        # A sum of squares that is finite rules out the others, in a fifth of the time.
        if not math.isfinite(np.vdot(actions, actions)) and not np.isfinite(actions).all():
            row = int(np.argmin(np.isfinite(actions).all(1)))
            raise PolicyError(
                f"the policy for {self._env.name!r} gave an action that is not finite for "
                f"environment {row}: {actions[row].tolist()}"
            )
        return actions


class RandomPolicy:
    """Uniformly random actions, for filling a replay before training."""

    def __init__(self, act_space: ActSpec, num: int, seed: int = 0) -> None:
        """Create the policy.

        Args:
          act_space: Actions to draw.
          num: Number of environments.
          seed: Of the actions.
        """
        self._act_space = act_space
        self._num = num
        self._rng = np.random.default_rng(seed)

    def __call__(self, batch: Batch, state: Any = None) -> tuple[np.ndarray, Any]:
        """Draw `(N, A)` float32 actions; the batch is not looked at, the state passed on."""
        return self._act_space.sample(self._rng, self._num), state

    def state(self) -> dict[str, Any]:
        """Position in the stream of random numbers, for JSON."""
        return dict(self._rng.bit_generator.state)

    def restore(self, state: dict[str, Any]) -> None:
        """Go to a position that `state` gave."""
        self._rng.bit_generator.state = state
