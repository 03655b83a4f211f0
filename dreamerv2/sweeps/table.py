"""Shows where the runs of a sweep stand: a table for people, live or printed once."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import TextIO

import rich.box
import rich.console
import rich.live
import rich.table
import rich.text

from dreamerv2.common.terminal import format_duration
from dreamerv2.sweeps.status import STATES, Status, Summary, summarize

_STYLES = {"running": "green", "failed": "red", "lost": "yellow", "done": "dim", "waiting": ""}
# Rows of a live table besides those of runs, and seconds between lines where there is no table.
_FRAME_ROWS = 6
_LINE_SECONDS = 60.0


def render(statuses: Sequence[Status], most: int | None = None) -> rich.table.Table:
    """Return the table.

    Args:
        statuses: Of the runs.
        most: Rows at most; those of least interest are left out and counted.
    """
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
    for title in ("run", "state"):
        table.add_column(title, no_wrap=True)
    for title in ("frames", "", "return", "frames/s", "left"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("machine", no_wrap=True)
    order = sorted(statuses, key=lambda status: STATES.index(status.state))
    shown = order if most is None or len(order) <= most else order[: max(most - 1, 0)]
    for status in shown:
        table.add_row(*_cells(status), style=_STYLES[status.state])
    if rest := order[len(shown) :]:
        counts = summarize(rest).counts
        more = ", ".join(f"{counts[state]} {state}" for state in STATES if counts.get(state))
        table.add_row(f"... and {more}", style="dim")
    return table


def _cells(status: Status) -> list[str]:
    return [
        status.name,
        status.state,
        f"{status.frames:,}",
        f"{status.frames / status.total:.0%}" if status.total else "",
        "" if status.score is None else f"{status.score:,.1f}",
        "" if status.fps is None else f"{status.fps:,.0f}",
        "" if status.left is None else format_duration(status.left),
        status.node,
    ]


def line(summary: Summary) -> str:
    """Return the totals in a line."""
    parts = [f"{summary.counts[s]} {s}" for s in STATES if summary.counts.get(s)]
    share = summary.frames / summary.total if summary.total else 1.0
    parts += [f"{summary.frames:,} of {summary.total:,} frames ({share:.1%})"]
    if summary.fps:
        parts += [f"{summary.fps:,.0f} frames/s"]
    if summary.left:
        parts += [f"{format_duration(summary.left)} left"]
    return ", ".join(parts)


def problems(statuses: Sequence[Status]) -> list[str]:
    """Return why runs failed and what they printed last, as lines."""
    result = []
    for status in statuses:
        if status.note:
            result.append(f"{status.name}: {status.note}")
            result += [f"    {text}" for text in status.lines] if status.state == "failed" else []
    return result


class Screen:
    """A live table, or a line now and then where nobody watches; a context manager.

    Args:
        stream: Where to write.
        clock: Returns seconds.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._next = clock, -1.0
        self.console = rich.console.Console(file=stream, highlight=False, markup=False, emoji=False)
        self._live: rich.live.Live | None = None
        if stream.isatty() and os.environ.get("TERM", "") != "dumb":
            self._live = rich.live.Live(
                console=self.console, auto_refresh=False, redirect_stdout=False
            )

    def __enter__(self) -> Screen:
        """Begin to show."""
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Leave the last table on the screen."""
        if self._live is not None:
            self._live.stop()

    def print(self, text: str) -> None:
        """Print a line, above the table if there is one."""
        self.console.print(text, soft_wrap=True)

    def show(self, statuses: Sequence[Status], force: bool = False) -> None:
        """Show the table, or the totals if it is time for that."""
        totals = line(summarize(statuses))
        if self._live is not None:
            most = max(self.console.size.height - _FRAME_ROWS, 3)
            table = render(statuses, most)
            self._live.update(rich.console.Group(table, rich.text.Text(totals)), refresh=True)
        elif force or self._clock() >= self._next:
            self._next = self._clock() + _LINE_SECONDS
            self.print(totals)
