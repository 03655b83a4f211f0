"""Command line of the figures: those of the paper, and curves of one's own runs.

python common/plot.py all --outdir ~/plots
python common/plot.py f1 --outdir ~/plots --baselines rainbow iqn
python common/plot.py --indir ~/logdir --outdir ~/plots --bins 1e6 --baselines rainbow iqn dreamerv2
"""

from __future__ import annotations

import os
import sys

if not __package__:
    # Run as a script: Python put this folder first, where modules have names of their own meaning.
    _folder = os.path.dirname(os.path.realpath(__file__))
    sys.path[:] = [path for path in sys.path if os.path.realpath(path or ".") != _folder]
    sys.path.insert(0, os.path.dirname(os.path.dirname(_folder)))

import argparse
import dataclasses
import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from dreamerv2.common import figures, plot_combine, plot_flags, plot_panels, plot_runs, plot_style
from dreamerv2.common.aggregate import unknown
from dreamerv2.common.errors import UserError
from dreamerv2.common.plot_style import Style
from dreamerv2.common.score_data import Data, load

__all__ = ["main"]


def main(argv: Sequence[str] | None = None, program: str = "python common/plot.py") -> int:
    """Run the command line and return its exit status: 2 for bad input."""
    try:
        args = plot_flags.parse(argv, program, list(figures.FIGURES))
        _check_names(args)
        files = _runs(args, load()) if args.indir else _paper(args, load())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "matplotlib":
            raise
        print("error: figures need matplotlib: pip install matplotlib", file=sys.stderr)
        return 2
    for file in files:
        print(f"Saved {file}")
    return 0


def _paper(args: argparse.Namespace, data: Data) -> list[pathlib.Path]:
    """Makes figures of the paper and returns their files."""
    names = dict.fromkeys(key for name in args.figures for key in figures.find(name))
    style = _style(args, plot_style.choose_colors(data.methods, [], args.palette, args.colors))
    data = _relabel(data, args.labels)
    choice = figures.Choice(args.tasks, args.methods, args.baselines, args.agg, args.protocol)
    files = []
    for name in names:
        drawn = figures.FIGURES[name](data, style, choice)
        path = args.outdir / name
        files += plot_style.save(drawn.figure, path, args.formats, args.dpi)
        files.append(_save_json(drawn.numbers, path))
    return files


def _relabel(data: Data, labels: Mapping[str, str]) -> Data:
    """The data with other printed names of methods."""
    plot_runs.check_labels(labels, list(data.methods))
    methods = {
        name: dataclasses.replace(method, label=labels.get(name, method.label))
        for name, method in data.methods.items()
    }
    return dataclasses.replace(data, methods=methods)


def _runs(args: argparse.Namespace, data: Data) -> list[pathlib.Path]:
    """Makes the figure of one's own runs and returns its files."""
    request = plot_runs.Request(
        indirs=args.indir,
        xaxis=args.xaxis,
        yaxis=args.yaxis,
        tasks=args.tasks,
        methods=args.methods,
        baselines=args.baselines,
        prefix=args.prefix,
        bins=args.bins,
        how=args.agg,
        protocol=args.protocol,
        xmult=args.xmult,
        maxval=args.maxval,
        xmax=args.xlim[1] if args.xlim else None,
        labels=args.labels,
    )
    gathered = plot_runs.gather(data, request, progress=sys.stderr)
    for method in gathered.methods:
        mine = [run.task for run in gathered.runs if run.method == method]
        print(f"{method}: {len(mine)} run{'s' * (len(mine) > 1)}, "
              f"{len(set(mine))} task{'s' * (len(set(mine)) > 1)}")  # fmt: skip
    colors = plot_style.choose_colors(data.methods, gathered.found, args.palette, args.colors)
    panels = plot_runs.task_panels(gathered) + plot_combine.panels(gathered, args.add)
    for note in _brief(gathered.notes):
        print(f"note: {note}.", file=sys.stderr)
    style = _style(args, colors)
    if len(panels) == 1 and not args.size:
        style = figures.enlarge(style)
    figure = plot_panels.draw(panels, style)
    outdir = args.outdir
    if args.subdir:
        outdir /= pathlib.Path(args.indir[0]).expanduser().absolute().name
    binned = [
        {
            "task": run.task,
            "method": run.method,
            "seed": run.seed,
            "xs": plot_style.numbers(run.frames),
            "ys": plot_style.numbers(run.returns),
        }
        for run in gathered.runs
    ]
    files = plot_style.save(figure, outdir / "curves", args.formats, args.dpi)
    files.append(_save_json(plot_panels.describe(panels, args.agg), outdir / "curves"))
    files.append(_save_json(binned, outdir / "runs"))
    return files


def _brief(notes: Sequence[str], most: int = 3) -> list[str]:
    """The notes, of many that only differ in paths and numbers the first ones."""
    kinds: dict[str, list[str]] = {}
    for note in notes:
        kinds.setdefault(re.sub(r"\S*/\S*|\d+", "", note), []).append(note)
    result = []
    for alike in kinds.values():
        shown = alike if len(alike) <= most + 1 else alike[:most]
        result += shown
        if len(alike) > len(shown):
            result.append(f"The same holds for {len(alike) - len(shown)} other runs")
    return result


def _style(args: argparse.Namespace, colors: dict[str, str]) -> Style:
    return Style(
        cols=args.cols,
        legendcols=args.legendcols,
        size=tuple(args.size) if args.size else Style.size,
        dpi=args.dpi,
        xlim=tuple(args.xlim) if args.xlim else None,
        ylim=tuple(args.ylim) if args.ylim else None,
        ylimticks=args.ylimticks,
        xlabel=args.xlabel,
        ylabel=args.ylabel,
        xticks=args.xticks,
        yticks=args.yticks,
        colors=colors,
    )


def _check_names(args: argparse.Namespace) -> None:
    """Raises what is wrong with names that need no data to check."""
    if args.agg not in plot_panels.AGGREGATIONS:
        raise UserError(unknown("aggregation", args.agg, plot_panels.AGGREGATIONS))
    for kind in args.formats:
        if kind not in plot_style.FORMATS:
            raise UserError(unknown("format", kind, plot_style.FORMATS))
    plot_combine.check(args.add)


def _save_json(content: Any, path: pathlib.Path) -> pathlib.Path:
    """Writes JSON with one entry of the list per line."""
    lines = ",\n".join(json.dumps(entry) for entry in content)
    return plot_style.save_text(f"[\n{lines}\n]\n", path.with_name(f"{path.name}.json"))


if __name__ == "__main__":
    sys.exit(main())
