"""Figures of bars: scores at the end of training, and the difference to each baseline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dreamerv2.common import plot_style
from dreamerv2.common.plot_panels import title

BETTER, WORSE = "#0072B2", "#D55E00"


def scores(
    labels: Sequence[str],
    values: Sequence[float],
    colors: Sequence[str],
    hatched: Sequence[bool],
    *,
    ylabel: str,
    line: str,
) -> Any:
    """One bar for each method with its value above it, and a dashed line at 1.

    Args:
      labels: Below the bars; may have line breaks.
      values: Heights.
      colors: Of the bars.
      hatched: Which bars are not quite comparable.
      ylabel: With the unit.
      line: What a score of 1 means.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(plot_style.RC):
        width = 0.72 * len(labels) + 0.8
        figure = Figure(figsize=(width, 2.9))
        axes = figure.add_axes((0.52 / width, 0.2, 1 - 0.62 / width, 0.74))
        bars = axes.bar(range(len(labels)), values, width=0.72, color=colors)
        for bar, value, light in zip(bars, values, hatched, strict=True):
            if light:
                bar.set(hatch="////", edgecolor="white", lw=0)
            place = (bar.get_x() + bar.get_width() / 2, value)
            axes.annotate(f"{value:.2f}", place, (0, 2), textcoords="offset points", ha="center")
        axes.axhline(1, color="#333333", lw=1, ls=(0, (4, 2)), zorder=0.9)
        axes.annotate(line, (1, 1), (0, 2), xycoords=("axes fraction", "data"),
                      textcoords="offset points", ha="right", color="#333333")  # fmt: skip
        axes.set_xticks(range(len(labels)), labels)
        axes.tick_params(axis="x", length=0, labelsize=8)
        axes.grid(False, axis="x")
        axes.set_ylabel(ylabel)
        axes.set_ylim(0, 1.1 * max(*values, 1.0))
    return figure


def differences(panels: Mapping[str, Mapping[str, float]], *, xlabel: str) -> Any:
    """For each baseline a bar per task, from the largest gain to the largest loss.

    Args:
      panels: Title of the panel -> task -> difference in normalised score.
      xlabel: Says what the difference is of. The axis is linear up to 1 and logarithmic beyond:
        differences range from hundredths to hundreds.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    with matplotlib.rc_context(plot_style.RC):
        count = max(len(values) for values in panels.values())
        size = (2.65, 0.135 * count + 1.15)
        figure = Figure(figsize=(size[0] * len(panels), size[1]))
        every = [value for values in panels.values() for value in values.values()]
        ends = _decades(min(every)), _decades(max(every))
        for index, (name, values) in enumerate(panels.items()):
            tasks = sorted(values, key=lambda task: (values[task], task))
            height = 1 - 0.95 / size[1]
            left = (index + 0.41) / len(panels)
            axes = figure.add_axes((left, 0.48 / size[1], 0.56 / len(panels), height))
            heights = [values[task] for task in tasks]
            colors = [BETTER if value > 0 else WORSE for value in heights]
            axes.barh(range(len(tasks)), heights, height=0.72, color=colors)
            axes.set_yticks(range(len(tasks)), [title(task) for task in tasks])
            axes.tick_params(axis="y", length=0, labelsize=6.5)
            axes.grid(False, axis="y")
            axes.set_ylim(-0.7, len(tasks) - 0.3)
            axes.set_xscale("symlog", linthresh=1, linscale=1)
            axes.set_xlim(-(10.0 ** ends[0]), 10.0 ** ends[1])
            # Every other power of ten: there is no room for more labels.
            ticks = [-(10.0**k) for k in range(0, ends[0] + 1, 2)] + [0.0]
            ticks += [10.0**k for k in range(0, ends[1] + 1, 2)]
            axes.xaxis.set_major_locator(FixedLocator(ticks))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: plot_style.compact(x)))
            axes.axvline(0, color="#333333", lw=0.6)
            won = int(np.sum(np.array(heights) > 0))
            axes.set_title(f"{name}\nhigher in {won} of {len(tasks)}", pad=4)
            axes.set_xlabel(xlabel)
    return figure


def _decades(value: float) -> int:
    """The exponent of the power of ten at or beyond a value, at least 0."""
    return max(0, math.ceil(math.log10(max(abs(value), 1.0))))
