"""Measures how much of a MiniGrid world exploration sees without any reward; prints JSON.

    python benchmarks/exploration.py --behaviors Random Plan2Explore --seeds 0 1 2

The layout is the same in every episode, episodes start in the same cell and end after
`--episode` agent steps. The agent sees its column, row and direction (`--view above`, what a map
says), or the numbers that MiniGrid encodes the 7 by 7 cells in front of it with (`--view ahead`;
walls hide what is behind them, and most places look alike). Coverage is the number of different
cells that the agent has stood in. Random is the behaviour that fills the replay of every agent;
whatever else is named trains as `dreamerv2 train` does, starting with `--prefill` random steps that
count, too, and never sees a reward of the task in imagination (`expl_extr_scale` 0). Every run is a
process of its own; `--jobs` of them at a time.
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
    "train_every": 5,
    "log_every": 500,
    "eval_every": 0,
    "eval_eps": 0,
    "dataset": {"batch": 16, "length": 12},
    "imag_horizon": 10,
    "discount": 0.97,
    "model_opt.lr": 1e-3,
    "actor_opt.lr": 3e-4,
    "critic_opt.lr": 1e-3,
    "expl_opt.lr": 1e-3,
    # Values start at zero and grow with the rewards of every state. A baseline that lags behind
    # makes all actions look good, and what happens to be sampled is reinforced until nothing else
    # is left; so the baseline is the critic itself, and entropy is worth something.
    "slow_baseline": False,
    "slow_target_fraction": 0.05,
    "actor_ent": 0.1,
    "expl_reward_norm.momentum": 0.95,
    # Few latent variables: what is left random in the code of a known state is a disagreement
    # that never ends, and hides that of a new one.
    "rssm": {"hidden": 64, "deter": 64, "stoch": 4, "discrete": 16},
    "loss_scales.proprio": 50,
    "disag_models": 5,
}


def measure(
    behavior: str,
    seed: int,
    task: str,
    layout: int,
    steps: int,
    prefill: int,
    episode: int,
    view: str,
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
            grid = self.unwrapped
            self._sizes = (grid.width, grid.height, 4) if view == "above" else (147, 4)
            self.observation_space = gymnasium.spaces.Box(0, 10, (sum(self._sizes),), np.float32)

        def reset(self, *, seed=None, options=None):
            obs, info = self.env.reset(seed=layout, options=options)
            begins.append(len(visited))
            visited.append(tuple(self.unwrapped.agent_pos))
            return self._vector(obs), info

        def step(self, action):
            obs, reward, terminated, truncated, info = self.env.step(action)
            visited.append(tuple(self.unwrapped.agent_pos))
            return self._vector(obs), reward, terminated, truncated, info

        def _vector(self, obs) -> np.ndarray:
            """What a map says, where the agent is; or the cells before it. And its direction."""
            direction = np.eye(4)[obs["direction"]]
            if view == "above":
                x, y = self.unwrapped.agent_pos
                parts = [np.eye(self._sizes[0])[x], np.eye(self._sizes[1])[y]]
            else:
                parts = [(obs["image"] / np.array([10, 5, 2])).ravel()]
            return np.concatenate([*parts, direction]).astype(np.float32)

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


def draw(runs: list[dict[str, object]], reachable: object, path: str) -> None:
    """Draw the curves of all runs and the mean of each behaviour."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(5.2, 3.2), layout="constrained")
    for index, behavior in enumerate(dict.fromkeys(run["behavior"] for run in runs)):
        curves = [run["curve"] for run in runs if run["behavior"] == behavior]
        for curve in curves:
            axes.plot(*zip(*curve, strict=True), color=f"C{index}", alpha=0.35, linewidth=1)
        # Runs of one length note their coverage after the same steps.
        means = [
            (points[0][0], statistics.mean(cells for _, cells in points))
            for points in zip(*curves, strict=True)
        ]
        axes.plot(*zip(*means, strict=True), color=f"C{index}", linewidth=2.2, label=behavior)
    axes.set(xlabel="agent steps", ylabel=f"cells seen (of {reachable})", xlim=0, ylim=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=130)


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
    parser.add_argument("--view", choices=["above", "ahead"], default="above", help="Observation.")
    parser.add_argument("--jobs", type=int, default=1, help="Runs at a time.")
    parser.add_argument("--figure", help="PNG with the curves.")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    world = (args.task, args.layout, args.steps, args.prefill, args.episode, args.view)
    if args.inside:
        print(json.dumps(measure(args.behaviors[0], args.seeds[0], *world)))
        return

    def one(behavior: str, seed: int) -> dict[str, object]:
        command = [
            sys.executable, __file__, "--inside", "--behaviors", behavior, "--seeds", str(seed),
            "--task", args.task, "--layout", str(args.layout), "--steps", str(args.steps),
            "--prefill", str(args.prefill), "--episode", str(args.episode), "--view", args.view,
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
    if args.figure:
        draw(runs, runs[0]["reachable"], args.figure)
    print(json.dumps({"task": args.task, "summary": summary, "runs": runs}, indent=2))


if __name__ == "__main__":
    main()
