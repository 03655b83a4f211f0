"""Train on an environment of your own: a corridor in which one must remember a sign.

    python examples/own_environment.py --logdir ~/logdir/corridor/1

A lamp at the start, lit in the first observation only, says at which end of the corridor the reward
is. Who forgets it finds the reward half of the time.
"""

from __future__ import annotations

import argparse
from typing import Any

import gymnasium
import numpy as np

import dreamerv2.api as dv2


class Corridor(gymnasium.Env):
    """Cells -3 to 3; actions left and right; the reward is 1 at the end that the lamp named."""

    END = 3
    PATIENCE = 20

    def __init__(self) -> None:
        # Values between about -1 and 1 are learned best.
        self.observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(2)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)  # Seeds self.np_random, the only source of chance in here.
        self._good = int(self.np_random.choice([-1, 1]))
        self._place = self._steps = 0
        return self._observe(lamp=self._good), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self._place += 1 if action == 1 else -1
        self._steps += 1
        terminated = abs(self._place) == self.END  # The episode is over,
        truncated = self._steps >= self.PATIENCE  # or is cut off although it could go on.
        reward = float(self._place == self.END * self._good)
        return self._observe(lamp=0), reward, terminated, truncated, {}

    def _observe(self, lamp: int) -> np.ndarray:
        return np.array([self._place / self.END, lamp], np.float32)


class StopWhenSolved(dv2.Callback):
    """Ends the run after an evaluation in which every episode found the reward."""

    def on_evaluation(self, run: dv2.RunView, episodes: list[dv2.Episode]) -> bool:
        worst = min(episode["reward"].sum() for episode in episodes)
        run.log("eval_worst_return", worst)  # Goes to metrics.jsonl and TensorBoard, too.
        return worst < 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--logdir", default="~/logdir/custom_Corridor/dreamerv2/1")
    parser.add_argument("--steps", type=int, default=10000)
    parser.add_argument("--configs", nargs="+", default=["vector"])
    args = parser.parse_args()

    for finding in dv2.check_env(Corridor):
        print(finding)

    config = dv2.configs(*args.configs).update({"logdir": args.logdir, "steps": args.steps})
    # The class, not an object of it: several can be made, for evaluations or with `envs: 4`.
    policy = dv2.train(Corridor, config, StopWhenSolved())
    print(policy.evaluate(Corridor, episodes=20))


if __name__ == "__main__":  # Needed with `envs_parallel: process`: workers import this file.
    main()
