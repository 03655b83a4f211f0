"""Converts raw score data into this folder's schema.

    python scores/convert.py --raw ~/raw-scores --outdir scores

The raw folder holds the published files under the names that `scores/README.md` lists with their
origin. Everything in this folder but the README and this script is written by this script: the
same raw files give the same bytes, and known mistakes of the sources are corrected here, where
they can be read. What the sources say twice is compared before one of them is dropped.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import pathlib
import sys
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import ruamel.yaml

FORMAT, VERSION = "dreamerv2-scores", 1

PAPER_REPOSITORY = "https://github.com/danijar/dreamerv2"
SOURCES: dict[str, dict[str, Any]] = {
    "dreamerv2": {
        "title": "Score data in the public repository of the DreamerV2 paper",
        "url": PAPER_REPOSITORY,
        "licence": "MIT",
        "corrections": [
            "The method `nosched` is called `dreamerv2_nosched`; the curves with annealed entropy "
            "and gradient mixing, there `dreamerv2` in a file of their own, `dreamerv2_schedules`; "
            "those of Montezuma's Revenge with discount 0.99, `dreamerv2_discount99`; those of "
            "humanoid walk, there `best`, `dreamerv2`.",
            "The file of control tasks lists 22 names, two of which (`stats_normalized_mean`, "
            "`stats_normalized_median`) are aggregates of the other 20 over percent of training; "
            "they are left out, because they are computed from the 20.",
            "Seeds called `indir1_0` to `indir1_9` are called 0 to 9.",
        ],
    },
    "baselines": {
        "title": "Reference and final scores in the public repository of the DreamerV2 paper",
        "url": PAPER_REPOSITORY,
        "licence": "MIT",
        "corrections": [
            "James Bond: the gamer's score is 302.8 instead of 29.0. The paper prints 303, and its "
            "gamer mean only comes out with 302.8.",
            "The scores of DQN, C51, Rainbow and IQN with sticky actions are left out: they are "
            "the last bins of the curves, averaged over seeds.",
            "`simple` and `rainbow_400k` have the 26 games of the source, not the 36 of SimPLe's "
            "own paper.",
        ],
    },
    "dopamine": {
        "title": "Baseline results of Dopamine (Castro et al., 2018)",
        "url": "https://github.com/google/dopamine/tree/master/baselines",
        "licence": "Apache-2.0",
        "corrections": ["Games are called by the names of the other sources."],
    },
    "paper": {
        "title": "Mastering Atari with Discrete World Models (Hafner et al., ICLR 2021), version 4",
        "url": "https://arxiv.org/abs/2010.02193v4",
        "licence": "Figures quoted from the publication",
        "corrections": [
            "Table 2, an earlier version of the agent: the gamer mean of its first row equals that "
            "of table 1 and looks copied. It is kept as printed.",
        ],
    },
    "control": {
        "title": "DM Control (Tassa et al., 2018)",
        "url": "https://arxiv.org/abs/1801.00690",
        "licence": "A fact",
        "corrections": [],
    },
}

STICKY = "sticky actions (0.25), full action space, no life information"
DETERMINISTIC = "deterministic game (no sticky actions), 200M frames"
METHODS: dict[str, dict[str, str]] = {
    "dreamerv2": {
        "label": "DreamerV2",
        "protocol": f"Atari: {STICKY}; control: from pixels, action repeat 2",
        "source": "dreamerv2",
    },
    "dreamerv2_schedules": {
        "label": "DreamerV2 (schedules)",
        "protocol": f"{STICKY}; entropy and gradient mixing annealed",
        "source": "dreamerv2",
    },
    "dreamerv2_nosched": {
        "label": "DreamerV2 (no schedules)",
        "protocol": f"{STICKY}; three more runs, without schedules",
        "source": "dreamerv2",
    },
    "dreamerv2_discount99": {
        "label": "DreamerV2 (discount 0.99)",
        "protocol": f"{STICKY}; discount 0.99 instead of 0.999",
        "source": "dreamerv2",
    },
    "iqn": {"label": "IQN", "protocol": "sticky actions (0.25)", "source": "dopamine"},
    "rainbow": {"label": "Rainbow", "protocol": "sticky actions (0.25)", "source": "dopamine"},
    "c51": {"label": "C51", "protocol": "sticky actions (0.25)", "source": "dopamine"},
    "dqn": {"label": "DQN", "protocol": "sticky actions (0.25)", "source": "dopamine"},
    "simple": {
        "label": "SimPLe",
        "protocol": "deterministic game, 400k frames (100k agent steps)",
        "source": "baselines",
    },
    "rainbow_400k": {
        "label": "Rainbow (400k frames)",
        "protocol": "deterministic game, 400k frames (100k agent steps)",
        "source": "baselines",
    },
    "rainbow_deterministic": {
        "label": "Rainbow (no sticky actions)",
        "protocol": DETERMINISTIC,
        "source": "baselines",
    },
    "dqn_deterministic": {
        "label": "DQN (no sticky actions)",
        "protocol": DETERMINISTIC,
        "source": "baselines",
    },
    "ddqn": {"label": "Double DQN", "protocol": DETERMINISTIC, "source": "baselines"},
    "dueling": {"label": "Dueling DQN", "protocol": DETERMINISTIC, "source": "baselines"},
    "prioritized": {"label": "Prioritized DQN", "protocol": DETERMINISTIC, "source": "baselines"},
    "reactor": {"label": "Reactor", "protocol": DETERMINISTIC, "source": "baselines"},
}

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

# Kaiser et al. (2019), https://arxiv.org/abs/1903.00374, beyond the 26 games of Atari-100k.
SIMPLE_ONLY = [
    "asteroids",
    "atlantis",
    "beam_rider",
    "bowling",
    "fishing_derby",
    "gravitar",
    "ice_hockey",
    "name_this_game",
    "riverraid",
    "yars_revenge",
]


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
    index = {
        "format": FORMAT,
        "version": VERSION,
        "sources": SOURCES,
        "methods": METHODS,
        "task_sets": task_sets(dreamer, baselines, control),
        "runs": list(files),
        "references": "references.json",
        "paper": "paper.json",
    }
    tasks = [run["task"] for run in control + humanoid]
    result = {
        "index.json": plain(index),
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


def task_sets(dreamer: list, baselines: Mapping[str, Mapping], control: list) -> dict[str, Any]:
    """Named lists of tasks."""
    atari26 = [task for task, scores in baselines.items() if "simple_determ_4e5" in scores]
    return {
        "atari55": sorted({run["task"] for run in dreamer}),
        "atari26": sorted(atari26),
        "simple36": sorted(atari26 + [f"atari_{name}" for name in SIMPLE_ONLY]),
        "dmc": sorted({run["task"] for run in control}),
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
    """JSON for people and for diffs."""
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def packed(content: Any) -> bytes:
    """Compressed JSON that does not depend on the time or the file's name."""
    text = json.dumps(content, separators=(",", ":"))
    return gzip.compress(text.encode(), compresslevel=9, mtime=0)


if __name__ == "__main__":
    main()
