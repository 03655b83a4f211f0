"""What must hold in the folder of a run that has ended, however often it was killed before."""

from __future__ import annotations

import json
import pathlib
import re
import zlib
from collections.abc import Sequence

from dreamerv2.common import checkpoint
from dreamerv2.common.replay import Replay
from dreamerv2.common.replay_reader import ReplayReader

# Everything that a run may leave in its folder once it has ended.
EXPECTED = (
    r"lock|config\.yaml|spaces\.json|metrics\.jsonl|events\.out\.tfevents\.[^/]*|replay|checkpoint"
    r"|replay/\d{4}-\d{8}\.chunk|checkpoint/checkpoint|checkpoint/ckpt-\d+\.(index|data-\d+-of-\d+)"
)


def problems(
    logdir: pathlib.Path, witnessed: Sequence[tuple[int, int, int]], settings: dict[str, str]
) -> list[str]:
    """Say what is wrong with the folder of a run that has ended, however often it was killed.

    Args:
        logdir: The folder.
        witnessed: Worker, number of transitions and checksum of the rewards of every training
            episode that has ended, in their order.
        settings: The ones that the run was made with.

    Returns:
        A sentence for each problem.
    """
    paths = [str(path.relative_to(logdir)) for path in logdir.rglob("*")]
    found = [f"{path} is left over" for path in paths if not re.fullmatch(EXPECTED, path)]
    capacity = int(settings["replay.capacity"])
    replay = Replay(logdir / "replay", capacity=capacity, length=1)
    found += replay.notices
    found += [f"{path} is damaged" for path in replay.verify()]
    steps = replay.stats["total_steps"]
    found += _metrics_problems(logdir / "metrics.jsonl", steps * 4, int(settings["log_every"]) * 4)
    found += _checkpoint_problems(logdir / "checkpoint", steps, int(settings["train_every"]))
    replay.close()
    return found + _episode_problems(logdir / "replay", witnessed)


def _metrics_problems(path: pathlib.Path, frames: int, interval: int) -> list[str]:
    found, step, updates = [], 0, 0
    seen = set()
    if not path.exists():
        return ["there are no metrics"]
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            row = json.loads(line)
        except ValueError:
            found.append(f"line {number} of the metrics is no JSON")
            continue
        if row["step"] < step:
            found.append(f"line {number} of the metrics goes back from {step} to {row['step']}")
        if row.get("updates", updates) < updates:
            found.append(f"line {number} of the metrics takes updates back")
        step, updates = row["step"], row.get("updates", updates)
        found += [f"{key} is there twice at {step}" for key in row if (step, key) in seen]
        seen |= {(step, key) for key in row if key != "step"}
    if not frames - interval <= step <= frames:
        found.append(f"the metrics end at {step}, the replay at {frames}")
    return found


def _checkpoint_problems(folder: pathlib.Path, steps: int, train_every: int) -> list[str]:
    names = checkpoint.names(folder)
    if not names:
        return ["there is no checkpoint"]
    expected = {"checkpoint"}
    for name in names:
        expected |= {f"{name}.index", f"{name}.data-00000-of-00001"}
    found = [f"{name} is missing" for name in expected - {path.name for path in folder.iterdir()}]
    found += [f"{p.name} is in no list" for p in folder.iterdir() if p.name not in expected]
    if len(names) > 2:
        found.append(f"there are {len(names)} checkpoints")
    name, states = checkpoint.read(folder, {}, names)
    if name != names[0]:
        found.append(f"{names[0]} is not whole")
    at = states["progress"]
    if at["steps"] != steps:
        found.append(f"the checkpoint is at {at['steps']} steps, the replay at {steps}")
    train = at["train"]
    due = 1 + 1 + (train["last"] - train["anchor"]) // train_every  # One is `pretrain`.
    if at["updates"] + at["due"] != due or train["last"] != steps:
        found.append(f"{at['updates']} updates and {at['due']} due, but {due} belong to {train}")
    # A kill between the first step that is chosen and the first checkpoint moves it by that step.
    if train["anchor"] > 100 + 2 * train_every:
        found.append(f"updates are counted from step {train['anchor']}, not from the prefill on")
    return found


def _episode_problems(folder: pathlib.Path, witnessed: Sequence[tuple[int, int, int]]) -> list[str]:
    reader, found = ReplayReader(folder), []
    for worker in sorted({row[0] for row in witnessed}):
        stored = []
        episodes = sorted(e for e in reader.episodes if e.stream == worker)
        for episode in episodes:
            rows = reader.read(
                [reader.window(worker, episode.start, episode.length)], episode.length
            )
            if rows["is_last"][0, -1]:
                stored.append((worker, episode.length, zlib.crc32(rows["reward"].tobytes())))
        noted = [row for row in witnessed if row[0] == worker]
        # From the end, as eviction takes the oldest; what was stored right before a kill is not
        # noted any more.
        while noted and noted[-1] in stored:
            while stored.pop() != noted[-1]:
                pass
            noted.pop()
        evicted = bool(episodes) and episodes[0].start > 0
        if noted and (not evicted or set(noted) & set(stored)):
            found.append(f"an episode of environment {worker} is not in the replay: {noted[-1]}")
    return found
