"""Decides what each run of a sweep does next; knows neither Ray nor terminals.

A run waits, is submitted, runs, and is then done, given up, or to be started again. Between two
attempts its lease must be free: what started the earlier one may be gone while the training still
saves. How an attempt ended is told by whoever ran it or, if that is gone, by the storage.
"""

from __future__ import annotations

import dataclasses
import math
import pathlib
import re
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from dreamerv2.sweeps import files
from dreamerv2.sweeps.lease import Holding, Timing, Watch, clock
from dreamerv2.sweeps.plan import Run

# Failures of one kind in a row, and attempts of any kind without success, that end a run.
SAME_FAILURES = 3
FRUITLESS = 10
# Seconds of work after which an attempt was no failure from the start.
FRUITFUL = 3600.0


@dataclasses.dataclass(frozen=True)
class Ended:
    """An attempt that is over.

    Attributes:
        attempt: Its name, from the job.
        end: How it ended, as told by its keeper; None if that could not tell.
        reason: Why it could not.
    """

    attempt: str
    end: Mapping[str, Any] | None
    reason: str = ""


class Pool(Protocol):
    """Runs keepers on machines."""

    def slots(self) -> int:
        """Return how many runs fit on the machines that there are now."""

    def submit(self, job: Mapping[str, Any], name: str) -> None:
        """Start a keeper as soon as there is room."""

    def poll(self) -> list[Ended]:
        """Return the attempts that ended since the last call."""

    def cancel(self, attempt: str) -> None:
        """Ask a keeper to stop; its end comes later, from `poll`."""


@dataclasses.dataclass
class Entry:
    """A run and what is going on with it.

    Attributes:
        run: What it is.
        attempt: Name of the last attempt.
        submitted: Whether that is under way, or about to be.
        watch: Of the lease, while an earlier attempt may still hold it.
        after: Time of the clock before which it is not started again.
        state: waiting, done or failed.
        failures: Failures of the same kind in a row.
        fruitless: Attempts in a row that did not come far.
        note: Last thing that went wrong.
        news: Whether that is new; for whoever shows it to set back.
        lines: What was printed then.
    """

    run: Run
    attempt: str = ""
    submitted: bool = False
    watch: Watch | None = None
    after: float = -math.inf
    state: str = "waiting"
    signature: str = ""
    failures: int = 0
    fruitless: int = 0
    note: str = ""
    news: bool = False
    lines: Sequence[str] = ()
    began: float = 0.0
    lost: str = ""


class Driver:
    """Steps a sweep from its beginning, or from where an earlier one stopped, to its end.

    Args:
        runs: Of the sweep.
        pool: Where they run.
        events: Called with a name and facts for everything that happens.
        most: Runs at the same time; None for as many as there is room for.
        program: Training program, in the package or as an absolute path.
        environment: Variables for it.
        timing: Of the leases.
        pause: Seconds before a run that failed is started again, times the failures so far.
        now: Returns seconds.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        pool: Pool,
        events: Callable[..., None],
        *,
        most: int | None = None,
        program: str = "train.py",
        environment: Mapping[str, str] | None = None,
        timing: Timing | None = None,
        pause: float = 10.0,
        now: Callable[[], float] = clock,
    ) -> None:
        self._pool, self._events, self._most, self._now = pool, events, most, now
        self._program, self._environment = program, dict(environment or {})
        self._timing, self._pause = timing or Timing(), pause
        self.stopping = False
        self.entries = [self._begin(run) for run in runs]

    def _begin(self, run: Run) -> Entry:
        if files.is_complete(files.read_end(pathlib.Path(run.logdir)), run.frames):
            return Entry(run, state="done")
        # A sweep that was killed a moment ago may have left trainings that still save.
        return Entry(run, watch=self._new_watch(run))

    def _new_watch(self, run: Run) -> Watch:
        return Watch(pathlib.Path(run.logdir) / files.FOLDER, self._timing, self._now)

    @property
    def active(self) -> list[Entry]:
        """Runs that are submitted, or that an earlier attempt has not let go of."""
        return [e for e in self.entries if e.submitted or (e.lost and e.watch)]

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do, or everything has stopped that was to be stopped."""
        if self.stopping:
            return not any(e.submitted or self._is_held(e) for e in self.entries)
        return all(e.state in ("done", "failed") for e in self.entries)

    def step(self) -> None:
        """Look at everything once and do what is to be done."""
        attempts = {entry.attempt: entry for entry in self.entries if entry.submitted}
        for ended in self._pool.poll():
            self._ended(attempts[ended.attempt], ended)
        for entry in self.entries:
            if entry.watch is not None and not self._is_held(entry):
                self._freed(entry)
        if self.stopping:
            return
        slots = self._pool.slots() if self._most is None else self._most
        free = slots - len(self.active)
        now = self._now()
        for entry in self.entries:
            if free <= 0:
                break
            idle = entry.state == "waiting" and not entry.submitted and entry.watch is None
            if idle and entry.after <= now:
                self._submit(entry)
                free -= 1

    def stop(self) -> None:
        """Ask all trainings to save and end; go on with `step` until `finished`."""
        if self.stopping:
            return
        self.stopping = True
        self._events("stop")
        for entry in self.entries:
            if entry.submitted:
                self._pool.cancel(entry.attempt)

    def _is_held(self, entry: Entry) -> bool:
        return entry.watch is not None and entry.watch.look() is Holding.HELD

    def _submit(self, entry: Entry) -> None:
        run = entry.run
        entry.attempt, entry.submitted, entry.began = uuid.uuid4().hex, True, self._now()
        job = {
            "logdir": run.logdir, "command": [self._program, *run.arguments],
            "frames": run.frames, "attempt": entry.attempt, "environment": self._environment,
            "timing": dataclasses.asdict(self._timing),
        }  # fmt: skip
        self._pool.submit(job, run.name)
        self._events("submit", run=run.name, logdir=run.logdir, attempt=entry.attempt)

    def _ended(self, entry: Entry, ended: Ended) -> None:
        """Take note of the end of an attempt, or wait until the storage tells."""
        entry.submitted = False
        if ended.end is not None:
            self._judge(entry, ended.end)
            return
        entry.lost = ended.reason or "it is not known why"
        entry.watch = self._new_watch(entry.run)

    def _freed(self, entry: Entry) -> None:
        """Go on with a run that nobody works on any more."""
        entry.watch = None
        if not entry.lost:
            return
        reason, entry.lost = entry.lost, ""
        end = files.read_end(pathlib.Path(entry.run.logdir))
        if end.get("attempt") != entry.attempt or end.get("kind") == "stopped":
            seconds = self._now() - entry.began
            end = {**end, "kind": "lost", "reason": reason, "seconds": seconds}
        self._judge(entry, end)

    def _judge(self, entry: Entry, end: Mapping[str, Any]) -> None:
        """Decide what becomes of a run whose attempt ended so."""
        name, kind, reason = entry.run.name, end["kind"], end.get("reason", "")
        facts = {key: end[key] for key in ("frames", "seconds") if key in end}
        if kind == "done":
            entry.state, entry.note, entry.lines = "done", "", ()
            self._events("done", run=name, **facts)
            return
        if self.stopping and kind != "failed":
            self._events("stopped", run=name, **facts)
            return
        if end.get("seconds", 0.0) > FRUITFUL:
            entry.failures, entry.fruitless, entry.signature = 0, 0, ""
        entry.fruitless += 1
        if kind == "failed":
            signature = re.sub(r"0x[0-9a-f]+|\d+", "#", reason)
            entry.failures = entry.failures + 1 if signature == entry.signature else 1
            entry.signature, entry.lines = signature, end.get("lines", ())
            entry.after = self._now() + self._pause * entry.failures
        entry.note, entry.news = reason or "stopped by somebody else", True
        facts["reason"] = entry.note
        if kind == "failed":
            facts["lines"] = list(entry.lines)
        if entry.failures >= SAME_FAILURES:
            self._give_up(entry, f"failed {entry.failures} times in the same way", facts)
        elif entry.fruitless >= FRUITLESS:
            self._give_up(entry, f"ended {entry.fruitless} times within an hour", facts)
        else:
            self._events("failed" if kind == "failed" else "lost", run=name, **facts)

    def _give_up(self, entry: Entry, why: str, facts: Mapping[str, Any]) -> None:
        entry.state, entry.note = "failed", f"{why}: {facts['reason']}"
        self._events("given_up", run=entry.run.name, **{**facts, "reason": entry.note})
        end = {
            "kind": "given up", "attempt": entry.attempt, "time": time.time(), **facts,
            "reason": entry.note,
        }  # fmt: skip
        files.write_end(pathlib.Path(entry.run.logdir), end)
