"""Measures the speed of this machine's agent: one table, and JSON; `make bench` calls it.

    python benchmarks/bench.py --short
    python benchmarks/bench.py --output bench.json

For each configuration, in processes that take turns: the time of an update and the share that it
reaches of this machine's best matrix product, in the same type and the same process; an action for
one observation; and the peak of the memory. For two of them the cold start: from the command to the
end of a run that makes one update after a short prefill and saves. Then, unless `--short`, the loop
around updates, environments by backend, and a replay of a fifth of its full size.

With `--against bench.json` the table is compared with an earlier one: the exit status is 1 if a
share of the peak fell by more than a tenth, or a time grew by more than a quarter.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

HERE = pathlib.Path(__file__).resolve().parent
HALF = " precision=bfloat16"
CONFIGS = (
    "atari", "atari" + HALF, "atari small", "atari small" + HALF, "dmc_vision", "dmc_proprio"
)  # fmt: skip
COLD = ("atari", "atari small")
COLUMNS = (
    ("update_s", "s an update", ".3f"),
    ("gflop", "GFLOP", ".0f"),
    ("peak_gflops", "peak, GFLOP/s", ".0f"),
    ("of_peak", "of the peak", ".0%"),
    ("policy_ms", "ms an action", ".2f"),
    ("memory_mb", "memory, MB", ".0f"),
    ("cold_start_s", "cold start, s", ".1f"),
)
# What must not get worse, by how much, and in which direction.
GUARDED = {"of_peak": 0.9, "policy_ms": 1.25, "cold_start_s": 1.25}


def run(script: str, *arguments: str) -> dict[str, Any] | None:
    """Run a benchmark in a process of its own and return its JSON, or None if it fails."""
    command = [sys.executable, str(HERE / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["?"])[-1]
        print(f"{script} {' '.join(arguments)} failed: {reason}", file=sys.stderr)
        return None
    result: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
    return result


def cold_start(name: str) -> float:
    """Return the seconds from the command to the end of a run that makes a single update."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, str(HERE.parent / "dreamerv2" / "train.py"), "--configs", *name.split(),
            "--task", "atari_pong", "--prefill", "100", "--steps", "100", "--pretrain", "1",
            "--eval_eps", "0", "--logdir", folder + "/run",
        ]  # fmt: skip
        begin = time.perf_counter()
        subprocess.run(command, capture_output=True, check=True)
        return time.perf_counter() - begin


def row(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the medians over rounds of what `cost.py --inside` prints."""
    median = {key: statistics.median(result[key] for result in rounds) for key in rounds[0]}
    shares = [r["flop"] / r["update_s"] / r["peak_flops"] for r in rounds]
    return {
        "update_s": median["update_s"],
        "gflop": median["flop"] / 1e9,
        "peak_gflops": median["peak_flops"] / 1e9,
        "of_peak": statistics.median(shares),
        "policy_ms": 1e3 * median["policy_s"],
        "memory_mb": median["memory_mb"],
    }


def data_path() -> dict[str, Any]:
    """Return what the benchmarks of the loop, the environments and the replay print."""
    return {
        "loop": run("loop.py", "--updates", "300"),
        "environments": run("envs.py", "--task", "atari_pong", "--num", "1", "4"),
        "replay": run("replay.py", "--steps", "4e5"),
    }


def table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """Return the Markdown table."""
    lines = [
        "| Configuration | " + " | ".join(title for _, title, _ in COLUMNS) + " |",
        "| --- |" + " --- |" * len(COLUMNS),
    ]
    for name, values in rows.items():
        cells = (f"{values[key]:{form}}" if key in values else "" for key, _, form in COLUMNS)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def regressions(
    rows: Mapping[str, Mapping[str, float]], earlier: Mapping[str, Mapping[str, float]]
) -> list[str]:
    """Return a sentence for each guarded number that got worse than its limit."""
    found = []
    for name, values in rows.items():
        for key, factor in GUARDED.items():
            if key not in values or key not in earlier.get(name, {}):
                continue
            now, then = values[key], earlier[name][key]
            if now < factor * then if factor < 1 else now > factor * then:
                found.append(f"{name}: {key} was {then:.4g}, is {now:.4g}.")
    return found


def main() -> int:
    """Parse the command line, measure, print; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--configs", nargs="+", default=CONFIGS, help="Lists, each one argument.")
    parser.add_argument("--short", action="store_true", help="One round, no data path.")
    parser.add_argument("--output", type=pathlib.Path, help="Write JSON to this file.")
    parser.add_argument("--against", type=pathlib.Path, help="Compare with this file.")
    args = parser.parse_args()
    measured: dict[str, list[dict[str, float]]] = {}
    for _ in range(1 if args.short else 3):
        for name in args.configs:
            updates = "4" if args.short else "8"
            result = run("cost.py", "--inside", "--updates", updates, "--configs", name)
            if result:
                measured.setdefault(name, []).append(result)
    rows = {name: row(rounds) for name, rounds in measured.items()}
    for name in COLD:
        if name in rows:
            rows[name]["cold_start_s"] = cold_start(name)
    print(table(rows))
    report = {"results": rows, **({} if args.short else data_path())}
    if not args.short:
        print(json.dumps({key: report[key] for key in report if key != "results"}, indent=2))
    if args.output:
        args.output.write_text(json.dumps(report, indent=2) + "\n")
    if args.against is None:
        return 0
    found = regressions(rows, json.loads(args.against.read_text())["results"])
    print("\n".join(found) or "Nothing got slower.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
