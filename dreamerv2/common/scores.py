"""Command line of the score data: the paper's tables, and one's own runs beside them.

python common/scores.py table1
python common/scores.py table1 --indir ~/logdir --ci
python common/scores.py k1 --indir ~/logdir --frames 10e6 --format markdown
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
import math
from collections.abc import Callable, Sequence
from typing import NoReturn

from dreamerv2.common import aggregate, reports, stated
from dreamerv2.common.compare import Comparison, compare
from dreamerv2.common.errors import UserError
from dreamerv2.common.score_data import Data, Run, load
from dreamerv2.common.tables import FORMATS, Table, render

__all__ = ["Data", "Run", "load", "main"]

CURVES = ("dreamerv2", "dreamerv2_schedules", "iqn", "rainbow", "c51", "dqn")
BASELINES = {"table1": CURVES, "k1": ("rainbow", "iqn", "dreamerv2")}
PROGRAMS = {
    "table1": "median and mean gamer score, mean and clipped mean record score (table 1)",
    "table2": "ablations, as the paper states them",
    "table3": "parameters, frames and accelerator days, as the paper states them",
    "k1": "the score of every task (table K.1)",
    "stats": "interquartile mean, optimality gap, median and mean with intervals",
    "improvement": "probability that a run of one method beats a run of another",
    "profiles": "performance profiles: share of runs above each score",
    "methods": "the shipped methods, task sets and sources",
}


def main(argv: Sequence[str] | None = None, program: str = "python common/scores.py") -> int:
    """Run the command line and return its exit status: 2 for bad input."""
    try:
        args = _parser(program).parse_args(argv)
        table = _table(args, load())
        if args.format == "csv":
            for note in table.notes:
                print(f"note: {note}", file=sys.stderr)
        text = render(table, args.format)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    try:
        print(text, end="", flush=True)
    except BrokenPipeError:  # The reader, such as `head`, has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _table(args: argparse.Namespace, data: Data) -> Table:
    """What the command line asks for."""
    if args.program in ("table2", "table3"):
        return stated.paper(data, args.program)
    if args.program == "methods":
        return stated.methods(data)
    comparison = _compare(args, data)
    bootstrap = reports.Bootstrap(args.resamples, args.seed, args.confidence)
    if args.program == "table1":
        return reports.aggregates(
            comparison, "Aggregated scores (table 1)", args.protocol, bootstrap if args.ci else None
        )
    if args.program == "k1":
        return reports.per_task(comparison, "Scores (table K.1)", bootstrap if args.ci else None)
    if args.program == "stats":
        return reports.statistics(comparison, args.normalize, bootstrap)
    if args.program == "improvement":
        return reports.improvement(comparison, args.of, bootstrap)
    return reports.profiles(
        comparison, args.normalize, args.thresholds, bootstrap if args.ci else None
    )


def _compare(args: argparse.Namespace, data: Data) -> Comparison:
    """The scores of the methods, tasks and frames asked for."""
    return compare(
        data,
        baselines=BASELINES.get(args.program, CURVES) if args.baselines is None else args.baselines,
        optional=args.baselines is None,
        tasks=args.tasks,
        indirs=args.indir,
        frames=args.frames,
        window=args.window,
        bins=args.bins,
        metric=args.metric,
        progress=sys.stderr,
    )


class _Parser(argparse.ArgumentParser):
    """Raises what is wrong as a sentence instead of printing its usage."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def _parser(program: str) -> argparse.ArgumentParser:
    parser = _Parser(prog=program, description="The paper's tables, and your own runs beside them.")
    programs = parser.add_subparsers(dest="program", required=True, metavar="TABLE")
    for name, meaning in PROGRAMS.items():
        sub = programs.add_parser(name, help=meaning, description=meaning)
        sub.add_argument("--format", choices=FORMATS, default="text", help="default: text")
        if name in ("table2", "table3", "methods"):
            continue
        _add_comparison(sub, BASELINES.get(name, CURVES))
        if name == "table1":
            sub.add_argument(
                "--protocol",
                choices=aggregate.PROTOCOLS,
                default="paper",
                help="average over seeds first (paper, the default) or last",
            )
        if name in ("stats", "profiles"):
            sub.add_argument(
                "--normalize",
                choices=aggregate.NORMALIZERS,
                help="reference that becomes 1 (default: gamer, or range for control)",
            )
        if name == "improvement":
            sub.add_argument(
                "--of",
                nargs="+",
                default=[],
                metavar="METHOD",
                help="methods to compare with all others (default: your own)",
            )
        if name == "profiles":
            sub.add_argument(
                "--thresholds",
                nargs="+",
                type=float,
                metavar="SCORE",
                default=[0, 0.25, 0.5, 1, 2, 4, 8],
                help="normalized scores",
            )
        _add_bootstrap(sub, always=name in ("stats", "improvement"))
    return parser


def _add_comparison(parser: argparse.ArgumentParser, baselines: Sequence[str]) -> None:
    add = parser.add_argument
    add(
        "--indir",
        nargs="+",
        default=[],
        metavar="DIR",
        help="folders with your own runs: log folders, or folders above them",
    )
    add(
        "--baselines",
        nargs="*",
        metavar="METHOD",
        help=f"published methods (default: {' '.join(baselines)})",
    )
    add(
        "--tasks",
        nargs="+",
        default=[],
        metavar="TASK",
        help="tasks, or sets: atari55, atari26, simple36, dmc (default: atari55, or yours)",
    )
    add(
        "--frames",
        type=_positive,
        metavar="N",
        help="compare everybody at N frames (default: where your runs are, or 199e6)",
    )
    add(
        "--window",
        type=_not_negative,
        default=0.0,
        metavar="N",
        help="average the last N frames instead of taking the last bin",
    )
    add(
        "--bins",
        type=_positive,
        default=1e6,
        metavar="N",
        help="frames per bin of your own runs (default: 1e6, as published curves have)",
    )
    add(
        "--metric",
        default="eval_return",
        metavar="NAME",
        help="metric of your own runs (default: eval_return)",
    )


def _add_bootstrap(parser: argparse.ArgumentParser, always: bool) -> None:
    add = parser.add_argument
    if not always:
        add("--ci", action="store_true", help="add confidence intervals")
    add("--resamples", type=_count, default=2000, metavar="N", help="default: 2000")
    add("--confidence", type=_share, default=0.95, metavar="P", help="default: 0.95")
    add("--seed", type=_index, default=0, help="seed of the resamples (default: 0)")


def _check(kind: Callable[[str], float], fits: Callable[[float], bool], what: str) -> Callable:
    """A type for argparse whose message says what was expected."""

    def convert(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not fits(value):
            raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
        return value

    return convert


_positive = _check(float, lambda value: 0 < value < math.inf, "a number above 0, such as 10e6")
_not_negative = _check(float, lambda value: 0 <= value < math.inf, "a number of frames")
_count = _check(int, lambda value: 0 < value <= 10**6, "a whole number from 1 to 1,000,000")
_index = _check(int, lambda value: value >= 0, "a whole number from 0")
_share = _check(float, lambda value: 0 < value < 1, "a number between 0 and 1, such as 0.95")


if __name__ == "__main__":
    sys.exit(main())
