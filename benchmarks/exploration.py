"""Measures how much of a MiniGrid world exploration sees without any reward; prints JSON.

    python benchmarks/exploration.py --behaviors Random Plan2Explore --seeds 0 1 2

The layout is the same in every episode, episodes start in the same cell and end after
`--episode` agent steps, and the agent sees the numbers that MiniGrid encodes the 7 by 7 cells in
front of it with (walls hide what is behind them). Coverage is the number of different cells that
the agent has stood in. Random is the behaviour that fills the replay of every agent; whatever else
is named trains as `dreamerv2 train` does, starting with `--prefill` random steps that count, too,
and never sees a reward of the task in imagination (`expl_extr_scale` 0). Every run is a process of
its own; `--jobs` of them at a time.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import itertools
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

SETTINGS = {
    "pretrain": 50,
    "train_every": 6,
    "log_every": 500,
    "eval_every": 0,
    "eval_eps": 0,
    "dataset": {"batch": 16, "length": 12},
    "imag_horizon": 8,
    "model_opt.lr": 1e-3,
    "actor_opt.lr": 1e-3,
    "critic_opt.lr": 1e-3,
    "expl_opt.lr": 1e-3,
    "actor_ent": 0.02,
    "disag_models": 5,
    "expl_reward_norm.momentum": 0.99,
}


def measure(
    behavior: str, seed: int, task: str, layout: int, steps: int, prefill: int, episode: int
) -> dict[str, object]:
    """Run one behaviour and return how its coverage grew."""
    import gymnasium
    import minigrid  # noqa: F401  # Registers its environments.
    import numpy as np

    from dreamerv2.common import envs
    from dreamerv2.common.driver import Driver, RandomPolicy

    visited: list[tuple[int, int]] = []
    begins: list[int] = []

    class Layout(gymnasium.Wrapper):
        """The same layout and start in every episode; notes the cells that are entered."""

        def __init__(self) -> None:
            super().__init__(gymnasium.make(task, max_steps=episode))
            self.observation_space = gymnasium.spaces.Box(0.0, 10.0, (151,), np.float32)

        def reset(self, *, seed=None, options=None):
            obs, info = self.env.reset(seed=layout, options=options)
            begins.append(len(visited))
            visited.append(tuple(self.unwrapped.agent_pos))
            return self._vector(obs), info

        def step(self, action):
            obs, reward, terminated, truncated, info = self.env.step(action)
            visited.append(tuple(self.unwrapped.agent_pos))
            return self._vector(obs), reward, terminated, truncated, info

        @staticmethod
        def _vector(obs) -> np.ndarray:
            view = obs["image"].astype(np.float32) / np.array([10, 5, 2], np.float32)
            return np.concatenate([view.ravel(), np.eye(4)[obs["direction"]]]).astype(np.float32)

    def make_env(mode: str, seed: int) -> envs.VecEnv:
        return envs.make_from(Layout, seed=seed, name=task)

    def free_cells() -> int:
        """Cells that can be reached, with every door open."""
        world = gymnasium.make(task)
        world.reset(seed=layout)
        grid, start = world.unwrapped.grid, tuple(world.unwrapped.agent_pos)
        reached, border = {start}, [start]
        while border:
            x, y = border.pop()
            for cell in ((x + 1, y), (x - 1, y), (x, y + 1), (x, y - 1)):
                there = grid.get(*cell)
                free = there is None or there.type in ("door", "goal", "floor")
                if free and cell not in reached:
                    reached.add(cell)
                    border.append(cell)
        return len(reached)

    begin = time.perf_counter()
    if behavior == "Random":
        with make_env("train", seed) as env:
            Driver(env)(RandomPolicy(env.act_space, env.num, seed), steps=steps)
    else:
        from dreamerv2.common import flags
        from dreamerv2.loop import run

        config = flags.build(ROOT / "dreamerv2" / "configs.yaml", ["vector"])
        with tempfile.TemporaryDirectory() as folder:
            changes = {
                "logdir": folder, "seed": seed, "steps": steps, "prefill": prefill,
                "task": f"gym_{task}", "expl_behavior": behavior,
            }  # fmt: skip
            run(config.update({**SETTINGS, **changes}), make_env)
    # A reset is no agent step, but the cell it leads to is one that was seen.
    resets = set(begins)
    seen: set[tuple[int, int]] = set()
    later: set[tuple[int, int]] = set()
    curve, taken, every = [], 0, max(1, steps // 20)
    for index, cell in enumerate(visited):
        seen.add(cell)
        if taken >= steps // 2:
            later.add(cell)
        if index not in resets:
            taken += 1
            if taken % every == 0:
                curve.append([taken, len(seen)])
    bounds = [*begins, len(visited)]
    lives = [len(set(visited[a:b])) for a, b in itertools.pairwise(bounds) if b - a > 1]
    half = lives[len(lives) // 2 :]
    return {
        "behavior": behavior,
        "seed": seed,
        "steps": taken,
        "reachable": free_cells(),
        "cells": len(seen),
        "cells_second_half": len(later),
        "cells_per_episode_second_half": round(statistics.mean(half), 2),
        "curve": curve,
        "seconds": round(time.perf_counter() - begin, 1),
    }


def main() -> None:
    """Parse the command line, run everything, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--behaviors", nargs="+", default=["Random", "Plan2Explore"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--task", default="MiniGrid-FourRooms-v0", help="A MiniGrid id.")
    parser.add_argument("--layout", type=int, default=0, help="Seed of the layout.")
    parser.add_argument("--steps", type=int, default=4000, help="Agent steps of each run.")
    parser.add_argument("--prefill", type=int, default=500, help="Random steps at its start.")
    parser.add_argument("--episode", type=int, default=100, help="Agent steps of an episode.")
    parser.add_argument("--jobs", type=int, default=1, help="Runs at a time.")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    world = (args.task, args.layout, args.steps, args.prefill, args.episode)
    if args.inside:
        print(json.dumps(measure(args.behaviors[0], args.seeds[0], *world)))
        return

    def one(behavior: str, seed: int) -> dict[str, object]:
        command = [
            sys.executable, __file__, "--inside", "--behaviors", behavior, "--seeds", str(seed),
            "--task", args.task, "--layout", str(args.layout), "--steps", str(args.steps),
            "--prefill", str(args.prefill), "--episode", str(args.episode),
        ]  # fmt: skip
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        return json.loads(done.stdout.splitlines()[-1])

    pairs = [(behavior, seed) for seed in args.seeds for behavior in args.behaviors]
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        runs = list(pool.map(lambda pair: one(*pair), pairs))
    summary = {}
    for behavior in args.behaviors:
        mine = [run for run in runs if run["behavior"] == behavior]
        summary[behavior] = {
            key: [run[key] for run in mine]
            for key in ("cells", "cells_second_half", "cells_per_episode_second_half")
        }
    print(json.dumps({"task": args.task, "summary": summary, "runs": runs}, indent=2))


if __name__ == "__main__":
    main()
