"""From runs to one number: scores at a point of training, normalisation, aggregation over tasks.

The paper's protocol (`paper`), which reproduces tables 1 and K.1 to every printed digit: of each
run the last bin at or before the point, where a shorter run keeps its last value; the mean over
the seeds of a task; `(score - low) / (high - low)` with random play and a reference; then, for the
last column of table 1, clipping at 1; then the median or mean over tasks. The caption of table K.1
asks to aggregate over tasks before averaging over seeds (`per-seed`), which its numbers do not do.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from dreamerv2.common.errors import UserError
from dreamerv2.common.score_data import Run

PROTOCOLS = ("paper", "per-seed")

# Kind of normalisation -> the references that become 0 and 1.
NORMALIZERS = {
    "gamer": ("random", "gamer"),
    "record": ("random", "record"),
    "range": ("minimum", "maximum"),
}

Scores = Mapping[str, np.ndarray]
References = Mapping[str, Mapping[str, float]]


@dataclasses.dataclass(frozen=True)
class Aggregate:
    """How a column is computed: normalised by `kind`, clipped at 1 or not, then reduced."""

    label: str
    kind: str
    reduce: str
    clip: bool = False


AGGREGATES = {
    "gamer_median": Aggregate("Gamer Median", "gamer", "median"),
    "gamer_mean": Aggregate("Gamer Mean", "gamer", "mean"),
    "record_mean": Aggregate("Record Mean", "record", "mean"),
    "clipped_record_mean": Aggregate("Clipped Record Mean", "record", "mean", clip=True),
    "range_median": Aggregate("Control Median", "range", "median"),
    "range_mean": Aggregate("Control Mean", "range", "mean"),
}


def score_at(run: Run, points: np.ndarray | float, window: float = 0.0) -> np.ndarray:
    """The score of a run at points of training.

    Args:
      run: The run.
      points: (P,) or a number, in environment frames.
      window: 0 for the last bin at or before each point; else the mean over the bins that end in
        the last `window` frames up to and including that bin.

    Returns:
      (P,) float64; NaN before the first bin, and the last value after the last one.
    """
    points = np.atleast_1d(np.asarray(points, np.float64))
    stop = np.searchsorted(run.frames, points, "right")
    last = np.maximum(stop - 1, 0)
    if window > 0:
        total = np.concatenate([[0.0], np.cumsum(run.returns)])
        start = np.minimum(np.searchsorted(run.frames, run.frames[last] - window, "right"), last)
        values = (total[last + 1] - total[start]) / (last + 1 - start)
    else:
        values = run.returns[last]
    return np.where(stop > 0, values, np.nan)


def collect(
    runs: Iterable[Run],
    points: np.ndarray | float | Mapping[str, float],
    window: float = 0.0,
) -> dict[str, dict[str, np.ndarray]]:
    """The scores of many runs at points of training.

    Args:
      runs: Any runs.
      points: (P,) or a number, in environment frames, or a number for each task.
      window: See `score_at`.

    Returns:
      Method -> task -> (S, P) float64, a row for each seed in the seeds' natural order. NaN where a
      run has not begun.
    """
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.method, run.task), []).append(run)
    result: dict[str, dict[str, np.ndarray]] = {}
    for (method, task), group in groups.items():
        at = points[task] if isinstance(points, Mapping) else points
        group.sort(key=lambda run: natural(str(run.seed)))
        rows = np.stack([score_at(run, at, window) for run in group])
        result.setdefault(method, {})[task] = rows
    return result


def normalize(scores: Scores, references: References, kind: str) -> dict[str, np.ndarray]:
    """Maps scores so that the low reference is 0 and the high one 1.

    Args:
      scores: Task -> array of any shape.
      references: Task -> name -> score.
      kind: A key of `NORMALIZERS`.

    Raises:
      UserError: A task lacks one of the two references.
    """
    low, high = NORMALIZERS[kind]
    for task in scores:
        missing = [name for name in (low, high) if name not in references.get(task, {})]
        if missing:
            raise UserError(
                f"{task} has no {missing[0]} score to normalise by; leave it out with --tasks"
            )
    return {
        task: (values - references[task][low]) / (references[task][high] - references[task][low])
        for task, values in scores.items()
    }


def aggregate(
    scores: Scores, references: References, name: str, protocol: str = "paper"
) -> np.ndarray:
    """One number per point for a method: a column of table 1.

    Args:
      scores: Task -> (S, P) raw scores, as `collect` returns them for one method. Seeds that are
        NaN at a point are left out there.
      references: Task -> name -> score.
      name: A key of `AGGREGATES`.
      protocol: `paper` averages over seeds first. `per-seed` normalises, clips and reduces over
        tasks for the first seeds of all tasks, for the second ones, and so on, up to the number of
        seeds that every task has, and averages the results.

    Returns:
      (P,) float64; NaN where a task has no score, or if there is no task.

    Raises:
      UserError: A task lacks a reference.
    """
    how = AGGREGATES[name]
    values = normalize(scores, references, how.kind)
    if not values:
        return np.full(1, np.nan)
    if protocol == "paper":
        table = np.stack([_mean(value) for value in values.values()])[:, None]  # (T, 1, P)
    elif protocol == "per-seed":
        seeds = min(len(value) for value in values.values())
        table = np.stack([value[:seeds] for value in values.values()])  # (T, S, P)
    else:
        raise ValueError(f"{protocol!r} is none of {PROTOCOLS}")
    if how.clip:
        table = np.minimum(table, 1.0)
    reduced = np.median(table, 0) if how.reduce == "median" else np.mean(table, 0)
    return _mean(reduced)


def pick_tasks(names: Sequence[str], task_sets: Mapping[str, Sequence[str]],
               known: Iterable[str]) -> list[str]:  # fmt: skip
    """Resolves names of sets and tasks to a sorted list of tasks.

    Raises:
      UserError: A name is neither; the message has the nearest names.
    """
    tasks: set[str] = set()
    plain = {simplify(task): task for task in known}
    for name in names:
        if name in task_sets:
            tasks.update(task_sets[name])
        elif simplify(name) in plain:
            tasks.add(plain[simplify(name)])
        else:
            raise UserError(unknown("task", name, [*task_sets, *plain.values()]))
    return sorted(tasks)


def simplify(task: str) -> str:
    """What task names are compared by: atari_jamesbond and atari_james_bond are the same game."""
    suite, _, rest = task.lower().partition("_")
    rest = rest.replace("_", "").replace("ballincup", "cup")
    return f"{suite}_{rest}"


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """A sentence about a name that is not known, with the nearest ones."""
    known = sorted(set(known))
    # What follows the suite counts: all games are alike in beginning with `atari_`.
    prefix = name[: name.find("_") + 1]
    rests = {other.removeprefix(prefix): other for other in known if other.startswith(prefix)}
    near = [rests[rest] for rest in difflib.get_close_matches(name[len(prefix) :], rests, 3, 0.5)]
    near = near or difflib.get_close_matches(name, known, 3, 0.7)
    near = near or [other for other in known if name.lower() in other][:3]
    if near:
        return f"the {what} {name!r} is not known; did you mean {' or '.join(near)}?"
    listed = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
    return f"the {what} {name!r} is not known; there are {listed}"


def natural(text: str) -> list[tuple[int, int, str]]:
    """A sorting key by which 10 comes after 9."""
    parts = re.findall(r"\d+|\D+", text)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def _mean(values: np.ndarray) -> np.ndarray:
    """The mean over the first axis without NaN, and NaN where there is nothing else."""
    present = ~np.isnan(values)
    count = present.sum(0)
    total = np.where(present, values, 0.0).sum(0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
