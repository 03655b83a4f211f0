"""Continuous control: swing a pendulum up, with several environments and scaled rewards.

    python examples/continuous_control.py --logdir ~/logdir/pendulum/1

`--parallel process` steps each environment in a process of its own, which pays where a step takes
longer than a message between processes, about a tenth of a millisecond.
"""

from __future__ import annotations

import argparse

import gymnasium
from gymnasium.wrappers import TransformReward

import dreamerv2.api as dv2


def make_env() -> gymnasium.Env:
    """Make a pendulum whose rewards are about 1 in size; they go down to -16 otherwise."""
    return TransformReward(gymnasium.make("Pendulum-v1"), lambda reward: reward / 8.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--logdir", default="~/logdir/custom_Pendulum-v1/dreamerv2/1")
    parser.add_argument("--steps", type=int, default=20000)
    parser.add_argument("--envs", type=int, default=2)
    parser.add_argument("--parallel", choices=["none", "process"], default="none")
    parser.add_argument("--configs", nargs="+", default=["vector"])
    args = parser.parse_args()

    config = dv2.configs(*args.configs).update(
        {
            "logdir": args.logdir,
            "steps": args.steps,
            "envs": args.envs,
            "envs_parallel": args.parallel,
            "action_repeat": 2,
            # Bounds of the action space are read from it: networks act within [-1, 1].
            "actor_ent": 1e-3,
            "discount": 0.98,
        }
    )
    policy = dv2.train(make_env, config)
    print(policy.evaluate(make_env, episodes=5))


if __name__ == "__main__":
    main()
