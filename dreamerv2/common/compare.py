"""Gathers the scores that a table compares: which methods, on which tasks, at which frames."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TextIO

import numpy as np

from dreamerv2.common import aggregate, runs
from dreamerv2.common.errors import UserError
from dreamerv2.common.score_data import Data, Run

# Where the paper compares Atari agents: the last bin that all published curves have.
PAPER_FRAMES = {"atari": 199e6}


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Scores of several methods on the same tasks at the same frames.

    Attributes:
      scores: Method -> task -> (S, 1) float64, finite. Own methods come first. A method lacks the
        tasks that it has no score in.
      points: Task -> frames at which it is compared; infinity stands for the end of training.
      own: Names of the methods that were read from log folders.
      where: Describes the frames in words.
      notes: Sentences about what a reader has to know.
    """

    data: Data
    scores: dict[str, dict[str, np.ndarray]]
    points: dict[str, float]
    own: frozenset[str]
    where: str
    notes: list[str]

    @property
    def tasks(self) -> list[str]:
        """All tasks, sorted."""
        return list(self.points)


def compare(
    data: Data,
    *,
    baselines: Sequence[str],
    optional: bool = False,
    tasks: Sequence[str] = (),
    indirs: Sequence[str] = (),
    frames: float | None = None,
    window: float = 0.0,
    bins: float = 1e6,
    metric: str = "eval_return",
    progress: TextIO | None = None,
) -> Comparison:
    """Gathers scores.

    Args:
      data: The shipped data.
      baselines: Methods of the shipped data, in the order of the table.
      optional: Leave out baselines that have no run of any of the tasks.
      tasks: Names of tasks and sets; by default atari55, or those of one's own runs.
      indirs: Folders with one's own runs. Only tasks that they have are compared.
      frames: Compare everybody here. By default where one's own runs of each task have arrived, or
        where the paper compares.
      window: Average over so many of the last frames, instead of the last bin.
      bins: Size of the bins that the points of one's own runs are averaged in, in frames.
      metric: What to read of one's own runs.
      progress: Where to draw a progress bar.

    Raises:
      UserError: A name is not known, or nothing is left to compare.
    """
    for name in baselines:
        if name not in data.methods:
            raise UserError(aggregate.unknown("baseline", name, data.methods))
    own: list[Run] = []
    notes: list[str] = []
    if indirs:
        read = runs.read(
            indirs, metric=metric, known=data.tasks, taken=data.methods, progress=progress
        )
        own, notes = (
            [runs.bin_run(run, bins) for run in read.runs],
            [f"{note}." for note in read.notes],
        )
    chosen = _tasks(data, tasks, own, notes)
    chosen_set = set(chosen)
    own = [run for run in own if run.task in chosen_set]
    if optional:
        baselines = [name for name in baselines if data.select(chosen, [name])]
    published = data.select(chosen_set, baselines)

    points, where = _points(chosen, own, frames)
    curves = [run for run in published if not run.final]
    scores = aggregate.collect([*own, *curves], points, window)
    # A final score belongs to no point of training but the end.
    at_end = np.inf if frames is None else frames
    scores |= aggregate.collect([run for run in published if run.final], at_end)
    own_names = sorted({run.method for run in own}, key=aggregate.natural)
    order = [*own_names, *dict.fromkeys(baselines)]
    scores = {method: _finite(scores.get(method, {})) for method in order}
    for method in order:
        notes += _absent(data, method, scores[method], chosen)
    notes += _stopped(own, points)
    if not any(scores.values()):
        raise UserError(f"no method has a score {where}; choose later frames or other baselines")
    return Comparison(data, scores, points, frozenset(own_names), where, notes)


def _tasks(data: Data, names: Sequence[str], own: list[Run], notes: list[str]) -> list[str]:
    """The tasks to compare: those asked for that one's own runs have, if there are any."""
    mine = {run.task for run in own}
    if names or not own:
        known = [*data.tasks, *mine]
        tasks = aggregate.pick_tasks(names or ["atari55"], data.task_sets, known)
        if own:
            missing = len(set(tasks) - mine)
            tasks = [task for task in tasks if task in mine]
            if not tasks:
                raise UserError(
                    f"none of the tasks asked for has a run of your own, which are of "
                    f"{', '.join(sorted(mine)[:5])}; choose among them with --tasks"
                )
            if missing:
                notes.append(
                    f"Of the tasks asked for, {missing} have no run of your own and are left out."
                )
    else:
        tasks = sorted(mine)
    return tasks


def _points(tasks: list[str], own: list[Run], frames: float | None) -> tuple[dict[str, float], str]:
    """Where each task is compared, and that in words."""
    if frames is not None:
        return dict.fromkeys(tasks, frames), f"at {count(frames)} frames"
    if not own:
        points = {task: PAPER_FRAMES.get(task.split("_")[0], np.inf) for task in tasks}
        first = min(points.values())
        words = f"at {count(first)} frames" if first < np.inf else "at the end of training"
        return points, words
    points = {task: max(run.frames[-1] for run in own if run.task == task) for task in tasks}
    low, high = count(min(points.values())), count(max(points.values()))
    return points, f"at {low} frames" if low == high else f"at {low} to {high} frames"


def _finite(scores: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Leaves out runs that have not begun, and tasks without any other."""
    kept = {task: rows[np.isfinite(rows[:, 0])] for task, rows in sorted(scores.items())}
    return {task: rows for task, rows in kept.items() if len(rows)}


def _absent(data: Data, method: str, scores: dict[str, np.ndarray], tasks: list[str]) -> list[str]:
    """Sentences about what a method lacks, or how it differs from the others."""
    notes = []
    if len(scores) < len(tasks):
        missing = [task for task in tasks if task not in scores]
        begun = {run.task: run.frames[0] for run in data.select(missing, [method])}
        why = (
            f"; its published scores begin at {count(min(begun.values()))} frames" if begun else ""
        )
        notes.append(
            f"{data.label(method)} has a score in {len(scores)} of {len(tasks)} tasks{why}."
        )
    if scores and any(run.final for run in data.select(scores, [method])):
        notes.append(f"{data.label(method)}: {data.methods[method].protocol}; a published score.")
    return notes


def _stopped(own: list[Run], points: dict[str, float]) -> list[str]:
    """Sentences about own runs that ended well before the point of comparison."""
    notes = []
    for method in sorted({run.method for run in own}, key=aggregate.natural):
        mine = [run for run in own if run.method == method]
        short = [run for run in mine if run.frames[-1] < 0.9 * points[run.task]]
        if short:
            least = count(min(run.frames[-1] for run in short))
            notes.append(
                f"Of {len(mine)} runs of {method}, {len(short)} stopped before the others, at "
                f"{least} frames or later; the last value is kept."
            )
    return notes


def count(number: float) -> str:
    """A number of frames as people write it: 199M, 1.5M, 400k."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.4g}{unit}"
    return f"{number:.4g}"
