"""What a sweep keeps on the shared storage, and how it is read without disturbing anybody.

DIR/sweep.json                      the plan of the last command, for --status
DIR/sweep.jsonl                     one JSON object per event
DIR/.sweep/lease-000001             the sweep that is running
DIR/task/method/seed/.sweep/        lease-000001 while it runs, end.json how it last ended
DIR/task/method/seed/output.log     what the training programs printed
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

FOLDER = ".sweep"
OUTPUT = "output.log"

# Enough for dozens of lines of metrics.
_TAIL = 2**16


@dataclasses.dataclass(frozen=True)
class Metrics:
    """The latest of what a run wrote down.

    Attributes:
        frames: Environment frames of the last line, 0 before the first.
        fps: Frames per second, None before it was measured.
        score: Last return of an evaluation, or else of training; None before there was one.
    """

    frames: int = 0
    fps: float | None = None
    score: float | None = None


def read_metrics(logdir: pathlib.Path) -> Metrics:
    """Read the end of the metrics of a run."""
    frames, fps, scores = 0, None, {}
    for line in _tail(logdir / "metrics.jsonl"):
        try:
            row = json.loads(line)
            frames = int(row["step"])
        except (ValueError, KeyError, TypeError):  # The first line is cut, the last half written.
            continue
        fps = row.get("fps", fps)
        scores.update({k: row[k] for k in ("train_return", "eval_return") if k in row})
    return Metrics(frames, fps, scores.get("eval_return", scores.get("train_return")))


def read_output(logdir: pathlib.Path, begin: int = 0, lines: int = 12) -> list[str]:
    """Return the last lines that were printed, of those after so many bytes."""
    found = [line.rstrip() for line in _tail(logdir / OUTPUT, begin)]
    return [line for line in found if line][-lines:]


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """Return a JSON object from a file, empty if there is none or it is damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def write_json(path: pathlib.Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object so that nobody ever reads half of it."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def read_end(logdir: pathlib.Path) -> dict[str, Any]:
    """Return how the last attempt at a run ended, empty if none did."""
    return read_json(logdir / FOLDER / "end.json")


def write_end(logdir: pathlib.Path, end: Mapping[str, Any]) -> None:
    """Write down how an attempt ended."""
    write_json(logdir / FOLDER / "end.json", end)


def is_complete(end: Mapping[str, Any], frames: int) -> bool:
    """Whether a run that ended so has all the frames that it is to have now."""
    return end.get("kind") == "done" and end.get("frames", 0) >= frames


class Events:
    """Appends one line of JSON per event to `sweep.jsonl`; only the running sweep does so."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._path = folder / "sweep.jsonl"

    def __call__(self, event: str, **about: Any) -> None:
        """Write an event: its time in seconds since 1970, its name, and what belongs to it."""
        line = json.dumps({"time": round(time.time(), 3), "event": event, **about}) + "\n"
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(line)


def storage_time(folder: pathlib.Path) -> float:
    """Return the time by the clock that the storage stamps files with.

    Where nothing can be written, by the clock of this machine.
    """
    path = folder / FOLDER / f"clock-{os.getpid()}"
    try:
        path.write_text("")
        return path.stat().st_mtime
    except OSError:
        return time.time()
    finally:
        with contextlib.suppress(OSError):
            path.unlink()


def _tail(path: pathlib.Path, begin: int = 0) -> Sequence[str]:
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(begin, size - _TAIL))
            return file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return []
