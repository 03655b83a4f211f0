"""The game loop of `play`: takes input from pages, steps the game in time, publishes frames.

The loop runs in one thread, which is the only one that touches the game. Other threads, those of
the server, hand in what pages send (`receive`) and wait for what pages shall show (`next`).
"""

from __future__ import annotations

import collections
import dataclasses
import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from dreamerv2 import play_view
from dreamerv2.play_input import Inputs
from dreamerv2.play_keys import Controls
from dreamerv2.play_view import Frame

SPEEDS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60)

# While the agent steers, an ended episode stays on the page for this many seconds.
PAUSE_AT_END = 2.0

# The loop looks this often, in seconds, whether it shall stop.
POLL = 0.2

# A gap of this many seconds between frames, as when no page is open, is left out of their rate.
LONG = 3.0


class Game(Protocol):
    """What can be played."""

    def reset(self) -> Frame:
        """Begin a new episode."""

    def step(self, action: np.ndarray | None) -> Frame:
        """Take an action ``(A,)``, or with None the one that the agent chooses."""

    def sync(self) -> Frame | None:
        """Bring the dream in line with the real environment; None where that is impossible."""


class Session:
    """One game and the pages that show and steer it.

    Nothing moves while no page is open.

    Args:
        game: Touched by `run` only.
        controls: From keys to actions.
        fps: Steps a second at first.
        agent: Whether the agent steers at first.
        title: Facts about the run, for the page.
    """

    def __init__(
        self,
        game: Game,
        controls: Controls,
        *,
        fps: float = 15.0,
        agent: bool = False,
        title: Mapping[str, Any] | None = None,
    ) -> None:
        self._game = game
        self._controls = controls
        self._title = dict(title or {})
        self._changed = threading.Condition()
        self._inputs = Inputs()
        self._viewers: list[str] = []
        self._published: tuple[int, str] = (0, "")
        self._closed = False
        # What follows belongs to the thread of `run`.
        self._fps = fps
        self._agent = agent
        self._paused = False
        self._ended = self._over = False
        self._frame: Frame | None = None
        self._episode = 0
        self._due = 0.0
        self._times: collections.deque[float] = collections.deque(maxlen=31)
        self._seconds = 0.0

    # For the threads of the server.

    def describe(self) -> str:
        """Return what a page must know once, as JSON: the run, keys, sliders."""
        controls = self._controls
        return json.dumps(
            {
                **self._title,
                "keys": [
                    {"label": key.label, "codes": key.codes, "caps": key.caps}
                    for key in controls.keys
                ],
                "sliders": [
                    {
                        **dataclasses.asdict(slider),
                        "codes": slider.codes,
                        "caps": slider.caps,
                    }
                    for slider in controls.sliders
                ],
            }
        )

    def receive(self, message: Any) -> None:
        """Take a message of a page.

        Raises:
            ValueError: The message is not as `Inputs.take` wants it.
        """
        with self._changed:
            self._inputs = self._inputs.take(message)
            self._changed.notify_all()

    def next(self, after: int, timeout: float) -> tuple[int, str] | None:
        """Wait for a frame newer than number `after`.

        Returns:
            Number and JSON of the newest frame, or None if there was none in `timeout` seconds.

        Raises:
            EOFError: The session has ended.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._published[0] > after, timeout)
            if self._closed:
                raise EOFError
            return self._published if self._published[0] > after else None

    def join(self, client: str) -> None:
        """Count a page that watches."""
        with self._changed:
            self._viewers.append(client)
            self._changed.notify_all()

    def leave(self, client: str) -> None:
        """Count a page no more; keys that it held are released."""
        with self._changed:
            self._viewers.remove(client)
            if client == self._inputs.client:
                self._inputs.held.clear()
            self._changed.notify_all()

    def close(self, timeout: float = 1.0) -> None:
        """End the session and give the pages a moment to hear of it."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._viewers, timeout)

    # For the thread that plays.

    def run(self, stopping: Callable[[], bool]) -> None:
        """Play until `stopping` returns true."""
        self._show(self._game.reset, fresh=True)
        while not stopping():
            with self._changed:
                wait = self._wait()
                if wait > 0:
                    self._changed.wait(min(wait, POLL))
                    continue
                command = self._inputs.commands.pop(0) if self._inputs.commands else None
            if command is not None:
                self._obey(command)
            elif self._ended:  # Only the agent goes on by itself.
                self._obey("restart")
            else:
                self._step()

    def _wait(self) -> float:
        """Return seconds until there is something to do."""
        if self._inputs.commands:
            return 0.0
        if not self._viewers:
            return POLL
        if self._ended:
            return self._due - time.monotonic() if self._agent and not self._paused else POLL
        if self._paused:
            return 0.0 if self._inputs.tapped else POLL
        return self._due - time.monotonic()

    def _obey(self, command: str) -> None:
        speeds = [*SPEEDS, self._fps]
        if command == "restart":
            self._ended = False
            self._show(self._game.reset, fresh=True)
            return
        if command == "step":
            self._paused, self._ended = True, False
            self._step()
            return
        if command == "sync":
            self._ended = False
            self._show(self._game.sync)
            return
        if command == "pause":
            # From an end that the model predicted one can dream on.
            self._paused = not self._paused and not self._ended
            self._ended = False
            self._times.clear()
        elif command == "agent":
            self._agent = not self._agent
        elif command == "faster":
            self._fps = min((s for s in speeds if s > self._fps), default=self._fps)
        elif command == "slower":
            self._fps = max((s for s in speeds if s < self._fps), default=self._fps)
        self._due = time.monotonic() + 1 / self._fps
        self._publish()

    def _step(self) -> None:
        # The keys are read here, as late as possible: what is pressed now shows in this frame.
        with self._changed:
            keys, rest = self._inputs.for_step()
        action = None if self._agent else self._controls.action(keys, rest)
        self._show(lambda: self._game.step(action))

    def _show(self, make: Callable[[], Frame | None], fresh: bool = False) -> None:
        began = time.monotonic()
        frame = make()
        now = time.monotonic()
        if frame is None:
            return
        was_over = self._over and not fresh
        # Without a hand on the keys nobody would leave a real episode that is over.
        self._over = frame.dream.over or (
            self._agent and frame.real is not None and frame.real.over
        )
        self._ended = self._ended or (self._over and not was_over)
        self._episode += fresh
        self._seconds = now - began
        self._frame = frame
        if fresh or self._ended:
            with self._changed:
                self._inputs.tapped = []
        # Falling behind, frames come late but never in a burst.
        self._due = max((now if fresh else self._due) + 1 / self._fps, now)
        if self._ended:
            self._due = now + PAUSE_AT_END
        if fresh or self._paused or (self._times and now - self._times[-1] > LONG):
            self._times.clear()
        self._times.append(now)
        self._publish()

    def _publish(self) -> None:
        if self._frame is None:
            return
        frame, controls = self._frame, self._controls
        span = self._times[-1] - self._times[0] if len(self._times) > 1 else 0.0
        message = {
            **play_view.encode(frame),
            "episode": self._episode,
            "lit": [] if frame.action is None else controls.lit(frame.action),
            "values": [] if frame.action is None else controls.values(frame.action),
            "action": "" if frame.action is None else controls.describe(frame.action),
            "choice": "" if frame.choice is None else controls.describe(frame.choice),
            "agent": self._agent,
            "paused": self._paused,
            "ended": self._ended,
            "fps": self._fps,
            "rate": round((len(self._times) - 1) / span, 1) if span else None,
            "milliseconds": round(1000 * self._seconds, 1),
        }
        with self._changed:
            number = self._published[0] + 1
            self._published = (number, json.dumps({"number": number, **message}, allow_nan=False))
            self._changed.notify_all()
