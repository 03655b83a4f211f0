"""Panels that combine the tasks of one's own runs: aggregates, and how many runs there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from dreamerv2.common import aggregate, plot_panels
from dreamerv2.common.errors import UserError
from dreamerv2.common.figures import ATARI, CONTROL, UNITS
from dreamerv2.common.plot_panels import Curve, Panel
from dreamerv2.common.plot_runs import Gathered, axis_labels, cut, level_label

# Combined panels by the names of the published program, and two for control.
NAMES = (
    *ATARI,
    *CONTROL,
    "mean",
    "median",
    "human_above",
    "human_below",
    "seeds",
)
ALIASES = {"clip_record_mean": "clipped_record_mean"}
RAW = {"mean": "range_mean", "median": "range_median"}


def panels(gathered: Gathered, names: Sequence[str]) -> list[Panel]:
    """The combined panels asked for; what can't be shown is said in the notes.

    Args:
      gathered: One's own runs and baselines.
      names: Of `NAMES`; `auto` for the aggregates of each suite of which there are several tasks,
        `none` for nothing. They are known to be right, see `check`.
    """
    result: list[Panel] = []
    for name in names:
        name = ALIASES.get(name, name)
        if name == "auto":
            result += _auto(gathered)
        elif name == "seeds":
            result.append(_seeds(gathered))
        elif name != "none":
            panel = _combined(gathered, name, gathered.tasks)
            result += [panel] if panel else []
    return result


def check(names: Sequence[str]) -> None:
    """Raises `UserError` if there is no such panel."""
    known = [*NAMES, *ALIASES, "auto", "none"]
    for name in names:
        if name not in known:
            raise UserError(aggregate.unknown("panel", name, known))


def _auto(gathered: Gathered) -> list[Panel]:
    """The aggregates that suit the tasks of each suite, if these are returns of several tasks."""
    if not gathered.request.comparable:
        return []
    result = []
    suites: dict[str, list[str]] = {}
    for task in gathered.tasks:
        suites.setdefault(task.split("_")[0], []).append(task)
    for suite, tasks in suites.items():
        names = {"atari": ATARI, "dmc": CONTROL}.get(suite, ("median", "mean"))
        if len(tasks) > 1:
            made = [_combined(gathered, name, tasks) for name in names]
            result += [panel for panel in made if panel]
    return result


def _combined(gathered: Gathered, name: str, tasks: Sequence[str]) -> Panel | None:
    """One aggregate of the tasks that have references and that all of one's own methods have."""
    data, request = gathered.data, gathered.request
    kind = "gamer" if name.startswith("human_") else _kind(name)
    own = [run for run in gathered.runs if run.task in tasks]
    methods = [method for method in gathered.methods if any(run.method == method for run in own)]
    usable = []
    for task in tasks:
        if kind and not set(aggregate.NORMALIZERS[kind]) <= set(data.references.get(task, {})):
            _note(gathered, f"{task} is not in {kind}-normalised panels: it has no such scores")
        elif any(not _has(gathered, method, task) for method in methods):
            _note(gathered, f"{task} is not in combined panels: not all methods have a run of it")
        else:
            usable.append(task)
    if not usable:
        return None
    references: Mapping[str, Mapping[str, float]] = data.references
    if not kind:
        references = {task: {"minimum": 0.0, "maximum": 1.0} for task in usable}
    own = [run for run in own if run.task in usable]
    # Up to where all tasks have a run that has come so far.
    end = min(max(run.frames[-1] for run in own if run.task == task) for task in usable)
    grid = np.unique(np.concatenate([[end], *[run.frames for run in own]]))
    grid = plot_panels.thin(grid[grid <= end])
    curves = []
    for method, scores in aggregate.collect(own, grid).items():
        label = gathered.label(method)
        curves.append(_curve(gathered, name, scores, references, method, label, grid, own=True))
    for method in gathered.baselines if request.comparable else []:
        curve = _baseline(gathered, name, usable, references, method, end)
        if curve is not None:
            curves.append(curve)
    curves = [curve for curve in curves if curve.level or len(curve.frames)]
    curves.sort(key=lambda curve: gathered.methods.index(curve.method) if curve.own else 1000)
    if not curves:
        return None
    title, ylabel = _words(gathered, name, kind)
    xlabel = axis_labels(request)[0]
    end = end if request.xmax is None else request.xmax
    number = f"{len(usable)} task{'s' * (len(usable) > 1)}"
    return Panel(name, f"{title}, {number}", curves, xlabel, ylabel, shaded=True, xmax=end)


def _curve(
    gathered: Gathered,
    name: str,
    scores: Mapping[str, np.ndarray],
    references: aggregate.References,
    method: str,
    label: str,
    grid: np.ndarray,
    own: bool = False,
) -> Curve:
    """The combined curve of one method whose scores are task -> (S, P)."""
    if name.startswith("human_"):
        table = aggregate.normalize(scores, references, "gamer").values()
        means = np.stack([rows.mean(0) for rows in table])  # (T, P), NaN where one has not begun.
        number = (means >= 1 if name == "human_above" else means < 1).sum(0).astype(np.float64)
        number[np.isnan(means).any(0)] = np.nan
        return plot_panels.make_curve(method, label, grid, number[None], "std", own)
    return plot_panels.aggregate_curve(
        scores,
        references,
        RAW.get(name, name),
        method=method,
        label=label,
        frames=grid,
        how=gathered.request.how,
        protocol=gathered.request.protocol,
        own=own,
    )


def _baseline(
    gathered: Gathered,
    name: str,
    tasks: Sequence[str],
    references: aggregate.References,
    method: str,
    end: float,
) -> Curve | None:
    """A published method, if it has all tasks: the part of its curve in view, or its last score."""
    label = gathered.label(method)
    published = gathered.data.select(tasks, [method])
    if {run.task for run in published} != set(tasks):
        return None  # A reference such as `gamer` is 1 by definition.
    end = end if gathered.request.xmax is None else gathered.request.xmax
    seen = [cut(run, end) for run in published]
    grid = np.unique(np.concatenate([run.frames for run in seen]))
    if len(grid) > 1 and all(len(run.frames) for run in seen):
        grid = plot_panels.thin(grid)
        [scores] = aggregate.collect(seen, grid).values()
        return _curve(gathered, name, scores, references, method, label, grid)
    last = np.array([max(run.frames[-1] for run in published)])
    [scores] = aggregate.collect(published, last).values()
    curve = _curve(gathered, name, scores, references, method, label, last)
    score = float(curve.lines.mean())
    return plot_panels.level(method, level_label(label, published), score, curve.seeds)


def _seeds(gathered: Gathered) -> Panel:
    """How many runs have come as far as each point."""
    curves = []
    for method in gathered.methods:
        ends = np.sort([run.frames[-1] for run in gathered.runs if run.method == method])
        frames = np.repeat(np.concatenate([[0.0], ends]), 2)[1:]
        number = np.repeat(np.arange(len(ends), -1, -1, dtype=np.float64), 2)[:-1]
        label = gathered.label(method)
        curves.append(Curve(method, label, frames, number[None], number, number, len(ends),
                            own=True))  # fmt: skip
    end = max(gathered.end(task) for task in gathered.tasks)
    xlabel = axis_labels(gathered.request)[0]
    return Panel("seeds", "Runs that came so far", curves, xlabel, "Runs", shaded=True, xmax=end)


def _words(gathered: Gathered, name: str, kind: str) -> tuple[str, str]:
    """Title and y-label of a combined panel."""
    if name.startswith("human_"):
        return f"{'At or above' if name == 'human_above' else 'Below'} gamer", "Tasks"
    if not kind:
        return f"Task {name.capitalize()}", axis_labels(gathered.request)[1]
    return aggregate.AGGREGATES[name].label, UNITS[kind]


def _kind(name: str) -> str:
    """What a panel is normalised by, or nothing."""
    return "" if name in RAW else aggregate.AGGREGATES[name].kind


def _has(gathered: Gathered, method: str, task: str) -> bool:
    return any((run.method, run.task) == (method, task) for run in gathered.runs)


def _note(gathered: Gathered, note: str) -> None:
    if note not in gathered.notes:
        gathered.notes.append(note)
