"""Measures what each configuration costs and projects its full run; prints a table or JSON.

    python benchmarks/cost.py
    python benchmarks/cost.py --configs atari "atari small precision=bfloat16" --rounds 3 --json
    python benchmarks/cost.py --updates 0 --rounds 1

The last line leaves out everything that is measured: parameters and projections alone.

Each configuration is built for the spaces of its own task, Atari with all 18 actions, and updated
on random data, in a process of its own. The processes take turns, `--rounds` times, so that a noisy
machine disturbs all alike. Medians over the rounds are printed; the best matrix product of the same
processes says how fast the machine was meanwhile. Configurations whose task cannot be made here are
left out, with the reason. How a full run is projected:

    updates  = (steps - prefill) / train_every * train_steps + pretrain
    days     = updates * FLOP of an update / sustained FLOP per second / 86400

How the operations of an update are counted stands in `benchmarks/arithmetic.py`. The rate of a
GPU, `--tflops`, is assumed, not measured. Days here are updates times the measured time of one, and
agent steps times the measured time of an action. The environment comes on top of both.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from benchmarks.arithmetic import (
    CONFIGS,
    SIDE,
    configuration,
    matmul_seconds,
    products,
    random_batch,
    through_model,
    update_flop,
)

DAY = 86400
COLUMNS = (
    ("parameters_m", "parameters, M", ".1f"),
    ("memory_mb", "memory, MB", ".0f"),
    ("update_tflop", "TFLOP an update", ".3f"),
    ("update_s", "s an update", ".2f"),
    ("of_peak", "of the peak", ".0%"),
    ("updates_m", "updates, M", ".3f"),
    ("gpu_days", "GPU days", ".2f"),
    ("days_here", "days here", ".1f"),
    ("acting_days_here", "acting, days here", ".2f"),
)


def all_configurations() -> list[str]:
    """Return what has a task of its own, and `atari` with what changes its arithmetic."""
    from dreamerv2.common import flags

    overlays = flags.Document.read(CONFIGS).overlays
    own = [name for name, values in overlays.items() if "task" in values]
    return [*own, "atari small", "atari no_discrete_latents", "atari no_policy_reinforce"]


def updates_of_a_run(config: Any) -> float:
    """Return the number of updates of a full run."""
    acting = max(config.steps - config.prefill, 0)
    return acting / config.train_every * config.train_steps + config.pretrain


def measure(names: Sequence[str], updates: int) -> dict[str, float]:
    """Measure a configuration in this process."""
    import numpy as np

    from dreamerv2 import tasks
    from dreamerv2.agent import Agent

    config = configuration(names)
    with tasks.make_env(config, "eval", 0) as env:
        obs_space, act_space = env.obs_space, env.act_space
    agent = Agent(config, obs_space, act_space, config.seed)
    compute = agent.world_model.rssm.compute_dtype
    peaks = matmul_seconds(compute) if updates else []
    images = [spec.shape[:2] for spec in obs_space.values() if spec.is_image]
    layers = [*agent.world_model.layers, agent.behavior.actor, agent.behavior.critic]
    counts = products(agent, images[0] if images else (1, 1))
    result = {
        "parameters": sum(int(np.prod(v.shape)) for layer in layers for v in layer.variables),
        "flop": update_flop(counts, config, through_model(config, act_space)),
        "updates": updates_of_a_run(config),
        "steps": config.steps,
        "frames": config.steps * config.action_repeat,
    }
    if not updates:
        return result
    data = random_batch(config, obs_space, act_space)

    def update() -> float:
        begin = time.perf_counter()
        _, metrics = agent.train(data, 0)
        metrics["model_loss"].numpy()
        return time.perf_counter() - begin

    update()
    result["update_s"] = statistics.median(update() for _ in range(updates))
    obs = {key: value[:1, 0] for key, value in data.items() if key != "action"}
    state, calls = None, []
    mode = agent.training_mode(0)
    for _ in range(500):
        begin = time.perf_counter()
        action, state = agent.policy(obs, state, mode)
        action.numpy()
        calls.append(time.perf_counter() - begin)
    result["policy_s"] = statistics.median(calls[100:])
    result["peak_flops"] = 2 * SIDE**3 / min([*peaks, *matmul_seconds(compute)])
    result["memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return result


def summary(rounds: Sequence[Mapping[str, float]], tflops: float) -> dict[str, float]:
    """Return the medians over rounds of measurements, and what follows from them."""
    median = {key: statistics.median(result[key] for result in rounds) for key in rounds[0]}
    total = median["updates"] * median["flop"]
    result = {
        "parameters_m": median["parameters"] / 1e6,
        "update_tflop": median["flop"] / 1e12,
        "frames_m": median["frames"] / 1e6,
        "updates_m": median["updates"] / 1e6,
        "run_exaflop": total / 1e18,
        "gpu_days": total / (tflops * 1e12) / DAY,
        "tflops_for_10_days": total / (10 * DAY) / 1e12,
    }
    if "update_s" in median:
        result |= {
            "memory_mb": median["memory_mb"],
            "update_s": median["update_s"],
            "update_min_s": min(result["update_s"] for result in rounds),
            "update_max_s": max(result["update_s"] for result in rounds),
            "policy_ms": 1e3 * median["policy_s"],
            "peak_gflops": median["peak_flops"] / 1e9,
            "of_peak": median["flop"] / median["update_s"] / median["peak_flops"],
            "days_here": median["updates"] * median["update_s"] / DAY,
            "acting_days_here": median["steps"] * median["policy_s"] / DAY,
        }
    return result


def table(results: Mapping[str, Mapping[str, float]]) -> str:
    """Return the results as a Markdown table."""
    columns = [column for column in COLUMNS if all(column[0] in row for row in results.values())]
    lines = ["| configuration | " + " | ".join(title for _, title, _ in columns) + " |"]
    lines.append("| --- |" + " ---: |" * len(columns))
    for name, result in results.items():
        cells = [format(result[key], form) for key, _, form in columns]
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def arithmetic(name: str, result: Mapping[str, float], tflops: float) -> str:
    """Return the projection of a configuration in full."""
    return (
        f"{name}: {result['frames_m']:g}M frames, {1e6 * result['updates_m']:,.0f} updates x "
        f"{result['update_tflop']:.3f} TFLOP = {result['run_exaflop']:.3g} EFLOP; at {tflops:g} "
        f"TFLOP/s {result['gpu_days']:.3g} days; for 10 days {result['tflops_for_10_days']:.3g} "
        f"TFLOP/s would do"
    )


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--configs", nargs="*", help="Lists, each one quoted argument; all.")
    parser.add_argument("--updates", type=int, default=2, help="Updates timed per process.")
    parser.add_argument("--rounds", type=int, default=2, help="Processes per configuration.")
    parser.add_argument("--tflops", type=float, default=10, help="Assumed rate of a GPU.")
    parser.add_argument("--json", action="store_true", help="Print JSON instead of the table.")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        print(json.dumps(measure(args.configs[0].split(), args.updates)))
        return
    names = args.configs or all_configurations()
    found: dict[str, list[dict[str, float]]] = {}
    left_out: dict[str, str] = {}
    for _ in range(args.rounds):
        for name in names:
            if name in left_out:
                continue
            command = [sys.executable, __file__, "--inside", "--updates", str(args.updates),
                       "--configs", name]  # fmt: skip
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                left_out[name] = done.stderr.strip().splitlines()[-1]
                print(f"{name} is left out: {left_out[name]}", file=sys.stderr)
            else:
                found.setdefault(name, []).append(json.loads(done.stdout.splitlines()[-1]))
                print(f"{name}: {found[name][-1]}", file=sys.stderr)
    results = {name: summary(rounds, args.tflops) for name, rounds in found.items()}
    if args.json:
        report = {"machine": platform.machine(), "rounds": args.rounds, "gpu_tflops": args.tflops,
                  "results": results, "left_out": left_out}  # fmt: skip
        print(json.dumps(report, indent=2))
        return
    print(table(results), end="\n\n")
    if args.updates:
        peaks = [result["peak_gflops"] for result in results.values()]
        print(f"Best matrix products: {min(peaks):.0f} to {max(peaks):.0f} GFLOP/s.", end="\n\n")
    for name, result in results.items():
        print(f"- {arithmetic(name, result, args.tflops)}")


if __name__ == "__main__":
    main()
