"""The tables that the command line prints, made of a comparison or of the paper's figures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from dreamerv2.common import aggregate, stats
from dreamerv2.common.compare import Comparison
from dreamerv2.common.errors import UserError
from dreamerv2.common.tables import Cell, Column, Table

# Columns of `aggregates` by suite.
COLUMNS = {
    "atari": ("gamer_median", "gamer_mean", "record_mean", "clipped_record_mean"),
    "dmc": ("range_median", "range_mean"),
}
NORMALIZERS = {"atari": "gamer", "dmc": "range"}
# Columns of `per_task` by suite.
REFERENCES = {"atari": ("random", "gamer", "record"), "dmc": ("maximum",)}
HEADINGS = {
    "median": "Median",
    "iqm": "IQM",
    "mean": "Mean",
    "optimality_gap": "Optimality Gap",
}


@dataclasses.dataclass(frozen=True)
class Bootstrap:
    """How confidence intervals are computed: resamples, their seed, and the confidence."""

    resamples: int = 2000
    seed: int = 0
    confidence: float = 0.95

    def interval(
        self, scores: stats.Scores, statistic: Callable[[stats.Scores], np.ndarray]
    ) -> tuple[float, float] | None:
        """The interval of a statistic, or None if no task has more than one run."""
        if all(len(rows) < 2 for rows in scores.values()):
            return None
        samples = statistic(stats.resample(scores, self.resamples, self.seed))
        low, high = stats.interval(samples, self.confidence)
        return float(low), float(high)

    @property
    def note(self) -> str:
        """What the brackets are."""
        return (
            f"Brackets: {100 * self.confidence:g}% intervals of a bootstrap over runs within each "
            f"task, {self.resamples} resamples, seed {self.seed}."
        )


def aggregates(
    comparison: Comparison, title: str, protocol: str = "paper", bootstrap: Bootstrap | None = None
) -> Table:
    """Table 1: the aggregated scores of each method."""
    names = COLUMNS[_suite(comparison)]
    references = comparison.data.references
    tasks, notes = _referenced(comparison, {aggregate.AGGREGATES[name].kind for name in names})
    rows = []
    for method, raw in comparison.scores.items():
        scores = {task: raw[task] for task in tasks if task in raw}
        cells = [_label(comparison, method)]
        for name in names:

            def statistic(values: stats.Scores, name: str = name) -> np.ndarray:
                return aggregate.aggregate(values, references, name, protocol)

            cells.append(_cell(scores, statistic, bootstrap))
        rows.append([*cells, *_counts(comparison, method, scores)])
    columns = [Column(name, aggregate.AGGREGATES[name].label) for name in names]
    words = {
        "paper": "Protocol paper: the seeds of a task are averaged first.",
        "per-seed": "Protocol per-seed: tasks are aggregated for each seed, then averaged.",
    }
    return _finish(comparison, title, columns, rows, [words[protocol], *notes], bootstrap)


def statistics(comparison: Comparison, kind: str | None, bootstrap: Bootstrap) -> Table:
    """Interquartile mean, optimality gap, median and mean of each method with intervals."""
    kind, normalized, notes = _normalized(comparison, kind)
    rows = [
        [
            _label(comparison, method),
            *(_cell(scores, function, bootstrap) for function in stats.STATISTICS.values()),
            *_counts(comparison, method, scores),
        ]
        for method, scores in normalized.items()
    ]
    columns = [Column(name, HEADINGS[name]) for name in stats.STATISTICS]
    title = f"Statistics of {kind}-normalized scores"
    return _finish(comparison, title, columns, rows, notes, bootstrap)


def improvement(comparison: Comparison, of: Sequence[str], bootstrap: Bootstrap) -> Table:
    """The probability that each of some methods beats each of the others."""
    for name in of:
        if name not in comparison.scores:
            raise UserError(aggregate.unknown("method", name, comparison.scores))
    rows = []
    of = of or sorted(comparison.own) or list(comparison.scores)[:1]
    for first in of:
        for second in comparison.scores:
            ours, theirs = comparison.scores[first], comparison.scores[second]
            tasks = sorted(set(ours) & set(theirs))
            if first == second or not tasks:
                continue
            samples = stats.improvement(
                stats.resample(ours, bootstrap.resamples, bootstrap.seed),
                stats.resample(theirs, bootstrap.resamples, bootstrap.seed, 1),
            )
            low, high = stats.interval(samples, bootstrap.confidence)
            ends = (float(low), float(high))
            if all(len(ours[task]) == len(theirs[task]) == 1 for task in tasks):
                cell = Cell(float(stats.improvement(ours, theirs)[0]))
            else:
                cell = Cell(float(stats.improvement(ours, theirs)[0]), interval=ends)
            names = [_label(comparison, first), _label(comparison, second)]
            rows.append([*names, cell, Cell(len(tasks))])
    if not rows:
        raise UserError("there are no two methods to compare; name others with --baselines")
    columns = [
        Column("method", "X"),
        Column("other", "Y"),
        Column("probability", "P(X > Y)"),
        Column("tasks", "Tasks"),
    ]
    notes = ["The probability that a run of X scores higher than a run of Y on the same task."]
    title = f"Probability of improvement {comparison.where}"
    return Table(title, columns, rows, [*notes, bootstrap.note, *comparison.notes])


def profiles(
    comparison: Comparison,
    kind: str | None,
    thresholds: Sequence[float],
    bootstrap: Bootstrap | None = None,
) -> Table:
    """Performance profiles: the share of runs above each of some normalized scores."""
    kind, normalized, missing = _normalized(comparison, kind)
    present = {method: scores for method, scores in normalized.items() if scores}
    rows = []
    for threshold in thresholds:

        def statistic(scores: stats.Scores, threshold: float = threshold) -> np.ndarray:
            return stats.profile(scores, np.array([threshold]))[0]

        cells = [_cell(scores, statistic, bootstrap) for scores in present.values()]
        rows.append([Cell(float(threshold)), *cells])
    columns = [
        Column("threshold", "Score above"),
        *(Column(method, comparison.data.label(method)) for method in present),
    ]
    title = f"Performance profiles of {kind}-normalized scores {comparison.where}"
    notes = ["The share of runs, of all tasks together, above a score.", *missing]
    notes += [bootstrap.note] if bootstrap else []
    return Table(title, columns, rows, [*notes, *comparison.notes])


def per_task(comparison: Comparison, title: str, bootstrap: Bootstrap | None = None) -> Table:
    """Table K.1: the references and the mean score of each method, for each task."""
    references = comparison.data.references
    suites = {task.split("_")[0] for task in comparison.tasks}
    shown = [name for suite in sorted(suites) for name in REFERENCES.get(suite, ())]
    columns = [Column("task", "Task"), *(Column(name, name.capitalize()) for name in shown)]
    if len(set(comparison.points.values())) > 1:
        columns.insert(1, Column("frames", "Frames"))
    for method in comparison.scores:
        columns.append(Column(method, comparison.data.label(method)))
        if method in comparison.own:
            columns.append(Column(f"{method}_seeds", "Seeds"))
    rows = []
    for task, point in comparison.points.items():
        known = references.get(task, {})
        cells = {
            "task": Cell(task),
            "frames": Cell(float(point) if np.isfinite(point) else None, 0),
        }
        cells |= {name: Cell(known.get(name), 0) for name in shown}
        for method, scores in comparison.scores.items():
            one = {task: scores[task]} if task in scores else {}
            cells[method] = _cell(one, stats.mean, bootstrap, 0)
            cells[f"{method}_seeds"] = Cell(len(one[task]) if one else 0)
        rows.append([cells[column.name] for column in columns])
    notes = [bootstrap.note] if bootstrap else []
    return Table(f"{title} {comparison.where}", columns, rows, [*notes, *comparison.notes])


def _suite(comparison: Comparison) -> str:
    """The one suite with references that tasks are of."""
    suites = sorted({task.split("_")[0] for task in comparison.tasks} & set(COLUMNS))
    if not suites:
        raise UserError(
            f"tasks like {comparison.tasks[0]} have no reference scores to normalise by; print "
            f"their scores with k1"
        )
    if len(suites) > 1:
        raise UserError(
            f"scores of {' and '.join(suites)} are not normalised alike; choose one of them with "
            f"--tasks, as in --tasks {'atari55' if suites[0] == 'atari' else 'dmc'}"
        )
    return suites[0]


def _referenced(comparison: Comparison, kinds: set[str]) -> tuple[list[str], list[str]]:
    """The tasks that have the references of all kinds, and sentences about the others."""
    needed = dict.fromkeys(name for kind in sorted(kinds) for name in aggregate.NORMALIZERS[kind])
    references = comparison.data.references
    without = [task for task in comparison.tasks if set(needed) - set(references.get(task, {}))]
    tasks = [task for task in comparison.tasks if task not in without]
    names = " and ".join(needed)
    if not tasks:
        raise UserError(
            f"{without[0]} has no {names} score to normalise by, nor has another task; print "
            f"their scores with k1"
        )
    notes = [f"Left out for want of {names} scores: {', '.join(without)}."] if without else []
    return tasks, notes


def _normalized(
    comparison: Comparison, kind: str | None
) -> tuple[str, dict[str, dict[str, np.ndarray]], list[str]]:
    """The kind of normalisation, the normalized scores, and notes."""
    kind = kind or NORMALIZERS[_suite(comparison)]
    tasks, notes = _referenced(comparison, {kind})
    result = {}
    for method, raw in comparison.scores.items():
        scores = {task: raw[task] for task in tasks if task in raw}
        result[method] = aggregate.normalize(scores, comparison.data.references, kind)
    return kind, result, notes


def _label(comparison: Comparison, method: str) -> Cell:
    """The cell that names a method."""
    return Cell(comparison.data.label(method), key=method)


def _cell(
    scores: stats.Scores,
    statistic: Callable[[stats.Scores], np.ndarray],
    bootstrap: Bootstrap | None,
    digits: int = 2,
) -> Cell:
    """A statistic with its interval; a dash if there are no scores."""
    if not scores:
        return Cell(None, digits)
    interval = bootstrap.interval(scores, statistic) if bootstrap else None
    return Cell(float(statistic(scores)[0]), digits, interval)


def _counts(comparison: Comparison, method: str, scores: stats.Scores) -> list[Cell]:
    """How many tasks and seeds are behind a row; the seeds of published finals are not known."""
    final = any(run.final for run in comparison.data.select(scores, [method]))
    return [Cell(len(scores)), Cell(None if final else _seeds(scores))]


def _seeds(scores: stats.Scores) -> str:
    """The number of seeds per task, or its range."""
    counts = sorted({len(rows) for rows in scores.values()})
    return "-".join(map(str, dict.fromkeys([counts[0], counts[-1]]))) if counts else "0"


def _finish(
    comparison: Comparison,
    title: str,
    columns: Sequence[Column],
    rows: Sequence[Sequence[Cell]],
    notes: Sequence[str],
    bootstrap: Bootstrap | None,
) -> Table:
    """A table with a row per method, and all notes below."""
    columns = [Column("method", "Method"), *columns, Column("tasks", "Tasks"),
               Column("seeds", "Seeds")]  # fmt: skip
    notes = [*notes, *([bootstrap.note] if bootstrap else []), *comparison.notes]
    for method in sorted(comparison.own) if bootstrap else ():
        single = sum(len(runs) == 1 for runs in comparison.scores[method].values())
        if single:
            notes.append(f"{method} has a single run in {single} tasks, which shows no spread.")
    return Table(f"{title} {comparison.where}", columns, rows, notes)
