"""Converts raw score data into this folder's schema.

    python scores/convert.py --raw ~/raw-scores --outdir scores

The raw folder holds the published files under the names that `scores/README.md` lists with their
origin. This script writes everything in this folder but the README and `index.json`: the same raw
files give the same content, and known mistakes of the sources are corrected here, where they can
be read. What the sources say twice is compared before one of them is dropped.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import pathlib
import re
import sys
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import ruamel.yaml

FORMAT, VERSION = "dreamerv2-scores", 1

# Name in the source -> method and frames.
FINALS = {
    "simple_determ_4e5": ("simple", 4e5),
    "rainbow_determ_4e5": ("rainbow_400k", 4e5),
    "rainbow_determ_2e8": ("rainbow_deterministic", 2e8),
    "dqn_determ_2e8": ("dqn_deterministic", 2e8),
    "ddqn_determ_2e8": ("ddqn", 2e8),
    "dueling_determ_2e8": ("dueling", 2e8),
    "prioritized_determ_2e8": ("prioritized", 2e8),
    "reactor_determ_2e8": ("reactor", 2e8),
}


def main(argv: list[str] | None = None) -> None:
    """Converts every raw file; nothing is written if one of them is not as expected."""
    parser = argparse.ArgumentParser(description="Converts raw score data into this schema.")
    parser.add_argument("--raw", type=pathlib.Path, required=True, help="folder of raw files")
    parser.add_argument(
        "--outdir",
        type=pathlib.Path,
        default=pathlib.Path(__file__).resolve().parent,
        help="where the converted files go (default: the folder of this script)",
    )
    args = parser.parse_args(argv)
    if not args.raw.is_dir():
        sys.exit(f"error: --raw {args.raw} is not a folder; name the one that has the raw files")
    files = convert(args.raw)
    args.outdir.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (args.outdir / name).write_bytes(data)
        print(f"{len(data):>9,} bytes  {name}")
    print(f"{sum(map(len, files.values())):>9,} bytes in all")


def convert(raw: pathlib.Path) -> dict[str, bytes]:
    """Returns the content of every file of the folder by name."""
    baselines = read(raw / "baselines.json.gz")
    if baselines["atari_james_bond"]["human_gamer"] != 29.0:
        raise ValueError("the source no longer has the mistake that is corrected here")
    baselines["atari_james_bond"]["human_gamer"] = 302.8

    dreamer = read(raw / "atari-dreamerv2.json.gz")
    schedules = read(raw / "atari-dreamerv2-schedules.json.gz")
    dopamine = read(raw / "atari-dopamine.json.gz")
    control = [
        run for run in read(raw / "dmc-vision-dreamerv2.json.gz")
        if not run["task"].startswith("stats_")
    ]  # fmt: skip
    humanoid = read(raw / "humanoid-dreamerv2.json.gz")
    montezuma = read(raw / "montezuma-dreamerv2.json.gz")
    check_finals(dopamine, baselines)

    atari = {"dreamerv2": "dreamerv2", "nosched": "dreamerv2_nosched"}
    files = {
        "atari-dreamerv2.json.gz": ("dreamerv2", curves(dreamer, atari)),
        "atari-dreamerv2-schedules.json.gz": (
            "dreamerv2",
            curves(schedules, {"dreamerv2": "dreamerv2_schedules"}),
        ),
        "atari-dreamerv2-discount99.json.gz": (
            "dreamerv2",
            curves(montezuma, {"dreamerv2": "dreamerv2_discount99"}),
        ),
        "atari-dopamine.json.gz": ("dopamine", curves(dopamine, None)),
        "atari-finals.json.gz": ("baselines", finals(baselines)),
        "dmc-dreamerv2.json.gz": (
            "dreamerv2",
            curves(control, None) + curves(humanoid, {"best": "dreamerv2"}),
        ),
    }
    tasks = [run["task"] for run in control + humanoid]
    result = {
        "references.json": plain(references(baselines, sorted(set(tasks)))),
        "paper.json": plain(paper(raw)),
    }
    for name, (source, runs) in files.items():
        head = {"format": FORMAT, "version": VERSION, "kind": "runs", "source": source}
        runs = sorted(runs, key=lambda run: (run["task"], run["method"], run["seed"]))
        result[name] = packed({**head, "runs": runs})
    return result


def curves(raw: list[dict[str, Any]], methods: Mapping[str, str] | None) -> list[dict[str, Any]]:
    """Runs whose bins are equally spaced, which all sources have."""
    runs = []
    for run in raw:
        frames, returns = run["xs"], run["ys"]
        first = frames[0]
        if len(frames) != len(returns) or frames != [first * (i + 1) for i in range(len(frames))]:
            raise ValueError(f"the bins of {run['task']} {run['method']} are not as expected")
        runs.append(
            {
                "suite": run["task"].split("_")[0],
                "task": run["task"],
                "method": methods[run["method"]] if methods else run["method"],
                "seed": int(run["seed"].split("_")[-1]),
                "frames": {"first": number(first), "every": number(first)},
                "returns": [number(value) for value in returns],
            }
        )
    return runs


def finals(baselines: Mapping[str, Mapping[str, float]]) -> list[dict[str, Any]]:
    """Published final scores: runs of a single bin, which stand for all seeds of their source."""
    return [
        {
            "suite": "atari",
            "task": task,
            "method": method,
            "seed": 0,
            "frames": [number(frames)],
            "returns": [number(scores[name])],
            "final": True,
        }
        for task, scores in baselines.items()
        for name, (method, frames) in FINALS.items()
        if name in scores
    ]


def check_finals(dopamine: list[dict[str, Any]], baselines: Mapping[str, Any]) -> None:
    """The last bins averaged over seeds are what the other source has as final scores."""
    last = defaultdict(list)
    for run in dopamine:
        last[run["task"], f"{run['method']}_sticky_2e8"].append(run["ys"][-1])
    for (task, name), values in last.items():
        if abs(sum(values) / len(values) - baselines[task][name]) > 0.005:
            raise ValueError(f"the sources disagree on {name} in {task}")


def references(baselines: Mapping[str, Mapping[str, float]], control: list[str]) -> dict[str, Any]:
    """Scores that others are normalised by."""
    names = {"random": "random", "human_gamer": "gamer", "human_record": "record"}
    atari = {
        task: {new: scores[old] for old, new in names.items() if old in scores}
        for task, scores in sorted(baselines.items())
    }
    # 1000 steps with a reward between 0 and 1 each.
    bounds = {task: {"minimum": 0, "maximum": 1000} for task in control}
    return {
        "format": FORMAT,
        "version": VERSION,
        "kind": "references",
        "suites": {
            "atari": {"source": "baselines", "tasks": atari},
            "dmc": {"source": "control", "tasks": bounds},
        },
    }


def paper(raw: pathlib.Path) -> dict[str, Any]:
    """The paper's tables as printed."""
    tables = ruamel.yaml.YAML(typ="safe").load(raw / "paper-tables.yaml")
    with (raw / "paper-table-k1.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    columns = {"human_gamer": "gamer", "human_record": "record"}
    k1 = {
        row.pop("task"): {columns.get(key, key): int(value) for key, value in row.items()}
        for row in rows
    }
    stated = {
        name: {
            "columns": tables[name]["columns"],
            "rows": {key: value for key, value in tables[name].items() if key != "columns"},
        }
        for name in ("table_1", "table_2")
    }
    return {
        "format": FORMAT,
        "version": VERSION,
        "kind": "paper",
        "source": "paper",
        "table1": stated["table_1"],
        "table2": stated["table_2"],
        "table3": {"columns": ["parameters", "frames", "accelerator_days"],
                   "rows": {key: list(row.values()) for key, row in tables["table_3"].items()}},
        "k1": {"columns": list(next(iter(k1.values()))),
               "rows": {task: list(row.values()) for task, row in k1.items()}},
    }  # fmt: skip


def number(value: float) -> float | int:
    """An integer where it is one, and at most 10 significant digits, to be compact."""
    value = float(f"{value:.10g}")
    return int(value) if value.is_integer() else value


def read(path: pathlib.Path) -> Any:
    """The content of a compressed JSON file."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return json.load(file)


def plain(content: Any) -> bytes:
    """JSON for people and for diffs: a line for each innermost object or list."""
    text = json.dumps(content, indent=1, ensure_ascii=False)
    innermost = re.compile(r"[\[{][^\[\]{}]*[\]}]")
    text = innermost.sub(lambda match: re.sub(r"\s*\n\s*", " ", match.group()), text)
    return (text + "\n").encode()


def packed(content: Any) -> bytes:
    """Compressed JSON that does not depend on the time or the file's name."""
    text = json.dumps(content, separators=(",", ":"))
    return gzip.compress(text.encode(), compresslevel=9, mtime=0)


if __name__ == "__main__":
    main()
