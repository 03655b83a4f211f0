"""Measures how fast environments step; prints JSON: agent steps a second by backend and number.

    python benchmarks/envs.py --task atari_pong --num 1 4 8

`none` is Gymnasium's preprocessing, one environment after another in Python; `process` the same in
one process each; `native` ALE's own vector environment in threads. The backends take turns,
`--rounds` times, and medians are printed. `same_observations` says whether none and native gave
equal images, rewards and ends for the same actions with sticky actions (without no-ops at the
start, whose number each of them draws for itself).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pathlib
import statistics
import sys
import time
from typing import Any

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from dreamerv2.common import envs


def play(task: str, steps: int, **options: Any) -> float:
    """Take random actions; return agent steps a second of all environments."""
    with envs.make(task, action_repeat=4, **options) as env:
        rng = np.random.default_rng(0)
        actions = [env.act_space.sample(rng, env.num) for _ in range(steps)]
        env.reset()
        begin = time.perf_counter()
        for action in actions:
            env.step(action)
        return steps * env.num / (time.perf_counter() - begin)


def digest(task: str, steps: int, **options: Any) -> str:
    """Return a hash of all that random actions give."""
    found = hashlib.sha256()
    with envs.make(task, action_repeat=4, atari_noops=0, **options) as env:
        rng = np.random.default_rng(0)
        env.reset()
        for _ in range(steps):
            batch = env.step(env.act_space.sample(rng, env.num))
            for key in sorted(batch):
                found.update(np.ascontiguousarray(batch[key]).tobytes())
    return found.hexdigest()


def main() -> None:
    """Run the benchmark and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", default="atari_pong", help="an Atari game")
    parser.add_argument("--num", nargs="+", type=int, default=[1, 4, 8], help="environments")
    parser.add_argument("--steps", type=int, default=500, help="steps of each environment")
    parser.add_argument("--rounds", type=int, default=3, help="times that everything is measured")
    parser.add_argument(
        "--backends", nargs="+", default=["none", "native"], help="none, process, native"
    )
    args = parser.parse_args()
    cases = [(backend, num) for backend in args.backends for num in args.num]
    speeds: dict[tuple[str, int], list[float]] = {case: [] for case in cases}
    for _ in range(args.rounds):
        for backend, num in cases:
            speed = play(args.task, args.steps, num=num, parallel=backend)
            speeds[backend, num].append(speed)
    medians = {f"{name}_{num}": statistics.median(v) for (name, num), v in speeds.items()}
    result: dict[str, Any] = {"task": args.task, "cores": os.cpu_count(), "steps_per_s": medians}
    if one := medians.get("none_1"):
        result["times_one_in_python"] = {name: speed / one for name, speed in medians.items()}
    hashes = {
        digest(args.task, args.steps, num=2, parallel=backend) for backend in ("none", "native")
    }
    result["same_observations"] = len(hashes) == 1
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
