"""What the tests of sweeps share: runs of the fake training, and keepers without Ray."""

from __future__ import annotations

import json
import os
import pathlib
import select
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from dreamerv2.sweeps.cost import Cost
from dreamerv2.sweeps.driver import Ended
from dreamerv2.sweeps.lease import Timing
from dreamerv2.sweeps.plan import Run

ROOT = pathlib.Path(__file__).resolve().parents[1]
TRAINING = str(ROOT / "tests" / "fake_training.py")
KEEPER = str(ROOT / "dreamerv2" / "sweeps" / "keeper.py")
QUICK = Timing(beat=0.2, fence=60.0, expire=120.0)


def fake_run(folder: pathlib.Path, task: str, seed: int = 1, steps: int = 40, **flags: Any) -> Run:
    logdir = folder / task / "dreamerv2" / str(seed)
    more = [text for key, value in flags.items() for text in (f"--{key}", str(value))]
    arguments = (
        "--task", task, "--seed", str(seed), "--logdir", str(logdir), "--steps", str(steps), *more
    )  # fmt: skip
    return Run(task, "dreamerv2", seed, str(logdir), arguments, 4 * steps, Cost(None, 0.0))


def history(run: Run) -> list[tuple[str, int, int, float]]:
    """What the trainings of a run did: what, step, process, time."""
    path = pathlib.Path(run.logdir) / "history.txt"
    rows = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return [(what, int(step), int(pid), float(when)) for what, step, pid, when in rows]


def check_history(run: Run) -> None:
    """No two trainings at once, each beginning where the last one saved, until the end."""
    saved, running = 0, None
    for what, step, pid, _ in history(run):
        if what == "begin":
            assert step == saved, history(run)
            running = pid
        assert pid == running, history(run)
        if what == "save":
            assert step >= saved
            saved = step
    assert saved == run.frames // 4


def wait_for(condition: Callable[[], Any], seconds: float = 120.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return result


class LocalPool:
    """Keepers as processes of this machine."""

    def __init__(self, room: int = 2) -> None:
        self.room = room
        self.keepers: dict[str, subprocess.Popen[bytes]] = {}
        self.names: dict[str, str] = {}
        self.most = 0

    def slots(self) -> int:
        return self.room

    def submit(self, job: Mapping[str, Any], name: str) -> None:
        command = [sys.executable, *job["command"]]
        keeper = subprocess.Popen(
            [sys.executable, KEEPER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        assert keeper.stdin
        keeper.stdin.write(json.dumps({**job, "command": command}).encode() + b"\n")
        self.keepers[job["attempt"]], self.names[job["attempt"]] = keeper, name
        self.most = max(self.most, len(self.keepers))

    def poll(self) -> list[Ended]:
        ended = []
        for attempt, keeper in list(self.keepers.items()):
            assert keeper.stdout
            if select.select([keeper.stdout], [], [], 0)[0]:
                answer = b""
                while data := os.read(keeper.stdout.fileno(), 2**16):
                    answer += data
                self._drop(attempt)
                ended.append(Ended(attempt, json.loads(answer) if answer else None, "no answer"))
        return ended

    def cancel(self, attempt: str) -> None:
        stdin = self.keepers[attempt].stdin
        assert stdin
        stdin.close()

    def break_off(self, attempt: str) -> Ended:
        """What happens if the process dies that Ray started: its ends of the pipes are closed."""
        self._drop(attempt)
        return Ended(attempt, None, "the worker died")

    def _drop(self, attempt: str) -> None:
        keeper = self.keepers.pop(attempt)
        assert keeper.stdin and keeper.stdout
        keeper.stdin.close()
        keeper.stdout.close()
        keeper.wait()

    def close(self) -> None:
        for attempt in list(self.keepers):
            self._drop(attempt)
