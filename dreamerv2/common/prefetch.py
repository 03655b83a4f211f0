"""Reads the next batch of a replay in the background while the current one is used."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from dreamerv2.common.replay import Replay
from dreamerv2.common.replay_store import Window

_log = logging.getLogger(__name__)

Batch = dict[str, np.ndarray]


class Prefetcher:
    """Iterator over batches of ``batch`` windows, read one ahead in one daemon thread.

    Only reading happens in the thread. Windows are drawn by the caller inside ``next()``: those of
    the first batch, and each time those of the batch after the one returned. So the sequence of
    windows depends on the order of calls alone, and the state holds the windows drawn but not yet
    returned. The price: a batch is drawn from the replay as it was one batch earlier.
    """

    def __init__(self, replay: Replay, batch: int) -> None:
        self._replay = replay
        self._batch = batch
        self._pending: list[Window] | None = None
        self._requests: queue.SimpleQueue[list[Window] | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[Batch | BaseException] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="prefetch", daemon=True)
        self._closed = False
        self._thread.start()

    def __iter__(self) -> Prefetcher:
        """Returns itself."""
        return self

    def __next__(self) -> Batch:
        """Returns a batch, ``(B, L, ...)`` arrays that are the caller's to keep.

        Raises:
            UserError: the replay holds too few steps, see `Replay.draw`.
            RuntimeError: the prefetcher is closed.
            Exception: whatever reading raised in the thread.
        """
        if self._closed:
            raise RuntimeError("the prefetcher is closed")
        if self._pending is None:
            self._request(self._replay.draw(self._batch))
        result = self._results.get()
        self._pending = None
        if isinstance(result, BaseException):
            raise result
        self._request(self._replay.draw(self._batch))
        return result

    def __enter__(self) -> Prefetcher:
        """Returns itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Closes."""
        self.close()

    def state(self) -> dict[str, Any]:
        """Addresses of the windows drawn but not yet returned; save the replay's state with it."""
        return {"pending": [[w.stream, w.start] for w in self._pending or []]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continues from a `state`; call it after `Replay.restore`.

        Pending windows whose data is gone are drawn anew, with a warning, and so are all where
        the batch size has changed.
        """
        if self._pending is not None:
            self._results.get()
            self._pending = None
        if len(state["pending"]) != self._batch:
            return
        found = [self._replay.locate(stream, start) for stream, start in state["pending"]]
        windows = [window for window in found if window is not None]
        missing = len(found) - len(windows)
        if missing:
            _log.warning(f"{missing} sequences drawn before the restart are gone; drawing others.")
            windows += self._replay.draw(missing)
        self._request(windows)

    def close(self) -> None:
        """Ends the thread; the prefetcher can't be used afterwards."""
        if not self._closed:
            self._closed = True
            self._requests.put(None)
            self._thread.join()

    def _request(self, windows: list[Window]) -> None:
        self._pending = windows
        self._requests.put(windows)

    def _work(self) -> None:
        while (windows := self._requests.get()) is not None:
            try:
                self._results.put(self._replay.gather(windows))
            except BaseException as error:  # Raised again by the caller of next().
                self._results.put(error)
            del windows  # It would keep evicted files open until the next request.
