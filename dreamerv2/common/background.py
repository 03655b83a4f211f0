"""Runs a job in a thread and hands its error to the thread that asked for it."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Background:
    """At most one job at a time, in a thread that the end of the process waits for.

    Args:
        name: Of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def start(self, job: Callable[[], object]) -> None:
        """Wait for the job before, then run this one.

        Raises:
            Exception: Whatever the job before raised; this one is not run then.
        """
        self.wait()
        # Not a daemon: those are cut off in the middle when the interpreter ends.
        self._thread = threading.Thread(target=self._run, args=(job,), name=self._name)
        self._thread.start()

    def check(self) -> None:
        """Raise what the job raised if it has ended; never waits."""
        if self._thread is not None and not self._thread.is_alive():
            self.wait()

    def wait(self) -> None:
        """Wait for the job, if there is one.

        Raises:
            Exception: Whatever it raised; once.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _run(self, job: Callable[[], object]) -> None:
        try:
            job()
        except BaseException as error:  # Raised again in the other thread.
            self._error = error
