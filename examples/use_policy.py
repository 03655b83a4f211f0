"""Use a trained agent: in one environment, in several at once, and its dreams.

    python examples/use_policy.py --logdir ~/logdir/dummy_catch/dreamerv2/1 --env dummy_catch
    python examples/use_policy.py --logdir ~/logdir/cartpole/1 --env CartPole-v1

The folders are those of runs that `dreamerv2 train` or `dreamerv2.api.train` made.
"""

from __future__ import annotations

import argparse

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import dreamerv2.api as dv2
from dreamerv2.common.envs.dummy import Catch


def make_env(name: str) -> gymnasium.Env:
    """Make the environment: it has to be of the kind that the agent was trained on."""
    return Catch() if name == "dummy_catch" else gymnasium.make(name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--logdir", default="~/logdir/dummy_catch/dreamerv2/1")
    parser.add_argument("--env", default="dummy_catch")
    parser.add_argument("--steps", type=int, default=100)
    args = parser.parse_args()
    policy = dv2.load(args.logdir)

    # One environment. The policy remembers what it saw since reset().
    env = make_env(args.env)
    obs, _ = env.reset(seed=1)
    policy.reset(seed=1)
    total = 0.0
    for _ in range(args.steps):
        obs, reward, terminated, truncated, _ = env.step(policy.act(obs))
        total += float(reward)
        if terminated or truncated:
            break
    print(f"One episode: return {total:g}.")

    # Several at once: the same calls with stacked arrays.
    makers = [lambda: make_env(args.env)] * 4
    envs = SyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP)
    batch, _ = envs.reset(seed=2)
    policy.reset()
    rewards = np.zeros(4)
    for _ in range(args.steps):
        batch, reward, terminated, truncated, _ = envs.step(policy.act(batch))
        rewards += reward
        policy.reset(terminated | truncated)  # These observations begin new episodes.
    print(f"{args.steps} steps in four environments: rewards {rewards.tolist()}.")

    # What does the agent expect to happen, once it has seen the beginning of four episodes?
    batch, _ = envs.reset(seed=3)
    policy.reset()
    policy.act(batch)
    dream = policy.model.imagine(policy.state, horizon=10, seed=0)
    print(f"Imagined actions {dream['action'][0].tolist()}, rewards {dream['reward'][0].round(2)}.")
    pictures = policy.model.decode(dream)
    print({name: f"{value.dtype} {value.shape}" for name, value in pictures.items()})

    print(policy.evaluate(lambda: make_env(args.env), episodes=10))


if __name__ == "__main__":
    main()
