"""Pictures of open-loop predictions: strips for papers, error curves, values over time."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dreamerv2.common import plot_style
from dreamerv2.common.video import upscale
from dreamerv2.dream_errors import NAMES, Curve

CONTEXT_COLOR = "#767676"
MODEL_COLOR = plot_style.COLORS["dreamerv2"]
TRUTH_COLOR = "#222222"
ROWS = ("truth", "model", "error")
STYLES: dict[str, dict[str, Any]] = {
    "mean": {"color": "#888888", "ls": (0, (1, 1.2)), "lw": 1.3},
    "last": {"color": plot_style.COLORS["c51"], "ls": (0, (4, 1.8)), "lw": 1.2},
    "reconstruction": {"color": plot_style.COLORS["rainbow"], "ls": "-", "lw": 1.2},
    "model": {"color": MODEL_COLOR, "ls": "-", "lw": 1.8},
}
# Bands of trivial predictions would hide those of the model.
BANDS = ("model", "reconstruction")
BAND = 0.18

# Of the strip: most columns, which at 0.5 inches each fill the width of a page, and inches.
COLUMNS = 12
TILE = 0.5
GAP, CONTEXT_GAP, EXAMPLE_GAP = 0.02, 0.09, 0.07
LEFT, HEADER, MARGIN = 0.46, 0.36, 0.03
# Pixels that a tile is enlarged to, at least nearly; whole multiples only, without smoothing.
TILE_PIXELS = 128

# Of values over time.
MOST_DIMENSIONS = 8


@dataclasses.dataclass(frozen=True)
class Panel:
    """The error curves of one key."""

    title: str
    ylabel: str
    curves: Mapping[str, Curve]


def choose_columns(context: int, length: int, most: int = COLUMNS) -> list[int]:
    """Return the steps that a strip shows, ascending.

    That is the first and the last step of the context, the first imagined one, then every 1st,
    2nd, 5th, 10th, ... step, and the last one.
    """
    seen = sorted({0, context - 1})
    room = max(most - len(seen), 2)
    scale = 1
    while True:
        for step in (scale, 2 * scale, 5 * scale):
            first = -(-(context + 1) // step) * step
            steps = sorted({context, *range(first, length, step), length - 1})
            if len(steps) <= room or step >= length:
                return [*seen, *steps]
        scale *= 10


def show_error(truth: np.ndarray, model: np.ndarray) -> np.ndarray:
    """Return ``model - truth`` as uint8 pixels, grey where they agree, darker where too dark."""
    return np.round((model.astype(np.float32) - truth + 255) / 2).astype(np.uint8)


def visible(frames: np.ndarray) -> np.ndarray:
    """Return 1 or 3 channels as they are, of other numbers the last: the newest of a stack."""
    return frames if frames.shape[-1] in (1, 3) else frames[..., -1:]


def strip(truth: np.ndarray, model: np.ndarray, context: int) -> tuple[Any, int]:
    """Draw some sequences as truth above model above error, time going from left to right.

    The figure is at most 6.75 inches wide. Pixels are enlarged by a whole number and land on
    whole pixels of the file, so nothing is smoothed.

    Args:
        truth: ``(N, T, H, W, C)`` uint8.
        model: The same; steps of the context are reconstructions.
        context: Steps before the prediction starts.

    Returns:
        A matplotlib figure, and the pixels per inch it must be saved with.
    """
    import matplotlib
    from matplotlib.figure import Figure

    truth, model = visible(truth), visible(model)
    columns = choose_columns(context, truth.shape[1])
    width = truth.shape[3]
    factor = max(1, round(TILE_PIXELS / width))
    dpi = round(factor * width / TILE)

    def pixels(inches: float) -> int:
        return max(1, round(inches * dpi))

    tile_h, tile_w = truth.shape[2] * factor, width * factor
    left, top = pixels(LEFT), pixels(HEADER)
    xs = [left + i * (tile_w + pixels(GAP)) for i in range(len(columns))]
    split = sum(t < context for t in columns)
    xs = [x + pixels(CONTEXT_GAP) * (i >= split) for i, x in enumerate(xs)]
    step_y = tile_h + pixels(GAP)
    ys = [
        top + (3 * n + r) * step_y + n * pixels(EXAMPLE_GAP)
        for n in range(len(truth))
        for r in range(3)
    ]
    size = xs[-1] + tile_w + pixels(MARGIN), ys[-1] + tile_h + pixels(MARGIN)
    canvas = np.full((size[1], size[0], 3), 255, np.uint8)
    for n in range(len(truth)):
        shown = truth[n, columns], model[n, columns]
        for r, row in enumerate([*shown, show_error(*shown)]):
            for x, tile in zip(xs, upscale(row, factor), strict=True):
                y = ys[3 * n + r]
                canvas[y : y + tile_h, x : x + tile_w] = tile

    with matplotlib.rc_context(plot_style.RC):
        figure = Figure(figsize=(size[0] / dpi, size[1] / dpi), dpi=dpi)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.imshow(canvas, interpolation="none", aspect="auto", extent=(0, size[0], size[1], 0))
        axes.axis("off")
        for i, (t, x) in enumerate(zip(columns, xs, strict=True)):
            label = f"t = {t}" if i == 0 else str(t)
            axes.text(x + tile_w / 2, top - pixels(0.04), label, ha="center", va="bottom", size=7)
        spans = [("context", xs[0], xs[split - 1], CONTEXT_COLOR)]
        spans.append(("imagined", xs[split], xs[-1], MODEL_COLOR))
        for text, start, stop, color in spans:
            y = top - pixels(0.17)
            axes.plot([start, stop + tile_w], [y, y], color=color, lw=1.2, solid_capstyle="butt")
            middle = (start + stop + tile_w) / 2
            axes.text(middle, y - pixels(0.03), text, ha="center", va="bottom", size=7, color=color)
        for i, y in enumerate(ys):
            where = left - pixels(0.06), y + tile_h / 2
            axes.text(*where, ROWS[i % 3], ha="right", va="center", size=7)
        axes.set_xlim(0, size[0])
        axes.set_ylim(size[1], 0)
    return figure, dpi


def video(truth: np.ndarray, model: np.ndarray) -> np.ndarray:
    """Lay out sequences side by side, each as truth above model above error.

    Args:
        truth: ``(N, T, H, W, C)`` uint8.
        model: The same.

    Returns:
        ``(T, 3 H + gaps, N W + gaps, C)`` uint8 with 1 or 3 channels.
    """
    truth, model = visible(truth), visible(model)
    rows = np.stack([truth, model, show_error(truth, model)], 1)  # N, row, T, H, W, C
    rows = np.pad(rows, [(0, 0), (0, 0), (0, 0), (0, 1), (0, 2), (0, 0)])
    number, count, length, height, width, channels = rows.shape
    frames = rows.transpose(2, 1, 3, 0, 4, 5)  # T, row, H, N, W, C
    return frames.reshape(length, count * height, number * width, channels)[:, :-1, :-2]


def errors(panels: Sequence[Panel], context: int) -> Any:
    """Draw how errors grow with the number of imagined steps, one panel a key, with bands."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    style = plot_style.Style()
    shown = [name for name in NAMES if any(name in panel.curves for panel in panels)]
    with matplotlib.rc_context(plot_style.RC):
        handles: list[Any] = [Line2D([], [], label=NAMES[name], **STYLES[name]) for name in shown]
        handles.append(Patch(color=MODEL_COLOR, alpha=BAND, lw=0, label="95% confidence"))
        cols = min(len(panels), 3)
        lines = math.ceil(len(panels) / cols)
        inner, left, right = (1.7, 1.5), 0.5, 0.08
        top, bottom = 0.26, 0.3
        panel_w, panel_h = left + inner[0] + right, top + inner[1] + bottom
        width = max(cols * panel_w, 3.4)
        legend = plot_style.legend_rows([handle.get_label() for handle in handles], width, 5)
        below = 0.17 * legend + 0.1
        height = lines * panel_h + below
        figure = Figure(figsize=(width, height))
        for index, panel in enumerate(panels):
            row, col = divmod(index, cols)
            x, y = col * panel_w + left, height - (row + 1) * panel_h + bottom
            axes = figure.add_axes((x / width, y / height, inner[0] / width, inner[1] / height))
            _draw_errors(axes, panel, context)
            plot_style.set_ticks(axes, style, *inner)
            axes.set_xlabel("steps since the last observation", labelpad=1)
        plot_style.add_legend(figure, handles, legend)
    return figure


def _draw_errors(axes: Any, panel: Panel, context: int) -> None:
    axes.set_title(panel.title, pad=4)
    axes.set_ylabel(panel.ylabel, labelpad=2)
    highest = 0.0
    for order, name in enumerate(STYLES):
        if name not in panel.curves:
            continue
        curve = panel.curves[name]
        mean, low, high = (array[context - 1 :] for array in (curve.mean, curve.low, curve.high))
        steps = np.arange(len(mean))
        style = STYLES[name]
        if name == "last":
            steps, mean, low, high = steps[1:], mean[1:], low[1:], high[1:]
        axes.plot(steps, mean, zorder=10 + order, **style)
        highest = max(highest, float(mean.max()))
        if name in BANDS:
            axes.fill_between(steps, low, high, color=style["color"], alpha=BAND, lw=0, zorder=2)
            highest = max(highest, float(high.max()))
    axes.set_xlim(0, max(len(panel.curves["model"].mean) - context, 1))
    axes.set_ylim(0, 1.05 * highest or 1.0)


def timeline(
    name: str, truth: np.ndarray, model: np.ndarray, context: int, scale: np.ndarray
) -> Any:
    """Draw truth and prediction of values over time: a row a dimension, a column a sequence.

    Args:
        name: What is shown.
        truth: ``(N, T, n)``.
        model: The same; steps of the context are reconstructions.
        context: Steps before the prediction starts.
        scale: ``(n,)``; of many dimensions those are shown that vary most relative to it.

    Returns:
        A matplotlib figure.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    number, length, count = truth.shape
    spread = np.ptp(truth.reshape(-1, count), axis=0) / scale
    rows = np.sort(np.argsort(-spread, kind="stable")[:MOST_DIMENSIONS])
    left, right, top, bottom, gap = 0.62, 0.12, 0.16, 0.48, 0.1
    width, inner_h = 6.75, 1.2 if len(rows) == 1 else 0.62
    between = 0.2  # So that the numbers beneath two plots do not touch.
    inner_w = (width - left - right - (number - 1) * between) / number
    height = top + len(rows) * (inner_h + gap) + bottom
    style = plot_style.Style(yticks=3)
    with matplotlib.rc_context(plot_style.RC):
        figure = Figure(figsize=(width, height))
        for i, dim in enumerate(rows):
            values = np.concatenate([truth[..., dim], model[..., dim]])
            low, high = float(values.min()), float(values.max())
            room = 0.08 * (high - low) or 0.5
            for n in range(number):
                x, y = (
                    left + n * (inner_w + between),
                    height - top - (i + 1) * (inner_h + gap) + gap,
                )
                axes = figure.add_axes((x / width, y / height, inner_w / width, inner_h / height))
                axes.axvspan(0, context - 1, color="#EFEFEF", lw=0)
                axes.plot(truth[n, :, dim], color=TRUTH_COLOR, lw=1.4)
                axes.plot(model[n, :, dim], color=MODEL_COLOR, lw=1.2, ls=(0, (4, 1.2)))
                axes.set_xlim(0, length - 1)
                axes.set_ylim(low - room, high + room)
                plot_style.set_ticks(axes, style, inner_w, inner_h)
                axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
                if n:
                    axes.tick_params(labelleft=False)
                else:
                    axes.set_ylabel(name if count == 1 else f"{name}[{dim}]", labelpad=2)
                if i < len(rows) - 1:
                    axes.tick_params(labelbottom=False)
                else:
                    axes.set_xlabel("step t", labelpad=1)
                if i == 0:
                    where: dict[str, Any] = {
                        "xycoords": "axes fraction",
                        "textcoords": "offset points",
                    }
                    axes.annotate("context", (0, 1), (0, 2), **where, size=6.5,
                                  color=CONTEXT_COLOR)  # fmt: skip
        handles = [
            Line2D([], [], color=TRUTH_COLOR, lw=1.4, label="truth"),
            Line2D([], [], color=MODEL_COLOR, lw=1.2, ls=(0, (4, 1.2)), label="model"),
        ]
        plot_style.add_legend(figure, handles, 1)
    return figure
