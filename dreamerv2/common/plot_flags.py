"""Flags of the figures; those of the published program keep their names and meaning."""

from __future__ import annotations

import argparse
import math
import os
import pathlib
from collections.abc import Sequence
from typing import NoReturn

from dreamerv2.common.errors import UserError

# Flags that say something about one's own runs, which no figure of the paper has.
OWN = ("indir_prefix", "subdir", "xaxis", "yaxis", "prefix", "bins", "add", "xmult", "maxval")


class _Parser(argparse.ArgumentParser):
    """Raises what is wrong as a sentence instead of printing its usage."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def parse(argv: Sequence[str] | None, program: str, names: Sequence[str]) -> argparse.Namespace:
    """Reads the command line.

    Args:
      argv: The arguments; None for those of this process.
      program: What the user typed to get here.
      names: Of the paper's figures.

    Returns:
      The flags. Paths have no `~`; pairs are dictionaries.

    Raises:
      UserError: A flag is wrong, or they do not go together.
    """
    parser = _parser(program, names)
    args = parser.parse_args(argv)
    if args.figures and args.indir:
        raise UserError(
            f"the paper's figure {args.figures[0]!r} shows no runs of --indir; leave out one of the"
            f" two, as --indir has --baselines to compare with"
        )
    if not args.figures and not args.indir:
        raise UserError(
            f"there is nothing to plot; name folders of runs with --indir, or figures of the paper:"
            f" {', '.join(names)}, all"
        )
    for name in OWN:
        if args.figures and getattr(args, name) != parser.get_default(name):
            flag = name.replace("_", "-")
            raise UserError(f"--{flag} is about runs of your own; name their folder with --indir")
    for name in ("xlim", "ylim"):
        limits = getattr(args, name)
        if limits and not limits[0] < limits[1]:
            raise UserError(f"--{name} {limits[0]:g} {limits[1]:g} is empty; swap the two")
    args.labels = _pairs("labels", args.labels)
    args.colors = _pairs("colors", args.colors)
    args.outdir = pathlib.Path(args.outdir).expanduser()
    before = os.path.expanduser(args.indir_prefix)
    args.indir = [os.path.join(before, os.path.expanduser(indir)) for indir in args.indir]
    return args


def _parser(program: str, names: Sequence[str]) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=program,
        description="Figures of the paper, or curves of your own runs beside published ones.",
        epilog=f"example: {program} --indir ~/logdir --outdir ~/plots --baselines rainbow iqn",
    )
    parser.add_argument(
        "figures", nargs="*", metavar="FIGURE", help=f"of the paper: {', '.join(names)}, all"
    )
    add = parser.add_argument_group("data").add_argument
    add("--outdir", required=True, metavar="DIR", help="where the figures go")
    add(
        "--tasks", nargs="+", default=[".*"], metavar="REGEX", help="tasks that contain one of them"
    )
    add("--methods", nargs="+", default=[".*"], metavar="REGEX",
        help="methods that contain one, in this order")  # fmt: skip
    add("--baselines", nargs="*", metavar="NAME",
        help="published methods, random, gamer, record (default: dreamerv2 rainbow iqn, or those of"
        " the figure); none if empty")  # fmt: skip
    add("--agg", "--aggregation", default="std", metavar="HOW",
        help="std: mean and standard deviation (default); median or per25: median and quartiles;"
        " per5; per0; minmax: mean, least and greatest; none: a line for each seed")  # fmt: skip
    add("--protocol", choices=("paper", "per-seed"), default="paper",
        help="for aggregates: average over seeds first (paper, the default) or last")  # fmt: skip
    _add_own(parser)
    _add_look(parser)
    return parser


def _add_own(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("your own runs").add_argument
    add("--indir", nargs="+", default=[], metavar="DIR", help="log folders, or folders above them")
    add("--indir-prefix", default="", metavar="DIR", help="put before every --indir")
    add("--subdir", type=_boolean, default=True, metavar="BOOL",
        help="save to a folder in --outdir named like the first --indir (True)")  # fmt: skip
    add("--xaxis", default="step", metavar="METRIC", help="default: step, which is in frames")
    add("--yaxis", default="eval_return", metavar="METRIC", help="default: eval_return")
    add("--prefix", type=_boolean, default=False, metavar="BOOL",
        help="tell apart methods of different --indir (default: False)")  # fmt: skip
    add("--bins", type=_bins, default=-1.0, metavar="N",
        help="frames per bin; 0: none; default -1: 1e6 for Atari, 1e4 for control and Crafter,"
        " 1e5 for others, less where runs are short")  # fmt: skip
    add("--add", "--stats", nargs="+", default=["auto"], metavar="PANEL",
        help="auto (default): aggregates if there are several tasks; gamer_median, gamer_mean,"
        " record_mean, clip_record_mean, range_median, range_mean, median, mean, human_above,"
        " human_below, seeds; none")  # fmt: skip
    add("--xmult", type=_positive, default=1.0, metavar="X", help="multiplies your x values")
    add("--maxval", type=_not_negative, default=0.0, metavar="Y",
        help="clips your y values to plus and minus this (default: 0, no clipping)")  # fmt: skip


def _add_look(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("look").add_argument
    add("--formats", nargs="+", default=["png", "pdf", "svg"], metavar="FORMAT",
        help="default: png pdf svg")  # fmt: skip
    add("--size", nargs=2, type=_positive, metavar=("W", "H"), help="of a panel, in inches")
    add("--dpi", type=_count, default=100, help="of PNGs (default: 100)")
    add("--cols", type=_count, default=6, metavar="N", help="panels in a row (default: 6)")
    add("--legendcols", type=_count, default=6, metavar="N", help="at most, in a row of the legend")
    add("--xlim", nargs=2, type=_finite, metavar=("LOW", "HIGH"))
    add("--ylim", nargs=2, type=_finite, metavar=("LOW", "HIGH"), help="not for aggregates")
    add("--ylimticks", type=_boolean, default=True, metavar="BOOL",
        help="put ticks on both ends of --ylim (default: True)")  # fmt: skip
    add("--xlabel", metavar="TEXT")
    add("--ylabel", metavar="TEXT")
    add("--xticks", type=_count, default=5, metavar="N", help="at most (default: 5)")
    add("--yticks", type=_count, default=5, metavar="N", help="at most (default: 5)")
    add("--labels", nargs="+", default=[], metavar="NAME", help="pairs: method and its label")
    add("--colors", nargs="+", default=[], metavar="NAME", help="pairs: method and its colour")
    add("--palette", nargs="+", default=["contrast"], metavar="COLOR",
        help="of your own methods: contrast (default), discrete, gradient, or colours")  # fmt: skip


def _pairs(name: str, values: Sequence[str]) -> dict[str, str]:
    """A flag of pairs as a dictionary."""
    if len(values) % 2:
        raise UserError(
            f"--{name} takes pairs of a method and its {name[:-1]}, but {values[-1]!r} has no other"
        )
    return dict(zip(values[::2], values[1::2], strict=True))


def _boolean(text: str) -> bool:
    if text not in ("True", "False"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither True nor False")
    return text == "True"


def _number(text: str, what: str, low: float, least: bool) -> float:
    """A finite number above `low`, or `low` itself if it is the least one."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (low < value < math.inf or (least and value == low)):
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
    return value


def _positive(text: str) -> float:
    return _number(text, "a number above 0", 0, False)


def _not_negative(text: str) -> float:
    return _number(text, "a number from 0", 0, True)


def _finite(text: str) -> float:
    return _number(text, "a number", -math.inf, False)


def _bins(text: str) -> float:
    return -1.0 if text in ("-1", "-1.0") else _number(text, "a number of frames, 0 or -1", 0, True)


def _count(text: str) -> int:
    value = _number(text, "a whole number above 0", 0, False)
    if value != int(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(value)
