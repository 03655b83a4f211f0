"""Turns SIGINT and SIGTERM into a flag, so that a run can save before it ends."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any


class Interrupt:
    """Context manager: the first signal sets `requested`, a second one ends the process at once.

    What comes within a second of the first is the same wish by another way: schedulers and
    terminals signal all processes of a job, some of which pass it on.

    Outside of the main thread, where Python cannot handle signals, it does nothing.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)
    SAME = 1.0

    def __init__(self) -> None:
        self.requested: signal.Signals | None = None
        self._first = 0.0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupt:
        """Start listening."""
        if threading.current_thread() is threading.main_thread():
            for number in self.SIGNALS:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Restore the handlers that were there before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested is not None:
            if time.monotonic() - self._first < self.SAME:
                return
            # Not sys.exit: nothing may run any more, not even an except clause.
            os._exit(128 + number)
        self._first = time.monotonic()
        self.requested = signal.Signals(number)
