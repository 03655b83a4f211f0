"""Where every run of a sweep stands, read from the shared storage alone."""

from __future__ import annotations

import dataclasses
import pathlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dreamerv2.common.errors import UserError
from dreamerv2.sweeps import files
from dreamerv2.sweeps.lease import Timing, is_gone, read_holder
from dreamerv2.sweeps.plan import Run

# In the order in which a person wants to see them.
STATES = ("running", "failed", "lost", "waiting", "done")


@dataclasses.dataclass(frozen=True)
class Status:
    """Where a run stands.

    Attributes:
        name: Task, method and seed.
        state: running; waiting, also to be started again; lost, its machine is not heard of any
            more; failed, given up; done.
        frames: So far.
        total: Of the complete run.
        score: Last return.
        fps: Frames per second, while it runs.
        node: Machine that it runs on.
        note: Why it failed or waits to be started again.
        lines: What it printed last, if it failed.
    """

    name: str
    state: str
    frames: int
    total: int
    score: float | None = None
    fps: float | None = None
    node: str = ""
    note: str = ""
    lines: Sequence[str] = ()

    @property
    def left(self) -> float | None:
        """Seconds until it is complete, None if that is not known."""
        return max(self.total - self.frames, 0) / self.fps if self.fps else None


@dataclasses.dataclass(frozen=True)
class Summary:
    """All runs together.

    Attributes:
        counts: State -> number of runs.
        frames: So far.
        total: When all are complete.
        fps: Of all that run.
    """

    counts: Mapping[str, int]
    frames: int
    total: int
    fps: float

    @property
    def left(self) -> float | None:
        """Seconds until all are complete at this speed, None if that is not known."""
        return (self.total - self.frames) / self.fps if self.fps else None


def read(name: str, logdir: pathlib.Path, total: int, now: float, timing: Timing) -> Status:
    """Read where a run stands.

    Args:
        name: Of the run.
        logdir: Its folder.
        total: Environment frames when it is complete.
        now: By the clock of the storage.
        timing: Of its lease.
    """
    metrics, end = files.read_metrics(logdir), files.read_end(logdir)
    holder, beat = read_holder(logdir / files.FOLDER)
    facts: dict[str, Any] = {"score": metrics.score}
    kind = end.get("kind")
    if holder:
        gone = now - beat > timing.expire or is_gone(holder)
        state = "lost" if gone else "running"
        facts.update(node=holder.get("host", ""), fps=metrics.fps)
        if gone:
            facts.update(fps=None, note="its machine is not heard of; starts again elsewhere")
    elif files.is_complete(end, total):
        state = "done"
    elif kind == "given up":
        state = "failed"
    else:
        state = "waiting"
    if not holder and kind in ("failed", "given up"):
        facts.update(note=end.get("reason", ""), lines=end.get("lines", ()))
    return Status(name, state, min(metrics.frames, total), total, **facts)


def summarize(statuses: Iterable[Status]) -> Summary:
    """Add up the runs."""
    statuses = list(statuses)
    alive = [status for status in statuses if status.state != "failed"]
    return Summary(
        Counter(status.state for status in statuses),
        sum(status.frames for status in alive),
        sum(status.total for status in alive),
        sum(status.fps or 0.0 for status in statuses if status.state == "running"),
    )


def write_plan(folder: pathlib.Path, runs: Sequence[Run]) -> None:
    """Leave the plan for those who ask for the status."""
    (folder / files.FOLDER).mkdir(parents=True, exist_ok=True)
    plan = [{"name": run.name, "frames": run.frames} for run in runs]
    files.write_json(folder / "sweep.json", {"runs": plan})


def read_sweep(folder: pathlib.Path, timing: Timing | None = None) -> list[Status]:
    """Read where all runs of the last sweep in a folder stand.

    Raises:
        UserError: The folder holds no sweep.
    """
    runs = files.read_json(folder / "sweep.json").get("runs")
    if not runs:
        raise UserError(
            f"--logdir {str(folder)!r} holds no sweep (there is no sweep.json in it); name the "
            "folder that a sweep was started with"
        )
    now, timing = files.storage_time(folder), timing or Timing()
    return [read(run["name"], folder / run["name"], run["frames"], now, timing) for run in runs]
