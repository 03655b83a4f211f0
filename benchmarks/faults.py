"""Kills a run again and again, goes on with it each time, and looks whether anything is amiss.

    python benchmarks/faults.py --logdir /tmp/killed --kills 50

The run is the real program with tiny networks, on real Atari in two environments. Each attempt is
a process that sends itself SIGKILL at a random moment soon after something chosen began: filling
the replay, an update, an evaluation, the creation of a replay file, a flush, a checkpoint, a line
of metrics, or just its start. The last attempt ends with SIGTERM. Meanwhile every episode that
ended is noted in a file of its own. `benchmarks/invariants.py` then looks at all that is left.
"""

from __future__ import annotations

import argparse
import collections
import importlib
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time
import traceback
import zlib
from collections.abc import Callable
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

SETTINGS = {
    "task": "atari_pong", "action_repeat": "4", "steps": "1e7", "envs": "2", "prefill": "100",
    "time_limit": "40", "log_every": "40", "eval_every": "100", "eval_eps": "2", "save_every": "1",
    "train_every": "10", "dataset.batch": "2", "dataset.length": "4", "imag_horizon": "2",
    "replay.capacity": "400", "jit": "off",
}  # fmt: skip

# What a kill waits for: module, object, function; and seconds within which it happens then.
MOMENTS: dict[str, tuple[str, str, str, float]] = {
    "start": ("dreamerv2.train", "", "main", 5.0),
    "open": ("dreamerv2.common.replay_store", "", "load_streams", 0.01),
    "restore": ("dreamerv2.common.checkpoint", "Checkpoint", "restore", 0.3),
    "cut": ("dreamerv2.common.logger", "JSONLines", "truncate_after", 0.003),
    "prefill": ("dreamerv2.common.driver", "RandomPolicy", "__call__", 0.5),
    "row": ("dreamerv2.common.replay_writer", "Writer", "append", 0.0),
    "file": ("dreamerv2.common.replay_store", "", "create", 0.002),
    "update": ("dreamerv2.agent", "Agent", "train", 1.0),
    "evaluation": ("dreamerv2.training", "", "evaluate", 1.0),
    "flush": ("dreamerv2.common.replay", "Replay", "flush", 0.01),
    "checkpoint": ("dreamerv2.common.checkpoint", "Checkpoint", "_write", 0.1),
    "line": ("dreamerv2.common.logger", "JSONLines", "write", 0.001),
}
# One of them in so many calls is chosen.
CALLS = {"row": 120, "prefill": 30, "update": 3, "line": 2, "file": 3, "flush": 2, "checkpoint": 2}


def command(logdir: pathlib.Path, settings: dict[str, str]) -> list[str]:
    """Return the flags of the run."""
    flags = [word for key, value in settings.items() for word in (f"--{key}", value)]
    return ["--logdir", str(logdir), "--configs", "debug", *flags]


def note_episodes(path: pathlib.Path) -> None:
    """Let the training loop write down each episode at once: worker, length, sum of rewards."""
    from dreamerv2 import loop

    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    original = loop.Training._on_episode

    def on_episode(self: Any, episode: Any, worker: int) -> None:
        line = f"{worker} {len(episode['reward'])} {zlib.crc32(episode['reward'].tobytes())}\n"
        os.write(file, line.encode())
        original(self, episode, worker)

    loop.Training._on_episode = on_episode  # type: ignore[method-assign]


def kill_at(moment: str, count: int, delay: float, number: int) -> None:
    """Send a signal to this process some seconds after a function is called for the n-th time.

    After half a minute a kill comes anyway, whatever is going on.
    """
    module, owner, name, _ = MOMENTS[moment]
    place: Any = importlib.import_module(module)
    place = getattr(place, owner) if owner else place
    original: Callable[..., Any] = getattr(place, name)
    left = [count]

    def fire(seconds: float = delay) -> None:
        time.sleep(seconds)
        os.kill(os.getpid(), number)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            threading.Thread(target=fire, daemon=True).start()
        return original(*args, **kwargs)

    setattr(place, name, wrapped)
    if number == signal.SIGKILL:
        threading.Thread(target=fire, args=(30.0,), daemon=True).start()


def attempt(job: dict[str, Any]) -> int:
    """Be the process that trains and dies; return its exit status if it does not."""
    from dreamerv2 import train

    note_episodes(pathlib.Path(job["witness"]))
    kill_at(job["moment"], job["count"], job["delay"], job["signal"])
    return train.main(job["flags"])


def start(job: dict[str, Any], log: pathlib.Path, fresh: bool) -> int:
    """Run an attempt in a process of its own and return its exit status, negative for a signal.

    Args:
        job: See `attempt`.
        log: Receives what it prints.
        fresh: In a new interpreter; else in a fork of this one, which saves the imports.
    """
    with log.open("ab") as out:
        if fresh:
            line = [sys.executable, __file__, "--logdir", "-", "--job", json.dumps(job)]
            return subprocess.run(line, stdout=out, stderr=out, check=False).returncode
        pid = os.fork()
        if pid == 0:
            status = 70
            threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
            try:
                os.dup2(out.fileno(), 1)
                os.dup2(out.fileno(), 2)
                status = attempt(job)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                os._exit(status)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _end_with(parent: int) -> None:
    """End this process once its parent is gone."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(70)


def torture(
    logdir: pathlib.Path, kills: int, seconds: float, seed: int, fresh: bool = True
) -> dict[str, Any]:
    """Kill a run so many times, or until the time is up, then end it properly.

    Returns:
        Number of kills by moment, exit status and `problems` at the end.
    """
    from benchmarks.invariants import problems

    rng, done = random.Random(seed), collections.Counter[str]()
    witness, log = logdir.with_suffix(".episodes"), logdir.with_suffix(".log")
    logdir.parent.mkdir(parents=True, exist_ok=True)
    witness.touch()
    base = {"flags": command(logdir, SETTINGS), "witness": str(witness)}
    moments, begin, found = list(MOMENTS), time.monotonic(), []
    rng.shuffle(moments)
    for number in range(kills):
        if time.monotonic() - begin > seconds:
            break
        moment = moments[number % len(moments)]
        job = {
            **base, "moment": moment, "count": rng.randint(1, CALLS.get(moment, 1)),
            "delay": rng.random() * MOMENTS[moment][3], "signal": int(signal.SIGKILL),
        }  # fmt: skip
        status = start(job, log, fresh)
        done[moment] += status == -signal.SIGKILL
        if status != -signal.SIGKILL:
            found.append(f"an attempt to be killed at {job} ended with status {status}")
            break
    job = {**base, "moment": "line", "count": 3, "delay": 0.0, "signal": int(signal.SIGTERM)}
    status = start(job, log, fresh) if not found else 0
    if status:
        found.append(f"the last attempt ended with status {status}")
    found += problems(logdir, _witnessed(witness), SETTINGS)
    return {
        "kills": sum(done.values()), "moments": dict(done), "seconds": time.monotonic() - begin,
        "episodes": len(_witnessed(witness)), "problems": found,
    }  # fmt: skip


def _witnessed(path: pathlib.Path) -> list[tuple[int, int, int]]:
    rows = [tuple(map(int, line.split())) for line in path.read_text().splitlines()]
    return [(worker, length, crc) for worker, length, crc in rows]


def main() -> int:
    """Parse the command line, kill, print; return 1 if there is any problem."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--logdir", required=True, help="folder of the run, to be created")
    parser.add_argument("--kills", type=int, default=50, help="how often the run is killed")
    parser.add_argument("--seconds", type=float, default=1e9, help="no more kills after this time")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--fork", action="store_true", help="fork processes: no import for each")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job:
        return attempt(json.loads(args.job))
    if args.fork:
        from dreamerv2 import loop  # noqa: F401 - before the first fork, once for all.
    logdir = pathlib.Path(args.logdir).expanduser()
    result = torture(logdir, args.kills, args.seconds, args.seed, not args.fork)
    print(json.dumps(result, indent=2))
    return 1 if result["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
