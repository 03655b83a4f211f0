"""Watches a long training run from outside: memory, files, threads and time of an update.

    python benchmarks/soak.py --logdir ~/logdir/soak --hours 2 --out soak.jsonl

The run is the real `dreamerv2/train.py` in a process of its own, with settings that make everything
happen often: metrics every ten updates, checkpoints each minute, evaluations, and a replay so small
that it is full after a while. What the process and its children use is written to `--out` once a
minute, as one JSON object a line, and compared at the end: the first quarter of the samples after
the warm-up with the last one. Times are CPU seconds, so that a busy machine does not matter much.
The run ends with SIGTERM, on which it has to save and exit with status 0.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import time
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]

CONFIGS = ["atari", "small"]
SETTINGS = {
    "steps": "1e8",
    "prefill": "2000",
    "log_every": "160",
    "eval_every": "10000",
    "eval_eps": "1",
    "save_every": "60",
    "replay.capacity": "20000",
}
# Of the samples, what belongs to starting up: compiling, filling the replay, the first evaluation.
WARM_UP = 0.2
PAGE = os.sysconf("SC_PAGE_SIZE")
TICK = os.sysconf("SC_CLK_TCK")
MB = 1e6


def command(logdir: pathlib.Path, configs: list[str], settings: dict[str, str]) -> list[str]:
    """Return the command line of a training run."""
    flags = [word for key, value in settings.items() for word in (f"--{key}", value)]
    train = ROOT / "dreamerv2" / "train.py"
    return [sys.executable, str(train), "--logdir", str(logdir), "--configs", *configs, *flags]


def processes() -> dict[int, tuple[int, str]]:
    """Return the parent and the state letter of every process of this machine."""
    found = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # It has ended meanwhile.
                continue
            found[int(entry.name)] = int(fields[1]), fields[0]
    return found


def family(pid: int) -> tuple[list[int], int]:
    """Return a process with all its descendants, and how many of those are zombies."""
    table = processes()
    members, zombies = [], 0
    queue = [pid]
    while queue:
        current = queue.pop()
        if current in table:
            zombies += table[current][1] == "Z"
            members.append(current)
        queue += [child for child, (parent, _) in table.items() if parent == current]
    return members, zombies


def usage(pid: int) -> dict[str, float]:
    """Measure a process and its descendants; empty once it has ended.

    Returns:
        Resident and proportional memory in MB, open files, threads, processes and zombies, and
        CPU seconds so far, those of descendants that have ended included.
    """
    total = dict.fromkeys(["rss_mb", "pss_mb", "files", "threads", "cpu_s"], 0.0)
    members, zombies = family(pid)
    for member in members:
        folder = pathlib.Path(f"/proc/{member}")
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            total["rss_mb"] += int(fields[21]) * PAGE / MB
            total["threads"] += int(fields[17])
            total["cpu_s"] += sum(map(int, fields[11:15])) / TICK
            total["files"] += len(list((folder / "fd").iterdir()))
            rollup = dict(
                line.split(":", 1)
                for line in (folder / "smaps_rollup").read_text().splitlines()
                if line.startswith("Pss:")
            )
            total["pss_mb"] += int(rollup["Pss"].split()[0]) * 1024 / MB if rollup else 0
        except OSError:
            continue
    return {**total, "processes": len(members), "zombies": zombies} if members else {}


def progress(logdir: pathlib.Path) -> dict[str, float]:
    """Return frames and updates of the newest line of the metrics that tells them."""
    path = logdir / "metrics.jsonl"
    if path.exists():
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 100_000))
            lines = file.read().splitlines()
        for line in reversed(lines):
            if b'"updates"' in line and line.endswith(b"}"):
                metrics = json.loads(line)
                return {"frames": metrics["step"], "updates": metrics["updates"]}
    return {"frames": 0, "updates": 0}


def disk(logdir: pathlib.Path) -> dict[str, float]:
    """Return number and size of the files of a run."""
    sizes = []
    for path in logdir.rglob("*"):
        try:
            sizes.append(path.stat().st_size if path.is_file() else 0)
        except OSError:  # It was deleted meanwhile.
            continue
    return {"disk_files": len(sizes), "disk_mb": sum(sizes) / MB}


def watch(
    process: subprocess.Popen[bytes], logdir: pathlib.Path, seconds: float, every: float, out: Any
) -> list[dict[str, float]]:
    """Sample a run until the time is up or it has ended; write the samples down at once."""
    begin, samples = time.monotonic(), []
    while process.poll() is None and time.monotonic() - begin < seconds:
        time.sleep(min(every, max(0.0, begin + seconds - time.monotonic())))
        measured = usage(process.pid)
        if not measured or process.poll() is not None:
            break
        measured = {"seconds": time.monotonic() - begin, **measured}
        sample = {**measured, **progress(logdir), **disk(logdir)}
        samples.append(sample)
        out.write(json.dumps({key: round(value, 2) for key, value in sample.items()}) + "\n")
        out.flush()
    return samples


def summary(samples: list[dict[str, float]]) -> dict[str, Any]:
    """Compare the first quarter of the samples after the warm-up with the last quarter.

    Returns:
        Medians at start and end for each quantity; for `cpu_s_per_update` those of the CPU time
        between samples, evaluations and acting included.
    """
    late = samples[int(len(samples) * WARM_UP) :]
    size = max(1, len(late) // 4)
    parts = {"start": late[:size], "end": late[-size:]}
    keys = ["rss_mb", "pss_mb", "files", "threads", "processes", "zombies", "disk_files", "disk_mb"]
    result: dict[str, Any] = {
        key: {
            part: round(statistics.median(s[key] for s in rows), 1) for part, rows in parts.items()
        }
        for key in keys
    }
    result["cpu_s_per_update"] = {part: _update_time(rows) for part, rows in parts.items()}
    peak = max((s["pss_mb"] for s in samples), default=0.0)
    return {**result, "peak_pss_mb": round(peak, 1), "samples": len(samples)}


def _update_time(samples: list[dict[str, float]]) -> float | None:
    """CPU seconds an update between the samples, the median; None where there were none."""
    times = [
        (after["cpu_s"] - before["cpu_s"]) / (after["updates"] - before["updates"])
        for before, after in zip(samples[:-5], samples[5:], strict=True)
        if after["updates"] > before["updates"]
    ]
    return round(statistics.median(times), 3) if times else None


def soak(args: argparse.Namespace, logdir: pathlib.Path) -> dict[str, Any]:
    """Run, watch, stop; return the summary."""
    settings = {**SETTINGS, "task": args.task, **dict(pair.split("=", 1) for pair in args.set)}
    line = command(logdir, args.configs, settings)
    logdir.mkdir(parents=True, exist_ok=True)
    with (
        open(args.out, "a", encoding="utf-8") as out,
        (logdir / "soak.log").open("ab") as log,
        subprocess.Popen(line, stdout=log, stderr=log) as process,
    ):
        try:
            samples = watch(process, logdir, args.seconds or args.hours * 3600, args.every, out)
        finally:
            process.send_signal(signal.SIGTERM)
            begin = time.monotonic()
            status = process.wait()
        result = {
            "command": " ".join(line[1:]),
            "exit_status": status,
            "seconds_to_stop": round(time.monotonic() - begin, 1),
            **progress(logdir),
            **(summary(samples) if samples else {}),
        }
        out.write(json.dumps({"summary": result}) + "\n")
    return result


def main() -> int:
    """Parse the command line, run, print the summary; return 1 if the run failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--logdir", required=True, help="folder of the run; continued if it exists")
    parser.add_argument("--task", default="atari_boxing", help="environment")
    parser.add_argument("--configs", nargs="*", default=CONFIGS, help="overlays of the run")
    parser.add_argument("--set", nargs="*", default=[], help="further settings, as key=value")
    parser.add_argument("--hours", type=float, default=2.0, help="length of the run")
    parser.add_argument("--seconds", type=float, default=0.0, help="the same in seconds")
    parser.add_argument("--every", type=float, default=60.0, help="seconds between samples")
    parser.add_argument("--out", default="soak.jsonl", help="file that samples are appended to")
    args = parser.parse_args()
    result = soak(args, pathlib.Path(args.logdir).expanduser())
    print(json.dumps(result, indent=2))
    return 0 if result["exit_status"] == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
