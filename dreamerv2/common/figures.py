"""The figures of the paper, made of the shipped data alone."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from dreamerv2.common import aggregate, plot_bars, plot_panels, plot_style
from dreamerv2.common.errors import UserError
from dreamerv2.common.plot_panels import Panel
from dreamerv2.common.plot_style import Style
from dreamerv2.common.score_data import Data

# The bins that all published curves of Atari have, in frames.
GRID = np.arange(1e6, 200e6, 1e6)
MODEL_FREE = ("iqn", "rainbow", "c51", "dqn")
ATARI = ("gamer_median", "gamer_mean", "record_mean", "clipped_record_mean")
CONTROL = ("range_median", "range_mean")
UNITS = {"gamer": "Gamer = 1", "record": "Record = 1", "range": "Maximum = 1"}


@dataclasses.dataclass(frozen=True)
class Choice:
    """What a user can choose about a figure of the paper.

    Attributes:
      tasks: Regular expressions, one of which a task must contain.
      methods: Regular expressions, one of which a method must contain.
      baselines: Methods beside DreamerV2, instead of those that the paper shows.
      how: What the bands are, a key of `plot_panels.AGGREGATIONS`.
      protocol: For aggregates, see `plot_panels.aggregate_curve`.
    """

    tasks: Sequence[str] = (".*",)
    methods: Sequence[str] = (".*",)
    baselines: Sequence[str] | None = None
    how: str = "std"
    protocol: str = "paper"

    def pick_tasks(self, tasks: Sequence[str]) -> list[str]:
        """Those of the tasks that were asked for; raises `UserError` if there is none."""
        return matching("task", self.tasks, tasks)

    def pick_methods(self, data: Data, own: Sequence[str], others: Sequence[str]) -> list[str]:
        """Those methods that were asked for; raises `UserError` if there is none."""
        baselines = others if self.baselines is None else self.baselines
        for name in baselines:
            if name not in data.methods:
                raise UserError(aggregate.unknown("baseline", name, data.methods))
        return matching("method", self.methods, list(dict.fromkeys([*own, *baselines])))


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A figure, and the numbers behind it for JSON."""

    figure: Any
    numbers: list[dict[str, Any]]


def matching(what: str, patterns: Sequence[str], names: Sequence[str]) -> list[str]:
    """The names that contain one of the regular expressions, in the order of the expressions.

    Raises:
      UserError: An expression is broken or fits no name; the message has the nearest names.
    """
    result: dict[str, None] = {}
    for pattern in patterns:
        try:
            found = [name for name in names if re.search(pattern, name)]
        except re.error as error:
            raise UserError(f"{pattern!r} is no regular expression: {error}") from error
        if not found:
            raise UserError(aggregate.unknown(what, pattern, names))
        result |= dict.fromkeys(found)
    return list(result)


def figure1(data: Data, style: Style, choice: Choice) -> Drawn:
    """Figure 1: the gamer median of each method at 200M frames."""
    methods = choice.pick_methods(data, ["dreamerv2"], [*MODEL_FREE, "simple"])
    labels, values, hatched, numbers = [], [], [], []
    for method in methods:
        tasks = choice.pick_tasks(data.task_sets["atari55"])
        runs = data.select(tasks, [method])
        if not runs:
            raise UserError(f"{method} has no published score in these games; choose others")
        final = any(run.final for run in runs)
        scores = aggregate.collect(runs, np.inf if final else GRID[-1])[method]
        [value] = aggregate.aggregate(scores, data.references, "gamer_median", choice.protocol)
        label = data.label(method)
        if len(scores) < len(tasks):
            label += f"\n{len(scores)} games"
        if final:
            label += f",\n{plot_style.compact(runs[0].frames[0])} frames"
        labels.append(label)
        values.append(float(value))
        hatched.append(final)
        numbers.append({"method": method, "gamer_median": float(value), "games": len(scores)})
    colors = [style.colors[method] for method in methods]
    ylabel = style.ylabel or "Gamer-normalised median score"
    figure = plot_bars.scores(labels, values, colors, hatched, ylabel=ylabel, line="Human gamer")
    return Drawn(figure, numbers)


def figure4(data: Data, style: Style, choice: Choice) -> Drawn:
    """Figure 4: four aggregates over 200M frames."""
    methods = choice.pick_methods(data, ["dreamerv2"], MODEL_FREE)
    panels = _aggregates(data, ATARI, choice.pick_tasks(data.task_sets["atari55"]), methods, choice)
    style = dataclasses.replace(style, cols=min(style.cols, 4))
    return _panels(panels, style, choice)


def figure_e1(data: Data, style: Style, choice: Choice) -> Drawn:
    """Figure E.1: the difference in gamer-normalised score to each baseline in each game."""
    tasks = choice.pick_tasks(data.task_sets["atari55"])
    methods = choice.pick_methods(data, ["dreamerv2"], MODEL_FREE)
    if len(methods) < 2 or "dreamerv2" not in methods:
        raise UserError("figure e1 compares dreamerv2 with baselines; choose some of both")
    runs = [run for run in data.select(tasks, methods) if not run.final]
    means = {
        method: {
            task: float(rows.mean())
            for task, rows in aggregate.normalize(scores, data.references, "gamer").items()
        }
        for method, scores in aggregate.collect(runs, GRID[-1]).items()
    }
    panels, numbers = {}, []
    for method in methods:
        if method == "dreamerv2":
            continue
        if method not in means:
            raise UserError(f"{method} has no published curve in these games; choose another one")
        values = {task: means["dreamerv2"][task] - means[method][task] for task in means[method]}
        panels[f"{data.label('dreamerv2')} minus {data.label(method)}"] = values
        numbers.append({"baseline": method, "differences": values})
    xlabel = style.xlabel or "Gamer-normalised difference"
    return Drawn(plot_bars.differences(panels, xlabel=xlabel), numbers)


def figure_f1(data: Data, style: Style, choice: Choice) -> Drawn:
    """Figure F.1: a panel for each of the 55 games, and the aggregates."""
    methods = choice.pick_methods(data, ["dreamerv2"], MODEL_FREE)
    tasks = choice.pick_tasks(data.task_sets["atari55"])
    panels = _tasks(data, tasks, methods, choice)
    if len(tasks) > 1:
        panels += _aggregates(data, ATARI, tasks, methods, choice)
    return _panels(panels, style, choice)


def figure_a2(data: Data, style: Style, choice: Choice) -> Drawn:
    """Figure A.2: humanoid walk from pixels."""
    methods = choice.pick_methods(data, ["dreamerv2"], [])
    tasks = choice.pick_tasks(["dmc_humanoid_walk"])
    return _panels(_tasks(data, tasks, methods, choice), enlarge(style), choice)


def figure_b2(data: Data, style: Style, choice: Choice) -> Drawn:
    """Figure B.2: Montezuma's Revenge with a discount of 0.99."""
    own = ["dreamerv2_discount99", "dreamerv2"]
    methods = choice.pick_methods(data, own, ["iqn", "rainbow"])
    tasks = choice.pick_tasks(["atari_montezuma_revenge"])
    return _panels(_tasks(data, tasks, methods, choice), enlarge(style), choice)


def control(data: Data, style: Style, choice: Choice) -> Drawn:
    """The control tasks from pixels: 20 tasks and their two aggregates."""
    methods = choice.pick_methods(data, ["dreamerv2"], [])
    tasks = choice.pick_tasks(data.task_sets["dmc"])
    panels = _tasks(data, tasks, methods, choice)
    if len(tasks) > 1:
        panels += _aggregates(data, CONTROL, tasks, methods, choice)
    if style.ylim is None:  # All control tasks have the same bounds.
        style = dataclasses.replace(style, ylim=(0, 1030), ylimticks=False)
    return _panels(panels, style, choice)


FIGURES: Mapping[str, Callable[[Data, Style, Choice], Drawn]] = {
    "figure1": figure1,
    "figure4": figure4,
    "a2": figure_a2,
    "b2": figure_b2,
    "e1": figure_e1,
    "f1": figure_f1,
    "control": control,
}


def find(name: str) -> list[str]:
    """The keys of `FIGURES` that a user means by `all`, `f1`, `F.1`, `figure4` or `4`.

    Raises:
      UserError: There is no such figure.
    """
    plain = re.sub(r"^(figure|fig)", "", re.sub(r"[^a-z0-9]", "", name.lower()))
    if plain == "all":
        return list(FIGURES)
    for key in FIGURES:
        if plain == key.removeprefix("figure"):
            return [key]
    raise UserError(aggregate.unknown("figure", name, [*FIGURES, "all"]))


def _tasks(data: Data, tasks: Sequence[str], methods: Sequence[str], choice: Choice) -> list[Panel]:
    """A panel for each task; methods without a curve of it are left out of that panel."""
    panels = []
    for task in tasks:
        curves = []
        for method in methods:
            runs = data.select([task], [method])
            if runs and runs[0].final:
                score = float(np.mean([run.returns[-1] for run in runs]))
                label = f"{data.label(method)} (final score)"
                curves.append(plot_panels.level(method, label, score, len(runs)))
            elif runs:
                curves.append(plot_panels.task_curve(runs, choice.how, data.label(method)))
        if curves:
            panels.append(Panel(task, plot_panels.title(task), curves))
    if not panels:
        raise UserError("the methods asked for have no published score in these tasks")
    return panels


def _aggregates(data: Data, names: Sequence[str], tasks: Sequence[str], methods: Sequence[str],
                choice: Choice) -> list[Panel]:  # fmt: skip
    """A shaded panel for each aggregate, of the methods that have curves of all tasks."""
    runs = [run for run in data.select(tasks, methods) if not run.final]
    grid = GRID
    if not all(task.startswith("atari_") for task in tasks):
        grid = plot_panels.thin(np.unique(np.concatenate([run.frames for run in runs])))
    scores = aggregate.collect(runs, grid)
    complete = [method for method in methods if len(scores.get(method, {})) == len(tasks)]
    if not complete:
        raise UserError("none of the methods asked for has a published curve of all these tasks")
    panels = []
    for name in names:
        how = aggregate.AGGREGATES[name]
        curves = [
            plot_panels.aggregate_curve(
                scores[method],
                data.references,
                name,
                method=method,
                label=data.label(method),
                frames=grid,
                how=choice.how,
                protocol=choice.protocol,
            )
            for method in complete
        ]
        panels.append(Panel(name, how.label, curves, ylabel=UNITS[how.kind], shaded=True))
    return panels


def _panels(panels: list[Panel], style: Style, choice: Choice) -> Drawn:
    return Drawn(plot_panels.draw(panels, style), plot_panels.describe(panels, choice.how))


def enlarge(style: Style) -> Style:
    """The style for figures of a single panel, unless the user has chosen a size."""
    return dataclasses.replace(style, size=(4.2, 2.8)) if style.size == Style.size else style
