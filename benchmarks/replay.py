"""Measures the replay and prints JSON: time to add, open and sample, and process memory.

Fills a replay of 64x64x1 images and 18 actions in 500-step episodes (8.4 GB for 2e6 steps) in a
temporary folder, opens it as a fresh process would and samples batches.

    python benchmarks/replay.py --steps 2e6 --dir /path/with/space

With `--keep` the folder stays, and `--replay` measures opening and sampling of one that is there.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dreamerv2.common.prefetch import Prefetcher
from dreamerv2.common.replay import Replay


def memory() -> dict[str, float]:
    """Resident memory of this process in MB: now, mapped files included, and at its peak."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    status = Path("/proc/self/status")
    if not status.exists():
        return {"peak": peak}
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
    return {
        "resident": int(fields["VmRSS"].split()[0]) / 1024,
        "mapped_files": int(fields["RssFile"].split()[0]) / 1024,
        "peak": peak,
    }


def fill(replay: Replay, steps: int, episode: int) -> list[float]:
    """Adds transitions; returns microseconds a transition, averaged over runs of 1000."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (256, 64, 64, 1), np.uint8)
    actions = np.eye(18, dtype=np.float32)
    times = []
    for block in range(0, steps, 1000):
        transitions = [
            {
                "image": images[index % 256],
                "action": actions[index % 18],
                "reward": np.float32(index % 7),
                "is_first": np.bool_(index % episode == 0),
                "is_last": np.bool_(index % episode == episode - 1),
                "is_terminal": np.bool_(False),
            }
            for index in range(block, min(block + 1000, steps))
        ]
        begin = time.perf_counter()
        for transition in transitions:
            replay.add(transition)
        times.append((time.perf_counter() - begin) / len(transitions) * 1e6)
    return times


def milliseconds(function, repeats: int) -> dict[str, float]:
    """Median and 90th percentile of the time of a call."""
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        function()
        times.append((time.perf_counter() - begin) * 1e3)
    return {"median": statistics.median(times), "p90": statistics.quantiles(times, n=10)[-1]}


def main() -> None:
    """Runs the benchmark and prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=float, default=2e5, help="transitions in the replay")
    parser.add_argument("--episode", type=int, default=500, help="transitions in an episode")
    parser.add_argument("--batch", type=int, default=16, help="windows in a batch")
    parser.add_argument("--length", type=int, default=50, help="transitions in a window")
    parser.add_argument("--repeats", type=int, default=500, help="batches measured")
    parser.add_argument("--dir", default=None, help="where the temporary folder is made")
    parser.add_argument("--keep", action="store_true", help="do not delete that folder")
    parser.add_argument("--replay", default=None, help="folder to measure instead of filling one")
    args = parser.parse_args()
    steps = int(args.steps)
    settings = {"capacity": steps, "length": args.length}
    result: dict[str, object] = {"steps": steps, "memory_mb_empty": memory()}
    directory = args.replay or tempfile.mkdtemp(dir=args.dir)
    try:
        if not args.replay:
            replay = Replay(directory, **settings)
            times = fill(replay, steps, args.episode)
            result["add_us"] = {"mean": statistics.mean(times), "median": statistics.median(times)}
            result["memory_mb_filled"] = memory()
            replay.close()
            os.sync()  # Else the kernel still writes gigabytes while we measure.
        begin = time.perf_counter()
        replay = Replay(directory, **settings)
        result["open_s"] = time.perf_counter() - begin
        result["memory_mb_opened"] = memory()
        result["draw_ms"] = milliseconds(lambda: replay.draw(args.batch), args.repeats)
        result["sample_ms"] = milliseconds(lambda: replay.sample(args.batch), args.repeats)
        with Prefetcher(replay, args.batch) as batches:
            result["prefetched_ms"] = milliseconds(lambda: next(batches), args.repeats)
        result["memory_mb_sampled"] = memory()
        result["stats"] = replay.stats
        replay.close()
    finally:
        if args.keep:
            result["folder"] = directory
        elif not args.replay:
            shutil.rmtree(directory)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
