"""Train on a dict of observations: an image of a map, and a vector that says where one is.

    python examples/dict_observations.py --logdir ~/logdir/map/1

Neither is enough alone: the image shows the goal, but not the agent.
"""

from __future__ import annotations

import argparse
from typing import Any

import gymnasium
import numpy as np

import dreamerv2.api as dv2

SIZE = 8


class Map(gymnasium.Env):
    """Walk on a board of 8 by 8 cells to the goal; each step there is worth 1."""

    MOVES = ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0))

    def __init__(self) -> None:
        self.observation_space = gymnasium.spaces.Dict(
            {
                # uint8 and channel-last makes it an image; it is resized to `render_size`.
                "map": gymnasium.spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8),
                # Everything else is a vector. Nested Dicts and Discrete are fine, too.
                "place": gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32),
                # Names that begin with log_ are logged, never seen by the agent.
                "log_distance": gymnasium.spaces.Box(0.0, 2.0 * SIZE, (), np.float32),
            }
        )
        self.action_space = gymnasium.spaces.Discrete(len(self.MOVES))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        super().reset(seed=seed)
        self._goal, self._place = self.np_random.integers(0, SIZE, (2, 2))
        self._steps = 0
        return self._observe(), {}

    def step(self, action: int) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        self._place = np.clip(self._place + self.MOVES[action], 0, SIZE - 1)
        self._steps += 1
        reward = float((self._place == self._goal).all())
        return self._observe(), reward, False, self._steps >= 30, {}

    def _observe(self) -> dict[str, Any]:
        image = np.full((SIZE, SIZE, 3), 40, np.uint8)
        image[tuple(self._goal)] = (255, 200, 0)
        place = (2 * self._place / (SIZE - 1) - 1).astype(np.float32)
        distance = np.float32(np.abs(self._goal - self._place).sum())
        return {"map": image, "place": place, "log_distance": distance}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--logdir", default="~/logdir/custom_Map/dreamerv2/1")
    parser.add_argument("--steps", type=int, default=50000)
    parser.add_argument("--configs", nargs="+", default=["small"])
    args = parser.parse_args()

    config = dv2.configs(*args.configs).update(
        {
            "logdir": args.logdir,
            "steps": args.steps,
            # Which of the observations networks read and predict, by regular expression.
            "encoder": {"cnn_keys": "map", "mlp_keys": "place"},
            "decoder": {"cnn_keys": "map", "mlp_keys": "place"},
            "loss_scales.proprio": 100.0,  # Two numbers beside 12288: the image would drown them.
            "log_keys_video": ["map"],
            "log_keys_mean": "log_distance",
        }
    )
    policy = dv2.train(Map, config)

    env = Map()
    obs, _ = env.reset(seed=0)
    policy.reset()
    action = policy.act(obs)  # The dict as it comes; what networks do not read may be missing.
    print(f"At {obs['place']} the agent goes {Map.MOVES[action]}.")
    imagined = policy.model.decode(policy.model.imagine(policy.state, horizon=10))
    print({key: value.shape for key, value in imagined.items()})


if __name__ == "__main__":
    main()
