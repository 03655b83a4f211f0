"""Figures of one's own runs: which curves stand in which panel, beside which baselines."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import TextIO

import numpy as np

from dreamerv2.common import aggregate, plot_panels, runs
from dreamerv2.common.compare import count
from dreamerv2.common.errors import UserError
from dreamerv2.common.figures import matching
from dreamerv2.common.plot_panels import Curve, Panel
from dreamerv2.common.score_data import Data, Run

# Frames per bin, as published curves of these suites have.
BINS = {"atari": 1e6, "dmc": 1e4, "crafter": 1e4}
FEWEST_BINS = 30
DEFAULT_BASELINES = ("dreamerv2", "rainbow", "iqn")
# Names of single scores: what they are called here, and in the published program.
REFERENCES = {
    "random": ("random", "Random"),
    "gamer": ("gamer", "Human gamer"),
    "human_gamer": ("gamer", "Human gamer"),
    "record": ("record", "Human record"),
    "human_record": ("record", "Human record"),
}


@dataclasses.dataclass(frozen=True)
class Request:
    """What to plot of one's own runs.

    Attributes:
      indirs: Folders with log folders.
      xaxis: Metric of the x-axis; published curves are over `step`.
      yaxis: Metric of the y-axis; published curves are returns.
      tasks: Regular expressions, one of which a task must contain.
      methods: Regular expressions, one of which a method must contain; also their order.
      baselines: Published methods, by name or regular expression, and `random`, `gamer`, `record`.
        None stands for the default, of which those without a score in one's tasks are left out.
      prefix: Put the number of the folder before the names of methods.
      bins: Frames per bin; 0 for none, -1 for what suits the suite and the length of the runs.
      how: A key of `plot_panels.AGGREGATIONS`.
      protocol: For aggregates, see `plot_panels.aggregate_curve`.
      xmult: Multiplies the x values of one's own runs.
      maxval: Clips the y values of one's own runs to plus and minus this; 0 for no clipping.
      xmax: Where the x-axis ends; None for where one's own runs do.
      labels: Method -> what the legend calls it.
    """

    indirs: Sequence[str]
    xaxis: str = "step"
    yaxis: str = "eval_return"
    tasks: Sequence[str] = (".*",)
    methods: Sequence[str] = (".*",)
    baselines: Sequence[str] | None = None
    prefix: bool = False
    bins: float = -1
    how: str = "std"
    protocol: str = "paper"
    xmult: float = 1.0
    maxval: float = 0.0
    xmax: float | None = None
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def comparable(self) -> bool:
        """Whether published scores are of the same quantity."""
        return self.xaxis == "step" and "return" in self.yaxis


@dataclasses.dataclass(frozen=True)
class Gathered:
    """One's own runs and the baselines to show beside them.

    Attributes:
      data: The shipped data.
      request: What was asked for.
      runs: One's own, binned.
      tasks: Of these runs, sorted.
      methods: One's own, in the order of the legend.
      baselines: Published methods and names of references.
      found: All methods of one's own, shown or not.
      notes: Sentences about what a reader has to know.
    """

    data: Data
    request: Request
    runs: list[Run]
    tasks: list[str]
    methods: list[str]
    baselines: list[str]
    found: list[str]
    notes: list[str]

    def label(self, method: str) -> str:
        """What the legend calls a method."""
        reference = REFERENCES.get(method, ("", ""))[1]
        return self.request.labels.get(method, reference or self.data.label(method))

    def end(self, task: str) -> float:
        """Where the x-axis of a task ends, in frames."""
        longest = max(run.frames[-1] for run in self.runs if run.task == task)
        return longest if self.request.xmax is None else self.request.xmax


def gather(data: Data, request: Request, progress: TextIO | None = None) -> Gathered:
    """Reads one's own runs and finds the baselines.

    Raises:
      UserError: A name or regular expression fits nothing, or there is nothing to show.
    """
    read, notes = _read(data, request, progress)
    found = sorted({run.method for run in read}, key=aggregate.natural)
    tasks = sorted(matching("task", request.tasks, sorted({run.task for run in read})))
    methods = matching("method", request.methods, found)
    own = [run for run in read if run.task in tasks and run.method in methods]
    if not own:
        raise UserError("no run has both a task and a method asked for; widen --tasks or --methods")
    tasks = [task for task in tasks if any(run.task == task for run in own)]
    baselines = _baselines(data, request, tasks, notes)
    check_labels(request.labels, [*found, *data.methods, *REFERENCES])
    own = [_scaled(run, request) for run in own]
    sizes = {suite: _bin_size(own, suite, request) for suite in {run.suite for run in own}}
    own = [runs.bin_run(run, sizes[run.suite]) if sizes[run.suite] else run for run in own]
    return Gathered(data, request, own, tasks, methods, baselines, found, notes)


def task_panels(gathered: Gathered) -> list[Panel]:
    """A panel for each task, one's own methods first."""
    request = gathered.request
    panels = []
    for task in gathered.tasks:
        curves = []
        for method in gathered.methods:
            mine = [run for run in gathered.runs if (run.task, run.method) == (task, method)]
            if mine:
                label = gathered.label(method)
                curves.append(plot_panels.task_curve(mine, request.how, label, own=True))
        for name in gathered.baselines:
            curve = _baseline(gathered, name, task)
            if curve is not None:
                curves.append(curve)
        xlabel, ylabel = axis_labels(request)
        end = gathered.end(task)
        panels.append(Panel(task, plot_panels.title(task), curves, xlabel, ylabel, xmax=end))
    return panels


def axis_labels(request: Request) -> tuple[str, str]:
    """What stands at the axes: names of metrics in words."""
    xlabel = "Frames" if request.xaxis == "step" else request.xaxis
    ylabel = "Return" if request.yaxis == "eval_return" else request.yaxis
    if ylabel != "Return" and ylabel.endswith("_return"):
        ylabel = ylabel.replace("_", " ").capitalize()
    return xlabel, ylabel


def _read(data: Data, request: Request, progress: TextIO | None) -> tuple[list[Run], list[str]]:
    """All runs of the folders, and notes; with `prefix`, each folder for itself."""
    groups = [[indir] for indir in request.indirs] if request.prefix else [request.indirs]
    read: list[Run] = []
    notes: list[str] = []
    for number, indirs in enumerate(groups, 1):
        try:
            result = runs.read(
                indirs,
                metric=request.yaxis,
                xaxis=request.xaxis,
                known=data.tasks,
                taken=() if request.prefix else data.methods,
                progress=progress,
            )
        except UserError as error:
            if len(groups) == 1:
                raise
            notes.append(str(error))
            continue
        start = f"indir{number}_" if request.prefix else ""
        read += [dataclasses.replace(run, method=start + run.method) for run in result.runs]
        notes += result.notes
    if not read:
        raise UserError("; ".join(notes[:3]))
    return read, [note[:1].upper() + note[1:] for note in notes]


def _baselines(data: Data, request: Request, tasks: Sequence[str], notes: list[str]) -> list[str]:
    """The baselines that have a score in the tasks; notes say which have none."""
    if not request.comparable:
        if request.baselines:
            notes.append("Baselines are left out: published scores are returns over frames")
        return []
    known = [*data.methods, *REFERENCES]
    names: list[str] = []
    for pattern in DEFAULT_BASELINES if request.baselines is None else request.baselines:
        # The published program calls Rainbow with sticky actions `rainbow_sticky`.
        plain = re.sub(r"_sticky(_2e8)?$", "", pattern)
        names += [plain] if plain in known else matching("baseline", [pattern], known)
    result = []
    for name in dict.fromkeys(names):
        reference = REFERENCES.get(name, ("",))[0]
        has = data.select(tasks, [name]) or any(
            reference in data.references.get(task, {}) for task in tasks
        )
        if has:
            result.append(reference or name)
        elif request.baselines is not None:
            notes.append(f"{name} is left out: it has no published score in these tasks")
    return list(dict.fromkeys(result))


def _baseline(gathered: Gathered, name: str, task: str) -> Curve | None:
    """A published method in the panel of a task: the part of its curve in view, or its score."""
    data, label = gathered.data, gathered.label(name)
    if name in REFERENCES:
        score = data.references.get(task, {}).get(name)
        return None if score is None else plot_panels.level(name, label, score)
    published = data.select([task], [name])
    if not published:
        return None
    seen = [cut(run, gathered.end(task)) for run in published]
    seen = [run for run in seen if len(run.frames) > 1]
    if seen:
        return plot_panels.task_curve(seen, gathered.request.how, label)
    score = float(np.mean([run.returns[-1] for run in published]))
    return plot_panels.level(name, level_label(label, published), score, len(published))


def cut(run: Run, end: float) -> Run:
    """The run up to `end` frames."""
    size = int(np.searchsorted(run.frames, end, "right"))
    return dataclasses.replace(run, frames=run.frames[:size], returns=run.returns[:size])


def level_label(label: str, published: Sequence[Run]) -> str:
    """Says at which frames a score was reached that is drawn as a level."""
    return f"{label} at {count(max(run.frames[-1] for run in published))}"


def _scaled(run: Run, request: Request) -> Run:
    frames, returns = run.frames * request.xmult, run.returns
    if request.maxval:
        returns = np.clip(returns, -request.maxval, request.maxval)
    return dataclasses.replace(run, frames=frames, returns=returns)


def _bin_size(own: Sequence[Run], suite: str, request: Request) -> float:
    """Frames per bin of a suite: fewer than published curves have where runs are short."""
    if request.bins >= 0:
        return request.bins
    longest = max(run.frames[-1] for run in own if run.suite == suite)
    usual = BINS.get(suite, 1e5) if request.xaxis == "step" else math.inf
    wanted = max(longest / FEWEST_BINS, 1e-9)
    power = 10.0 ** math.floor(math.log10(wanted))
    nice = max(factor * power for factor in (1, 2, 5) if factor * power <= wanted * 1.0000001)
    return min(usual, nice)


def check_labels(labels: Mapping[str, str], known: Sequence[str]) -> None:
    """Raises `UserError` if there is a label for a method that is not known."""
    for method in labels:
        if method not in known:
            raise UserError(aggregate.unknown("method", method, known))
