"""Keeps one run going on one machine: a process between Ray and the training program.

It holds the lease of the run's folder, starts the training program in it, passes on the wish to
stop, and writes down how the run ended. It is nobody's child and so outlives the process that
started it, by as long as the training needs to save: then the run may continue elsewhere.

It is told what to do by a line of JSON on its standard input, and to stop by a second line or by
the end of the input, which comes when the process at the other end dies. It answers with a line of
JSON, the way the run ended; the end of its output says that it is gone.
"""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import pathlib
import re
import select
import signal
import subprocess
import sys
import time
from types import FrameType
from typing import Any

if not __package__:  # Started as a script: import this checkout, not files beside the script.
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[2])

from dreamerv2.cluster import VARIABLE
from dreamerv2.sweeps import files
from dreamerv2.sweeps.lease import Lease, LeaseLost, Timing

_TICK = 0.2
_PARENT_DIED = 1  # PR_SET_PDEATHSIG


@dataclasses.dataclass(frozen=True)
class Job:
    """What a keeper is told.

    Attributes:
        logdir: Folder of the run.
        command: The training program with its arguments.
        frames: Environment frames of the complete run.
        attempt: Name of this attempt, for `end.json`.
        environment: Variables for the training program, besides those that are there.
        timing: Of the lease.
        patience: Seconds that a training may take to save before it is killed.
    """

    logdir: str
    command: list[str]
    frames: int
    attempt: str
    environment: dict[str, str] = dataclasses.field(default_factory=dict)
    timing: dict[str, float] = dataclasses.field(default_factory=dict)
    patience: float = 900.0


class Keeper:
    """One attempt at a run.

    Args:
        job: What to do.
        orders: File descriptor; something to read there, or its end, means to stop.
    """

    def __init__(self, job: Job, orders: int) -> None:
        self._job, self._orders = job, orders
        self._logdir = pathlib.Path(job.logdir)
        self._lease = Lease(self._logdir / files.FOLDER, Timing(**job.timing))
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = False
        self._deadline = float("inf")

    def run(self) -> dict[str, Any]:
        """Do everything and return how it ended: see `_end`."""
        signal.signal(signal.SIGTERM, self._handle)
        signal.signal(signal.SIGINT, self._handle)
        try:
            while not self._lease.acquire(attempt=self._job.attempt):
                if self._wait():
                    return self._end("stopped", reason="stopped before it began")
            return self._train()
        except OSError as error:
            return self._end("failed", reason=f"{self._logdir} cannot be used: {error.strerror}")
        finally:
            if self._process is not None and self._process.poll() is None:
                self._process.kill()
                self._process.wait()
            self._lease.release()

    def _train(self) -> dict[str, Any]:
        begun = time.monotonic()
        environment = {**os.environ, **self._job.environment}
        environment.pop(VARIABLE, None)  # Each run has a process of its own, not workers.
        with open(self._logdir / files.OUTPUT, "ab") as output:
            skip = output.tell()
            self._process = subprocess.Popen(
                self._job.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                # Signals for the group of this process must not reach the training twice.
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        try:
            while self._process.poll() is None:
                self._lease.beat([self._process.pid])
                if self._wait():
                    self._stop()
                if time.monotonic() > self._deadline:
                    self._process.kill()
        except LeaseLost as error:
            self._process.kill()
            self._process.wait()
            # No word of it on the storage: that belongs to another process now.
            return self._end("lost", reason=str(error), seconds=time.monotonic() - begun)
        end = self._judge(skip, time.monotonic() - begun)
        files.write_end(self._logdir, end)
        return end

    def _wait(self) -> bool:
        """Wait for a moment and return whether to stop."""
        if self._stopping:
            time.sleep(_TICK)
        elif select.select([self._orders], [], [], _TICK)[0]:
            self._stopping = True
        return self._stopping

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True

    def _stop(self) -> None:
        """Ask the training once to save and end; a second signal would end it at once."""
        assert self._process is not None
        if self._deadline == float("inf"):
            self._process.terminate()
            self._deadline = time.monotonic() + self._job.patience

    def _judge(self, skip: int, seconds: float) -> dict[str, Any]:
        """Tell from the exit status and what is on the storage how the training ended."""
        assert self._process is not None
        code = self._process.returncode
        lines = files.read_output(self._logdir, skip)
        frames = files.read_metrics(self._logdir).frames
        if code == 0 and frames >= self._job.frames:
            return self._end("done", frames=frames, seconds=seconds)
        if code == 0 or (self._stopping and code == -signal.SIGTERM):
            # The latter: before it began to listen, when it had nothing to save.
            return self._end("stopped", frames=frames, seconds=seconds)
        reason = explain(code, lines)
        return self._end("failed", frames=frames, seconds=seconds, reason=reason, lines=lines)

    def _end(self, kind: str, **about: Any) -> dict[str, Any]:
        """Describe the end of an attempt.

        The kind is one of: done, all frames are there; stopped, saved and to be continued; failed,
        the program ended by itself; lost, others have the right to the folder.
        """
        return {"kind": kind, "attempt": self._job.attempt, "time": time.time(), **about}


def explain(code: int, lines: list[str]) -> str:
    """Say in a line why a program ended.

    Args:
        code: Exit status, or the number of a signal below zero.
        lines: What it printed last.
    """
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else "unknown"
        more = ", which is what a machine without free memory does" if code == -9 else ""
        return f"killed by signal {-code} ({name}){more}"
    errors = [line for line in lines if re.match(r"\w*(\.\w+)*(error|Error|Exception)\b.*:", line)]
    last = (errors or lines or ["it printed nothing"])[-1].removeprefix("error: ")
    return f"exit status {code}: {last}"


def _end_with_parent() -> None:
    """Let the training save if this keeper is killed, as then nobody holds the lease."""
    libc = ctypes.CDLL(None, use_errno=True)
    if hasattr(libc, "prctl"):
        libc.prctl(_PARENT_DIED, signal.SIGTERM)


def main() -> None:
    """Do what the first line of the standard input says."""
    line = b""
    while not line.endswith(b"\n"):  # Not more than the line, whose rest `select` would not see.
        byte = os.read(0, 1)
        if not byte:
            return
        line += byte
    if os.fork():
        os._exit(0)  # From now on nobody's child, whom nobody kills together with its parent.
    end = Keeper(Job(**json.loads(line)), 0).run()
    # Nobody may be there to read it any more.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.write(1, json.dumps(end).encode() + b"\n")


if __name__ == "__main__":
    main()
