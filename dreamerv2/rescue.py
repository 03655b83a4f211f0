"""What is done for a run that fails: whatever is whole is saved, and said in a sentence."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from dreamerv2.common.envs.spaces import EnvError

TRACE = "env_error.txt"

# Seconds: a signal to all processes of a job may reach the workers a little before this one.
SIGNALS_DIFFER = 0.5


class _Run(Protocol):
    @property
    def frames(self) -> int: ...

    @property
    def logdir(self) -> Path: ...

    def stopping(self) -> bool: ...

    def part(self) -> None: ...

    def save(self) -> None: ...


def rescue(error: Exception, run: _Run, hook_failed: bool, say: Callable[[str], None]) -> None:
    """Save a run that ended by an exception, if its state is whole, and raise it again.

    Environments and callbacks are called between updates, when everything can be saved, by the
    other workers of the run as well. The traceback of an environment goes to the file
    `env_error.txt` in the folder of the run.

    Args:
        error: What ended the run.
        run: The run. If it was asked to stop, by a signal that also ended worker processes, as
            schedulers do, that is no failure, and nothing is raised.
        hook_failed: Whether it comes from a callback.
        say: Shows a line.

    Raises:
        Exception: `error`.
    """
    if isinstance(error, EnvError):
        deadline = time.monotonic() + SIGNALS_DIFFER
        while not run.stopping() and time.monotonic() < deadline:
            time.sleep(0.05)
        run.part()
        run.save()
        if run.stopping():
            say(f"Stopped at {run.frames:,} frames; run the same command to continue.")
            return
        more = ""
        if "\n" in str(error):
            path = run.logdir / TRACE
            with contextlib.suppress(OSError):  # The sentence is what matters.
                path.write_text(f"{error}\n", encoding="utf-8")
                more = f" The traceback is in {path}."
        say(f"An environment failed at {run.frames:,} frames; saved.{more}")
    elif hook_failed:
        run.part()
        run.save()
        say(f"A callback failed at {run.frames:,} frames; saved.")
    raise error
