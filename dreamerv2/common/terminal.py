"""What a person sees of a run: a live progress bar, or plain lines when nobody watches."""

from __future__ import annotations

import collections
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, TextIO

import rich.console
import rich.progress

# Numbers that a person looks at first, in this order; then the losses.
KEY_NAMES = ("fps", "train_return", "train_length", "eval_return", "eval_length")
RETURN_NAMES = ("train_return", "eval_return")
MOST_NUMBERS = 10
# Speeds are measured over this many seconds, so that waiting for an update doesn't look like an
# end, nor a slow start like the whole run.
RATE_SECONDS = 60.0
RATE_SAMPLE_SECONDS = 0.5
# Seconds between progress lines where there is no bar.
LINE_SECONDS = 30.0


class Terminal:
    """Shows metrics and progress on a terminal, or as plain lines in a file or pipe.

    On a terminal a bar stays at the bottom while log lines scroll above it. Use it as a context
    manager, or call `close()`: either restores the terminal, also after an exception.

    Args:
      stream: Where to write; standard output by default. A live bar is shown if it `isatty()`
        and the environment variable TERM is not "dumb".
      clock: Returns the time in seconds.
    """

    def __init__(
        self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = sys.stdout if stream is None else stream
        self._clock = clock
        self._returns: dict[str, float] = {}
        self._open: list[Progress] = []
        self._live: rich.progress.Progress | None = None
        self._console: rich.console.Console | None = None
        if self._stream.isatty() and os.environ.get("TERM", "") != "dumb":
            self._console = rich.console.Console(
                file=self._stream, force_terminal=True, highlight=False, markup=False, emoji=False
            )

    def write(
        self,
        step: int,
        scalars: Mapping[str, float],
        images: Mapping[str, Any] | None = None,
        videos: Mapping[str, Any] | None = None,
    ) -> None:
        """Prints one line: the step, then at most ten numbers, the important ones first.

        Args:
          step: In environment frames.
          scalars: Metrics by name.
          images: Not shown.
          videos: Not shown.
        """
        self._returns.update({k: v for k, v in scalars.items() if k in RETURN_NAMES})
        if scalars:
            self.print(format_line(step, scalars))

    def print(self, message: str) -> None:
        """Prints a line, above the bar if there is one."""
        if self._console is not None:
            self._console.print(message, soft_wrap=True)
        else:
            print(message, file=self._stream, flush=True)

    def progress(
        self, description: str, total: float, unit: str = "steps", start: float = 0
    ) -> Progress:
        """Begins to show how far a task has come.

        Args:
          description: Name of the task, such as "Prefill".
          total: Amount of work in the whole task.
          unit: What is counted: "steps" for agent steps or "frames" for environment frames.
          start: Work that was done before, by the run that this one resumes.

        Returns:
          Has `update(completed)` and `close()`; a context manager.
        """
        progress = Progress(self, description, total, unit, start)
        self._open.append(progress)
        if self._console is None:
            self.print(progress.text())
            return progress
        if self._live is None:
            self._live = rich.progress.Progress(
                rich.progress.TextColumn("{task.description}", markup=False),
                rich.progress.BarColumn(bar_width=None),
                rich.progress.TextColumn("{task.fields[status]}", markup=False),
                console=self._console,
                refresh_per_second=4,
                transient=True,
            )
            self._live.start()
        progress.task = self._live.add_task(
            description, total=total or 1, completed=int(start), status=progress.status()
        )
        return progress

    def close(self) -> None:
        """Removes what is still shown and gives the terminal back; may be called again."""
        for progress in list(self._open):
            progress.close()

    def __enter__(self) -> Terminal:
        """Returns itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes."""
        self.close()

    def _show(self, progress: Progress) -> None:
        if self._live is not None and progress.task is not None:
            self._live.update(progress.task, completed=progress.completed, status=progress.status())
        else:
            self.print(progress.text())

    def _remove(self, progress: Progress) -> None:
        if progress not in self._open:
            return
        self._open.remove(progress)
        if self._live is not None and progress.task is not None:
            self._live.remove_task(progress.task)
            if not self._open:
                # Ends the thread that draws, and shows the cursor again.
                self._live.stop()
                self._live = None
        self.print(progress.summary())

    def _last_returns(self) -> str:
        return "  ".join(f"{k.split('_')[0]} {_number(v)}" for k, v in self._returns.items())


class Progress:
    """How far a task has come; made by `Terminal.progress`.

    Attributes:
      completed: Work done, including what was done before the start.
      task: Identifies the bar, if there is one.
    """

    def __init__(
        self, terminal: Terminal, description: str, total: float, unit: str, start: float
    ) -> None:
        self.completed = start
        self.task: rich.progress.TaskID | None = None
        self._terminal = terminal
        self._description = description
        self._total = total
        self._unit = unit
        self._note = ""
        self._clock = terminal._clock
        self._start = start
        self._started = self._shown = self._clock()
        self._samples = collections.deque([(self._started, start)])

    def update(self, completed: float, note: str = "") -> None:
        """States how much work is done; cheap enough to be called every step.

        Args:
          completed: Work done, including what was done before the start.
          note: What else to show while the work is going on, in a few words.
        """
        self.completed, self._note = completed, note
        now = self._clock()
        if now - self._samples[-1][0] < RATE_SAMPLE_SECONDS:
            return
        self._samples.append((now, completed))
        while now - self._samples[1][0] >= RATE_SECONDS:
            self._samples.popleft()
        if self.task is not None or now - self._shown >= LINE_SECONDS:
            self._shown = now
            self._terminal._show(self)

    @property
    def rate(self) -> float:
        """Work per second over the last minute; 0 before anything is known."""
        (begin, before), (end, after) = self._samples[0], self._samples[-1]
        return (after - before) / (end - begin) if end > begin else 0.0

    def status(self) -> str:
        """Amount done, speed, time left and the last returns, in a few words."""
        parts = [f"{self.completed:,.0f}/{self._total:,.0f} {self._unit}"]
        if self.rate > 0:
            parts.append(f"{_number(self.rate)} {self._unit}/s")
            left = max(0.0, self._total - self.completed) / self.rate
            parts.append(f"{format_duration(left)} left")
        if self._note:
            parts.append(self._note)
        returns = self._terminal._last_returns()
        return "  ".join(parts + ([f"return: {returns}"] if returns else []))

    def text(self) -> str:
        """The description and the status."""
        return f"{self._description} {self.status()}"

    def summary(self) -> str:
        """What was done since the start, and in how much time."""
        seconds = format_duration(self._clock() - self._started)
        return (
            f"{self._description} {self.completed:,.0f}/{self._total:,.0f} {self._unit} "
            f"in {seconds}"
        )

    def close(self) -> None:
        """Stops showing the task and prints its summary; may be called again."""
        self._terminal._remove(self)

    def __enter__(self) -> Progress:
        """Returns itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes."""
        self.close()


def format_line(step: int, scalars: Mapping[str, float]) -> str:
    """A short line of metrics: the step in frames, key numbers, losses, at most ten in all.

    Where there are neither key numbers nor losses, the first metrics are shown.
    """
    names = [name for name in KEY_NAMES if name in scalars]
    names += sorted(name for name in scalars if name.endswith("_loss"))
    names = (names or list(scalars))[:MOST_NUMBERS]
    return "  ".join([f"[{step:,}]", *(f"{name} {_number(scalars[name])}" for name in names)])


def format_duration(seconds: float) -> str:
    """Seconds as "0:05", "12:30", "3:02:01" or "4d 3h"."""
    total = round(seconds)
    if total >= 86400:
        return f"{total // 86400}d {total % 86400 // 3600}h"
    minutes = f"{total % 3600 // 60:02}" if total >= 3600 else f"{total // 60}"
    return (f"{total // 3600}:" if total >= 3600 else "") + f"{minutes}:{total % 60:02}"


def _number(value: float) -> str:
    if math.isfinite(value) and abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"
