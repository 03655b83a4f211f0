"""Measures one update, one policy call, the cold start and the memory; prints JSON.

    python benchmarks/train_step.py --configs atari small --updates 10
    python benchmarks/train_step.py --compare "atari" "atari small"

Each list of configurations is measured in a process of its own, on random 64x64x1 images (or, for
configurations without image encoder, on vectors of 24 numbers) and 18 actions. With several lists
after `--compare` the processes take turns, `--rounds` times, so that a noisy machine disturbs all
alike; the medians over the rounds are printed. Times are in seconds unless the name says ms.
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

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


def measure(names: list[str], overrides: list[str], updates: int) -> dict[str, float | int]:
    """Measure in this process; the clock of the cold start begins before TensorFlow is there."""
    start = time.perf_counter()
    import numpy as np
    import tensorflow as tf

    from dreamerv2.agent import Agent
    from dreamerv2.common import flags
    from dreamerv2.common.envs.spaces import ActSpec, ObsSpec

    imported = time.perf_counter()
    pairs = [item.lstrip("-").split("=", 1) for item in overrides]
    config = flags.build(ROOT / "dreamerv2" / "configs.yaml", names, [(k, v) for k, v in pairs])
    pixels = config.encoder.cnn_keys != "$^"
    key, shape, dtype = ("image", (64, 64, 1), "uint8") if pixels else ("state", (24,), "float32")
    space = ActSpec("discrete", (18,))
    agent = Agent(config, {key: ObsSpec(shape, np.dtype(dtype))}, space, config.seed)
    built = time.perf_counter()
    rng = np.random.default_rng(0)
    lead = (config.dataset.batch, config.dataset.length)
    off = np.zeros(lead, bool)
    data = {
        key: rng.integers(0, 256, (*lead, *shape)).astype(dtype),
        "action": space.sample(rng, lead[0] * lead[1]).reshape((*lead, 18)),
        "reward": rng.normal(size=lead).astype(np.float32),
        "is_first": off | (np.arange(lead[1]) == 0),
        "is_last": off,
        "is_terminal": off,
    }

    def update() -> float:
        begin = time.perf_counter()
        _, metrics = agent.train(data, 0)
        metrics["model_loss"].numpy()
        return time.perf_counter() - begin

    first = update()
    times = [update() for _ in range(updates)]
    obs = {name: value[:1, 0] for name, value in data.items() if name != "action"}
    state = None
    calls = []
    for _ in range(200):
        begin = time.perf_counter()
        action, state = agent.policy(obs, state)
        action.numpy()
        calls.append(time.perf_counter() - begin)
    layers = [*agent.world_model.layers, agent.behavior.actor, agent.behavior.critic]
    side = 3000
    left = tf.random.normal((side, side))
    matmul = []
    for _ in range(5):
        begin = time.perf_counter()
        tf.linalg.matmul(left, left).numpy()
        matmul.append(time.perf_counter() - begin)
    return {
        "parameters": sum(int(np.prod(v.shape)) for layer in layers for v in layer.variables),
        "import": imported - start,
        "build": built - imported,
        "first_update": first,
        "cold_start": built - start + first,
        "update": statistics.median(times),
        "update_min": min(times),
        "policy_ms": 1e3 * statistics.median(calls[20:]),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "matmul_gflops": 2 * side**3 / min(matmul) / 1e9,
    }


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configs", nargs="*", default=["atari"], help="One list.")
    parser.add_argument("--compare", nargs="*", help="Several lists, each one quoted argument.")
    parser.add_argument("--updates", type=int, default=10, help="Updates timed per process.")
    parser.add_argument("--rounds", type=int, default=1, help="Processes per list.")
    parser.add_argument("--set", nargs="*", default=[], help="Settings, as key=value.")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        print(json.dumps(measure(args.configs, args.set, args.updates)))
        return
    lists = args.compare or [" ".join(args.configs)]
    results: dict[str, list[dict[str, float]]] = {name: [] for name in lists}
    for _ in range(args.rounds):
        for name in lists:
            command = [
                sys.executable, __file__, "--inside", "--updates", str(args.updates),
                "--configs", *name.split(), "--set", *args.set,
            ]  # fmt: skip
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            results[name].append(json.loads(done.stdout.splitlines()[-1]))
    medians = {
        name: {key: round(statistics.median(r[key] for r in rounds), 4) for key in rounds[0]}
        for name, rounds in results.items()
    }
    report = {
        "machine": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "rounds": args.rounds,
        "results": medians,
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
