"""Measures the score harness and prints JSON: cold start, loading, and reading own runs.

Writes log folders like those of long training runs into a temporary folder: every other line is an
episode with its return, the others have `--metrics` further metrics.

    python benchmarks/scores.py --runs 300 --lines 10000
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dreamerv2.common import runs, score_data

ROOT = Path(__file__).resolve().parent.parent


def seconds(function: Callable[[], Any]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    function()
    return round(time.perf_counter() - start, 3)


def write(folder: Path, lines: int, metrics: int, seed: int) -> int:
    """Writes a log folder and returns the bytes of its metrics."""
    folder.mkdir(parents=True)
    generator = random.Random(seed)
    path = folder / "metrics.jsonl"
    with path.open("w") as file:
        for step in range(1, lines + 1):
            record: dict[str, float] = {"step": 1000 * step}
            if step % 2:
                record |= {"train_return": generator.gauss(0, 10), "train_length": 1000}
            else:
                record |= {f"metric_{n}": generator.gauss(0, 1) for n in range(metrics)}
            file.write(json.dumps(record) + "\n")
    return path.stat().st_size


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--lines", type=int, default=10000)
    parser.add_argument("--metrics", type=int, default=3)
    parser.add_argument("--dir", help="where there is space (default: the system's)")
    args = parser.parse_args()
    command = [sys.executable, str(ROOT / "common" / "scores.py"), "table1"]

    def cold(*flags: str) -> float:
        return seconds(lambda: subprocess.run([*command, *flags], check=True, capture_output=True))

    result: dict[str, Any] = {
        "table1_seconds": min(cold() for _ in range(3)),
        "table1_ci_seconds": min(cold("--ci") for _ in range(3)),
        "load_seconds": min(seconds(score_data.load) for _ in range(3)),
    }
    with tempfile.TemporaryDirectory(dir=args.dir) as name:
        folder = Path(name)
        size = sum(
            write(folder / f"atari_pong/method{n % 10}/{n // 10}", args.lines, args.metrics, n)
            for n in range(args.runs)
        )
        result |= {
            "runs": args.runs,
            "lines_per_run": args.lines,
            "megabytes": round(size / 1e6),
            "processors": os.cpu_count(),
            "read_seconds": seconds(lambda: runs.read([folder], metric="train_return")),
        }
        runs.PARALLEL_BYTES = float("inf")
        one = seconds(lambda: runs.read([folder], metric="train_return"))
        result["read_seconds_one_process"] = one
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
