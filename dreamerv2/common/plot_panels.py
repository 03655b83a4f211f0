"""Panels of learning curves: how the seeds of a method become a curve, and how curves are drawn."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from dreamerv2.common import aggregate, plot_style
from dreamerv2.common.plot_style import Style, numbers
from dreamerv2.common.score_data import Run

# Name -> what the band around the middle shows. Those with a digit are the published names.
AGGREGATIONS = {
    "std": "mean and standard deviation",
    "std1": "mean and standard deviation",
    "median": "median and quartiles",
    "per25": "median and quartiles",
    "per5": "median and 5th to 95th percentile",
    "per0": "median, minimum and maximum",
    "minmax": "mean, minimum and maximum",
    "none": "a line for each seed",
}
# More points than a panel has pixels only make files larger.
MOST_POINTS = 1000


@dataclasses.dataclass(frozen=True, eq=False)
class Curve:
    """What is drawn of one method in one panel.

    Attributes:
      method: Decides the colour.
      label: In the legend.
      frames: (P,) float64, increasing; empty for a level.
      lines: (L, P) float64: the middle, or each seed.
      low: (P,) lower end of the band, equal to the middle where there is none.
      high: (P,) upper end of the band.
      seeds: How many runs are behind it.
      level: Draw a dashed horizontal line at lines[0, 0]; it belongs to no point of the axis.
      own: One's own method, which is drawn thicker.
    """

    method: str
    label: str
    frames: np.ndarray
    lines: np.ndarray
    low: np.ndarray
    high: np.ndarray
    seeds: int
    level: bool = False
    own: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class Panel:
    """Axes of a figure: a task, or an aggregate over tasks (which is shaded)."""

    name: str
    title: str
    curves: Sequence[Curve]
    xlabel: str = "Frames"
    ylabel: str = "Return"
    shaded: bool = False
    xmax: float | None = None


def summarize(rows: np.ndarray, how: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lines and band of the scores of several seeds.

    Args:
      rows: (S, P) float64; NaN where a seed has no score yet, but in no column all of them.
      how: A key of `AGGREGATIONS`.

    Returns:
      Lines (1, P), or (S, P) for `none`; lower and upper end of the band, (P,) each.
    """
    mean = np.nanmean(rows, 0)
    if how == "none":
        return rows, mean, mean
    if how in ("std", "std1"):
        spread = np.nanstd(rows, 0)
        return mean[None], mean - spread, mean + spread
    if how == "minmax":
        return mean[None], np.nanmin(rows, 0), np.nanmax(rows, 0)
    tail = {"per0": 0, "per5": 5}.get(how, 25)
    low, middle, high = np.nanpercentile(rows, [tail, 50, 100 - tail], axis=0)
    return middle[None], low, high


def task_curve(runs: Sequence[Run], how: str, label: str, own: bool = False) -> Curve:
    """The curve of the runs of one method on one task.

    A run that ended before the others keeps its last value, as in the paper.
    """
    frames = thin(np.unique(np.concatenate([run.frames for run in runs])))
    [scores] = aggregate.collect(runs, frames).values()
    [rows] = scores.values()
    return make_curve(runs[0].method, label, frames, rows, how, own)


def make_curve(
    method: str, label: str, frames: np.ndarray, rows: np.ndarray, how: str, own: bool = False
) -> Curve:
    """A curve of the scores (S, P) of several seeds at `frames` (P,)."""
    known = ~np.isnan(rows).all(0)
    lines, low, high = summarize(rows[:, known], how)
    return Curve(method, label, frames[known], lines, low, high, len(rows), own=own)


def level(method: str, label: str, score: float, seeds: int = 1) -> Curve:
    """A score that belongs to no point of the axis."""
    value = np.array([score], np.float64)
    return Curve(method, label, np.empty(0), value[None], value, value, seeds, level=True)


def aggregate_curve(
    scores: Mapping[str, np.ndarray],
    references: aggregate.References,
    name: str,
    *,
    method: str,
    label: str,
    frames: np.ndarray,
    how: str = "std",
    protocol: str = "paper",
    own: bool = False,
) -> Curve:
    """The curve of an aggregate over tasks, with the spread over seeds.

    Args:
      scores: Task -> (S, P) raw scores of one method.
      references: Task -> name -> score.
      name: A key of `aggregate.AGGREGATES`.
      method: Decides the colour.
      label: In the legend.
      frames: (P,).
      how: A key of `AGGREGATIONS`. The spread is that of the aggregates of the first seeds of all
        tasks, of the second ones, and so on.
      protocol: With `paper`, means are of the aggregate of the means over seeds, as in table 1.
      own: One's own method.
    """
    count = min(len(rows) for rows in scores.values())
    seeds = np.stack(
        [
            aggregate.aggregate(
                {t: rows[k : k + 1] for t, rows in scores.items()}, references, name
            )
            for k in range(count)
        ]
    )
    curve = make_curve(method, label, frames, seeds, how, own)
    if protocol == "paper" and how in ("std", "std1"):
        middle = aggregate.aggregate(scores, references, name)
        spread = (curve.high - curve.low) / 2
        middle = middle[np.isin(frames, curve.frames)]
        curve = dataclasses.replace(
            curve, lines=middle[None], low=middle - spread, high=middle + spread
        )
    return curve


def thin(frames: np.ndarray) -> np.ndarray:
    """At most `MOST_POINTS` of the frames, with the first and the last."""
    if len(frames) <= MOST_POINTS:
        return frames
    return frames[np.linspace(0, len(frames) - 1, MOST_POINTS).round().astype(int)]


def draw(panels: Sequence[Panel], style: Style) -> Any:
    """Draws panels in rows with one legend, and returns the matplotlib figure."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(plot_style.RC):
        rows = math.ceil(len(panels) / style.cols)
        cols = math.ceil(len(panels) / rows)  # No row is much shorter than the others.
        handles = _handles(panels, style)
        labels = [handle.get_label() for handle in handles]
        width = cols * style.size[0] + 0.1
        legend = plot_style.legend_rows(labels, width, style.legendcols)
        below = 0.17 * legend + 0.28
        height = rows * style.size[1] + below
        figure = Figure(figsize=(width, height))
        left, right, top, bottom = 0.58, 0.1, 0.26, 0.22
        inner = max(style.size[0] - left - right, 0.3), max(style.size[1] - top - bottom, 0.3)
        for index, panel in enumerate(panels):
            row, col = divmod(index, cols)
            x = col * style.size[0] + left
            y = height - (row + 1) * style.size[1] + bottom
            box = (x / width, y / height, inner[0] / width, inner[1] / height)
            axes = figure.add_axes(box)
            _draw_panel(axes, panel, style)
            plot_style.set_ticks(axes, panel_style(panel, style), *inner)
            if index + cols >= len(panels):
                axes.set_xlabel(style.xlabel or panel.xlabel, labelpad=1)
            if col == 0 or panels[index - 1].ylabel != panel.ylabel:
                text = (not panel.shaded and style.ylabel) or panel.ylabel
                axes.set_ylabel(text, labelpad=2)
        plot_style.add_legend(figure, handles, legend)
    return figure


def panel_style(panel: Panel, style: Style) -> Style:
    """The style of one panel: limits given for tasks are not those of aggregates."""
    return dataclasses.replace(style, ylim=None) if panel.shaded else style


def _draw_panel(axes: Any, panel: Panel, style: Style) -> None:
    axes.set_title(panel.title, pad=4)
    if panel.shaded:
        axes.set_facecolor("#F3F3F3")
        axes.grid(color="#FFFFFF")
    for order, curve in enumerate(panel.curves):
        color, zorder = style.colors[curve.method], 50 - order
        if curve.level:
            dashes = plot_style.dashes(curve.method)
            axes.axhline(curve.lines[0, 0], color=color, ls=dashes, lw=1.2, zorder=zorder)
            continue
        thick = 1.8 if curve.own else 1.2
        # A single point makes no line.
        dots = {"marker": "o", "ms": 3.5} if len(curve.frames) == 1 else {}
        for line in curve.lines:
            thin_line = thick if len(curve.lines) == 1 else 0.6 * thick
            axes.plot(curve.frames, line, color=color, lw=thin_line, zorder=zorder, **dots)
        if (curve.high > curve.low).any():
            shade = {"color": color, "alpha": 0.15, "lw": 0, "zorder": 2}
            axes.fill_between(curve.frames, curve.low, curve.high, **shade)
    drawn = [curve.frames for curve in panel.curves if len(curve.frames)]
    left = min([0.0, *(frames[0] for frames in drawn)])
    right = max([panel.xmax or left, *(frames[-1] for frames in drawn)])
    axes.set_xlim(*(style.xlim or (left, left + 1.03 * ((right - left) or 1))))
    if not panel.shaded and style.ylim:
        axes.set_ylim(*style.ylim)


def _handles(panels: Sequence[Panel], style: Style) -> list[Any]:
    """A line for each label of all panels, in the order in which methods are first drawn."""
    from matplotlib.lines import Line2D

    shown: dict[str, Curve] = {}
    for panel in panels:
        for curve in panel.curves:
            shown.setdefault(curve.label, curve)
    curves = sorted(shown.values(), key=lambda curve: curve.level)
    return [
        Line2D(
            [],
            [],
            color=style.colors[curve.method],
            label=curve.label,
            lw=1.2 if curve.level else 2,
            ls=plot_style.dashes(curve.method) if curve.level else "-",
        )
        for curve in curves
    ]


def describe(panels: Iterable[Panel], how: str) -> list[dict[str, Any]]:
    """The numbers behind panels, for JSON."""
    return [
        {
            "panel": panel.name,
            "method": curve.method,
            "label": curve.label,
            "seeds": curve.seeds,
            "aggregation": "none" if curve.level else how,
            "frames": numbers(curve.frames),
            "lines": [numbers(line) for line in curve.lines],
            "low": numbers(curve.low),
            "high": numbers(curve.high),
        }
        for panel in panels
        for curve in panel.curves
    ]


def title(task: str) -> str:
    """What a task is called above its panel: `Ms Pacman` for atari_ms_pacman."""
    suite, _, rest = task.partition("_")
    return (rest or suite).replace("_", " ").title()
