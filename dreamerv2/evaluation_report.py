"""The scores of an evaluation: statistics of them, a table for people, a file for programs."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import dreamerv2
from dreamerv2.common.config import Config
from dreamerv2.common.errors import UserError

Summary = Mapping[str, Mapping[str, Any]]
COLUMNS = ("mean", "std", "median", "min", "max")


def summarize(metrics: Sequence[Mapping[str, float]]) -> dict[str, dict[str, Any]]:
    """Return statistics of each metric over episodes, and under `each` the values themselves.

    The standard deviation is that of these values, without a correction for their number.

    Args:
        metrics: For each episode `eval_return`, `eval_length` and possibly others; names lose
            their `eval_`.
    """
    summary = {}
    for key in metrics[0]:
        values = [float(episode[key]) for episode in metrics]
        numbers = {name: float(getattr(np, name)(values)) for name in COLUMNS}
        summary[key.removeprefix("eval_")] = {**numbers, "each": values}
    return summary


def table(summary: Summary) -> str:
    """Lay out the statistics of each metric in columns."""
    rows: list[tuple[str, ...]] = [("", *COLUMNS)]
    for key, statistics in summary.items():
        rows.append((key, *(f"{statistics[name]:,.2f}" for name in COLUMNS)))
    first = max(len(row[0]) for row in rows)
    width = max(len(cell) for row in rows for cell in row[1:]) + 2
    return "\n".join(
        f"{row[0]:{first}}" + "".join(f"{cell:>{width}}" for cell in row[1:]) for row in rows
    )


def report(
    summary: Summary,
    config: Config,
    defaults: Config,
    *,
    logdir: pathlib.Path,
    checkpoint: str,
    steps: int,
    updates: int,
    seed: int,
    envs: int,
    seconds: float,
) -> dict[str, Any]:
    """Gather what one needs to understand the scores, and to make them again.

    Args:
        summary: Of the metrics.
        config: Of the run, with what was changed for the evaluation.
        defaults: What `settings` are the differences from.
        logdir: Folder of the run.
        checkpoint: Its name.
        steps: Agent steps at the checkpoint.
        updates: Updates at the checkpoint.
        seed: Of environments and policy.
        envs: Number of environments.
        seconds: How long it took to play.
    """
    settings = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in config.flat.items()
        if value != defaults[key] and key != "logdir"
    }
    return {
        "task": config.task,
        "logdir": str(logdir.resolve()),
        "checkpoint": checkpoint,
        "frames": steps * config.action_repeat,
        "agent_steps": steps,
        "updates": updates,
        "episodes": len(summary["return"]["each"]),
        "seed": seed,
        "envs": envs,
        "noise": config.eval_noise,
        **summary,
        "seconds": round(seconds, 3),
        "finished": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "dreamerv2": dreamerv2.__version__,
        "settings": settings,
    }


def write_json(path: pathlib.Path, content: Mapping[str, Any]) -> pathlib.Path:
    """Write a file, a line for each key, that is complete or as before; return its path.

    Raises:
        UserError: The file can't be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        lines = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in content.items()]
        temporary.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise UserError(
            f"{str(path)!r} can't be written ({error.strerror}); name another folder."
        ) from error
    return path
