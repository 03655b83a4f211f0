"""How figures look: colours, numbers on axes, margins, legend, and the files they are saved to.

Figures are made through matplotlib's objects, not through `pyplot`: there is no global state, and
no display is needed.
"""

from __future__ import annotations

import dataclasses
import math
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from dreamerv2.common.aggregate import natural, unknown
from dreamerv2.common.errors import UserError

# Every published method has its colour in every figure. The hues are those of Okabe and Ito (2008),
# which people with any colour vision tell apart.
COLORS = {
    "dreamerv2": "#0072B2",
    "dreamerv2_schedules": "#56B4E9",
    "dreamerv2_nosched": "#8DA0CB",
    "dreamerv2_discount99": "#882255",
    "iqn": "#D55E00",
    "rainbow": "#009E73",
    "c51": "#E69F00",
    "dqn": "#CC79A7",
    "simple": "#767676",
    "random": "#888888",
    "gamer": "#222222",
    "record": "#B8860B",
}
OTHERS = ("#767676", "#A6A6A6", "#5F5F5F", "#C4A484", "#8F8F8F", "#6B5B4B")

# What one's own methods get, in this order; none is a colour of a published method.
PALETTES = {
    "contrast": ("#000000", "#AA3377", "#999933", "#44AA99", "#661100", "#6644CC", "#DDAA33"),
    "discrete": ("#332288", "#CC6677", "#117733", "#DDCC77", "#88CCEE", "#882255", "#44AA99"),
    "gradient": ("#440154", "#46327E", "#365C8D", "#277F8E", "#1FA187", "#4AC16D", "#A0DA39"),
}

FORMATS = ("png", "pdf", "svg")

RC: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # Comes with matplotlib, so figures look alike everywhere.
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.5,
    "xtick.major.size": 2,
    "ytick.major.size": 2,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "dreamerv2",  # The same figure gives the same file.
    "path.simplify_threshold": 0.3,
}


@dataclasses.dataclass(frozen=True)
class Style:
    """What a user can choose about a figure of panels; sizes are inches.

    Attributes:
      cols: Most panels in a row.
      legendcols: Most entries in a row of the legend; fewer where they would not fit.
      size: Width and height of a panel with its labels.
      dpi: Pixels per inch of the PNG.
      xlim: Left and right end of all x-axes.
      ylim: Lower and upper end of the y-axes of tasks.
      ylimticks: Put ticks on both ends of `ylim`.
      xlabel: Replaces the label of the x-axes.
      ylabel: Replaces the label of the y-axes of tasks.
      xticks: Most ticks on an x-axis.
      yticks: Most ticks on a y-axis.
      colors: Method -> colour.
    """

    cols: int = 6
    legendcols: int = 6
    size: tuple[float, float] = (2.5, 2.0)
    dpi: int = 100
    xlim: tuple[float, float] | None = None
    ylim: tuple[float, float] | None = None
    ylimticks: bool = True
    xlabel: str | None = None
    ylabel: str | None = None
    xticks: int = 5
    yticks: int = 5
    colors: Mapping[str, str] = dataclasses.field(default_factory=dict)


def choose_colors(
    published: Iterable[str],
    own: Iterable[str],
    palette: Sequence[str] = ("contrast",),
    chosen: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Gives every method its colour.

    Args:
      published: All methods of the shipped data, shown or not, so that colours do not change with
        what is shown.
      own: All methods of one's own, shown or not.
      palette: The name of one of `PALETTES`, or colours, for one's own methods.
      chosen: Method -> colour, where the user wants another one.

    Raises:
      UserError: A colour or palette is not known, or a colour is for a method that isn't.
    """
    from matplotlib.colors import is_color_like

    result = dict(COLORS)
    others = [method for method in published if method not in COLORS]
    result |= {method: OTHERS[i % len(OTHERS)] for i, method in enumerate(others)}
    if len(palette) == 1 and palette[0] in PALETTES:
        palette = PALETTES[palette[0]]
    for color in palette:
        if not is_color_like(color):
            raise UserError(unknown("palette", color, PALETTES) + ", or name colours")
    own = sorted(set(own), key=natural)
    result |= {method: palette[i % len(palette)] for i, method in enumerate(own)}
    for method, color in (chosen or {}).items():
        if method not in result:
            raise UserError(unknown("method", method, result))
        if not is_color_like(color):
            raise UserError(f"{color!r} for {method} is no colour; use one such as #0072B2 or red")
        result[method] = color
    return result


def dashes(method: str) -> tuple[int, tuple[float, ...]]:
    """How a level is drawn: dotted for people and random play, dashed for methods."""
    return (0, (1, 1.2)) if method in ("random", "gamer", "record") else (0, (4, 1.8))


def compact(value: float, largest: float | None = None) -> str:
    """A number for an axis: 200M, 2.5k, 0.5.

    Args:
      value: The number.
      largest: The largest one on the axis, which decides the unit: 0.5M beside 1M.
    """
    size = abs(value if largest is None else largest)
    text = f"{value:.4g}" if size > 1 else f"{value:.3g}"
    for unit, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if size >= unit and size != 1e3 and value:
            text = f"{value / unit:.4g}{letter}"
            break
    return ("0" if abs(value) < 1e-12 else text).replace("-", "\N{MINUS SIGN}")


def set_ticks(axes: Any, style: Style, width: float, height: float) -> None:
    """Puts few, round ticks on both axes, so that no two labels overlap.

    Args:
      axes: Axes whose limits are final.
      style: Says how many ticks there are at most.
      width: Of the axes in inches.
      height: Of the axes in inches.
    """
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    room = {"x": int(width / 0.42), "y": int(height / 0.2)}
    most = {"x": style.xticks, "y": style.yticks}
    for name, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
        count = max(1, min(most[name], room[name]))
        axis.set_major_locator(MaxNLocator(count, steps=[1, 2, 2.5, 5, 10]))
        axis.get_offset_text().set_visible(False)
    if style.ylim and style.ylimticks:
        low, high = style.ylim
        near = 0.2 / height * (high - low)
        inner = [y for y in axes.get_yticks() if low + near < y < high - near]
        axes.set_yticks([low, *inner, high])
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        largest = max((abs(t) for t in axis.get_majorticklocs() if low <= t <= high), default=1.0)
        axis.set_major_formatter(
            FuncFormatter(lambda value, _, largest=largest: compact(value, largest))
        )


def legend_rows(labels: Sequence[str], width: float, legendcols: int) -> int:
    """How many entries fit into a row of a legend that is `width` inches wide."""
    longest = max((len(label) for label in labels), default=1)
    fit = max(1, int((width - 0.2) / (0.06 * longest + 0.5)))
    cols = max(1, min(legendcols, fit, len(labels)))
    return math.ceil(len(labels) / cols) if labels else 0


def add_legend(figure: Any, handles: Sequence[Any], rows: int) -> None:
    """Adds the only legend of a figure, centred at its lower edge."""
    figure.legend(
        handles=handles,
        loc="lower center",
        ncols=math.ceil(len(handles) / max(rows, 1)),
        frameon=False,
        handlelength=1.9,
        handletextpad=0.5,
        columnspacing=1.4,
        labelspacing=0.35,
        borderaxespad=0.3,
    )


def save(figure: Any, path: pathlib.Path, formats: Iterable[str], dpi: int) -> list[pathlib.Path]:
    """Saves a figure as `path` with the ending of each format, and returns the files.

    Raises:
      UserError: A file can't be written.
    """
    import matplotlib

    files = []
    for kind in formats:
        file = path.with_name(f"{path.name}.{kind}")
        # Without the date, the same figure gives the same file.
        metadata = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(kind)
        with matplotlib.rc_context(RC), _writing(file):
            figure.savefig(file, format=kind, dpi=dpi, metadata=metadata)
        files.append(file)
    return files


def save_text(text: str, file: pathlib.Path) -> pathlib.Path:
    """Writes a text file and returns its path.

    Raises:
      UserError: It can't be written.
    """
    with _writing(file):
        file.write_text(text, encoding="utf-8")
    return file


def numbers(values: np.ndarray) -> list[float | None]:
    """Values for JSON, which has no NaN: null stands for it."""
    return [float(f"{value:.7g}") if math.isfinite(value) else None for value in values.tolist()]


class _writing:
    """Makes the folder of a file, and turns what goes wrong into a sentence."""

    def __init__(self, file: pathlib.Path) -> None:
        self._file = file

    def __enter__(self) -> None:
        try:
            os.makedirs(self._file.parent, exist_ok=True)
        except OSError as error:
            self.__exit__(None, error, None)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise UserError(
                f"{self._file} can't be written: {error.strerror}; choose another --outdir"
            ) from error
