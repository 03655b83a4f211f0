"""Reads one metric of a `metrics.jsonl` over steps, whatever has happened to the file.

How a file is read: at once, split into lines; the lines that name the metric are joined into one
JSON array and parsed in one call, which takes a third of the time of a call per line; if that
fails, each is parsed alone and those that are broken are counted. Of the other lines only the step
at their beginning is read.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import pathlib
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Series:
    """A metric over steps.

    Attributes:
      steps: (N,) float64, increasing, in environment frames.
      values: (N,) float64, finite.
      lines: Lines of the file that are not empty.
      broken: Lines that are no JSON object with a step and, where they name the metric, a number.
      replaced: Values dropped because the run went back, as it does when it is resumed, and wrote
        these steps again.
      missing: Values that are null, NaN or infinite.
      names: The metrics of the file, sorted; only looked up if the asked one is not there.
    """

    steps: np.ndarray
    values: np.ndarray
    lines: int
    broken: int
    replaced: int
    missing: int
    names: tuple[str, ...]


def read(path: str | os.PathLike[str], metric: str, xaxis: str = "step") -> Series:
    """Reads a metric.

    Args:
      path: A file with one JSON object per line.
      metric: Name of the numbers to read.
      xaxis: Name of the steps that they belong to.

    Raises:
      OSError: The file can't be read.
    """
    lines = pathlib.Path(path).read_bytes().splitlines()
    lines = [line for line in lines if line and not line.isspace()]
    needle = json.dumps(metric).encode()
    marks = [needle in line for line in lines]
    records = iter(_parse(list(itertools.compress(lines, marks))))
    prefix = f"{{{json.dumps(xaxis)}: ".encode()
    steps: list[float] = []
    values: list[float] = []
    broken = replaced = missing = 0
    last = -math.inf
    for line, mark in zip(lines, marks, strict=True):
        record = next(records) if mark else None
        if record is not None:
            step = _number(record.get(xaxis))
        else:
            step = None if mark else _leading_step(line, prefix, xaxis)
        if step is None or not math.isfinite(step):
            broken += 1
            continue
        while last >= step:
            # A line of the same step that lacks the metric adds to the one before.
            if last == step and not mark:
                break
            steps.pop()
            values.pop()
            replaced += 1
            last = steps[-1] if steps else -math.inf
        if record is None or metric not in record:
            continue
        value = record[metric]
        number = math.nan if value is None else _number(value)
        if number is None:
            broken += 1
        elif not math.isfinite(number):
            missing += 1
        else:
            last = step
            steps.append(step)
            values.append(number)
    names = () if steps else _names(lines, xaxis)
    return Series(np.array(steps, np.float64), np.array(values, np.float64), len(lines),
                  broken, replaced, missing, names)  # fmt: skip


def _parse(lines: list[bytes]) -> list[dict[str, Any] | None]:
    """The object of each line, or None where a line is broken."""
    try:
        if all(line.startswith(b"{") and line.endswith(b"}") for line in lines):
            records = json.loads(b"[" + b",".join(lines) + b"]")
            if len(records) == len(lines):
                return records
    except ValueError:
        pass  # Which line it was is found below.
    return [_object(line) for line in lines]


def _object(line: bytes) -> dict[str, Any] | None:
    """The object of a line, or None if it is broken."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _leading_step(line: bytes, prefix: bytes, xaxis: str) -> float | None:
    """The step of a line without parsing all of it, if the line looks complete."""
    if line.endswith(b"}") and line.startswith(prefix):
        start = len(prefix)
        digits = line[start : line.find(b",", start)]  # Without a comma: to before the bracket.
        if digits.isdigit():
            return float(digits)
    record = _object(line)
    return None if record is None else _number(record.get(xaxis))


def _number(value: Any) -> float | None:
    """The number, which true and false are not."""
    if type(value) is float:
        return value
    if type(value) is int:
        try:
            return float(value)
        except OverflowError:
            return None
    return None


def _names(lines: list[bytes], xaxis: str) -> tuple[str, ...]:
    """The metrics that a few lines at the beginning and the end of a file have."""
    records = [_object(line) for line in [*lines[:100], *lines[-100:]]]
    return tuple(sorted({str(key) for record in records if record for key in record} - {xaxis}))
