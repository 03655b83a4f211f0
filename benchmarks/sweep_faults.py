"""Breaks a real sweep in every way that it must survive, and checks what is left of it.

    python benchmarks/sweep_faults.py --folder /tmp/sweep_faults

Starts a Ray cluster of two nodes on this machine and a `debug` sweep of three Atari games with two
seeds on it. Meanwhile kills a training, the Ray worker of another, a node, and the sweep itself,
which is started again, stopped by Ctrl-C, and started once more. Looks several times a second at
which trainings there are. Afterwards: every run is complete; no two trainings worked on one folder;
each went on from no earlier than what was saved; scores could be read all the time. Takes about
five minutes on two free cores, and prints JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

TASKS = ("atari_pong", "atari_boxing", "atari_breakout")


class Watcher(threading.Thread):
    """Looks at which trainings there are, and remembers any two for one folder."""

    def __init__(self, folder: pathlib.Path) -> None:
        super().__init__(daemon=True)
        self._folder = str(folder)
        self.trainings: dict[str, int] = {}
        self.twice: list[tuple[str, int, int]] = []
        self.looks = 0
        self.over = False

    def run(self) -> None:
        """Look until it is over."""
        while not self.over:
            self.look()
            time.sleep(0.1)

    def look(self) -> None:
        """Look once at all processes."""
        found: dict[str, dict[int, int]] = {}
        for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes().decode().split("\0")
                state, parent = (path.parent / "stat").read_text().rpartition(")")[2].split()[:2]
            except OSError:
                continue
            if state == "Z" or not any(word.endswith("dreamerv2/train.py") for word in words):
                continue
            if "--logdir" not in words:
                continue
            logdir = words[words.index("--logdir") + 1]
            if logdir.startswith(self._folder):
                found.setdefault(logdir, {})[int(path.parent.name)] = int(parent)
        trainings = {}
        for logdir, parents in found.items():
            # A child that has not become another program yet is no training.
            pids = [pid for pid, parent in parents.items() if parent not in parents]
            if len(pids) > 1:
                self.twice.append((logdir, *pids[:2]))
            trainings[logdir] = pids[0]
        self.trainings, self.looks = trainings, self.looks + 1


class Faults:
    """The sweep, its cluster, and what is done to them.

    Args:
        folder: Of the sweep; must not exist.
        steps: Agent steps of each run.
        parallel: Runs at the same time.
    """

    def __init__(self, folder: pathlib.Path, steps: int, parallel: int) -> None:
        from ray.cluster_utils import Cluster

        self.folder, self.done = folder, list[str]()
        self._node = {"num_cpus": parallel, "include_dashboard": False,
                      "object_store_memory": 80 * 2**20}  # fmt: skip
        self.cluster = Cluster()
        self._add_node()  # The head.
        self.node = self._add_node()
        self.watcher = Watcher(folder)
        self.watcher.start()
        self._command = [
            sys.executable, str(ROOT / "dreamerv2" / "sweep.py"), "--tasks", ",".join(TASKS),
            "--seeds", "2", "--configs", "atari", "debug", "--logdir", str(folder), "--address",
            self.cluster.address, "--max-parallel", str(parallel), "--steps", str(steps),
            "--save_every", "3",
        ]  # fmt: skip
        self._saved: list[tuple[str, pathlib.Path, int]] = []
        self.tables = 0

    def _add_node(self) -> Any:
        """Add a node; on a busy machine Ray may not wait long enough for itself."""
        for attempt in range(5):
            try:
                return self.cluster.add_node(**self._node)
            except Exception as error:  # Ray raises nothing narrower.
                print(f"attempt {attempt}: {error}", file=sys.stderr)
        raise RuntimeError("Ray does not start on this machine")

    def say(self, text: str) -> None:
        """Note what was done."""
        self.done.append(text)
        print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)

    def start(self) -> subprocess.Popen[bytes]:
        """Start the sweep, for the first time or again."""
        self.say("start the sweep")
        log = open(self.folder.with_suffix(".log"), "ab")  # noqa: SIM115
        return subprocess.Popen(self._command, stdout=log, stderr=log)

    def wait(self, condition: Callable[[], Any], seconds: float = 1200) -> Any:
        """Wait for something and return it."""
        deadline = time.monotonic() + seconds
        while not (result := condition()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"after: {self.done}")
            time.sleep(0.1)
        return result

    def learned(self) -> list[tuple[str, int]]:
        """Trainings that go on right now and have saved something since they began."""
        result = []
        for logdir, pid in self.watcher.trainings.items():
            folder = pathlib.Path(logdir)
            try:
                begun = pathlib.Path(f"/proc/{pid}").stat().st_mtime
            except OSError:
                continue
            saves = list(folder.glob("checkpoint/*.index"))
            if saves and max(save.stat().st_mtime for save in saves) > begun + 1:
                result.append((logdir, pid))
        return result

    def remember(self) -> None:
        """Copy all checkpoints, to compare with where the runs go on."""
        for logdir in list(self.watcher.trainings):
            source = pathlib.Path(logdir) / "checkpoint"
            if (source / "checkpoint").exists():  # Names the newest that is whole.
                target = self.folder.with_suffix(".saved") / str(len(self._saved))
                try:
                    shutil.copytree(source, target)
                except (OSError, shutil.Error):  # A file was replaced meanwhile.
                    continue
                size = (pathlib.Path(logdir) / "output.log").stat().st_size
                self._saved.append((logdir, target, size))

    def read_table(self) -> None:
        """Make the table of the scores so far."""
        command = [sys.executable, str(ROOT / "common" / "scores.py"), "table1", "--indir",
                   str(self.folder), "--baselines"]  # fmt: skip
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode and "eval_return" not in made.stderr + made.stdout:
            raise AssertionError(made.stderr)
        self.tables += not made.returncode

    def run(self) -> None:
        """Do everything."""
        sweep = self.start()
        logdir, pid = self.wait(self.learned)[0]
        self.remember()
        self.say(f"kill the training of {logdir}")
        os.kill(pid, signal.SIGKILL)
        self.wait(lambda: self.watcher.trainings.get(logdir, pid) != pid)
        logdir, pid = self.wait(self.learned)[0]
        self.remember()
        self.say(f"kill the Ray worker of {logdir}")
        os.kill(self._ray_worker(logdir), signal.SIGKILL)
        self.wait(lambda: self.watcher.trainings.get(logdir, pid) != pid)
        self.read_table()
        self.wait(self.learned)
        self.remember()
        self.say("kill the second node, add a third")
        self.cluster.remove_node(self.node, allow_graceful=False)
        self.node = self._add_node()
        self.wait(self.learned)
        self.remember()
        self.say("kill the sweep")
        before = set(self.watcher.trainings.items())
        sweep.kill()
        sweep.wait()
        sweep = self.start()
        self.wait(lambda: set(self.learned()) - before)
        self.read_table()
        self.remember()
        self.say("stop the sweep by Ctrl-C")
        sweep.send_signal(signal.SIGINT)
        if sweep.wait() != 1 or self.watcher.trainings:
            raise AssertionError(f"status {sweep.returncode}, left: {self.watcher.trainings}")
        sweep = self.start()
        if sweep.wait():
            raise AssertionError("the sweep did not complete")
        self.say("complete")
        begin = time.monotonic()
        if self.start().wait():
            raise AssertionError("a complete sweep is not complete")
        self.say(f"nothing to do in {time.monotonic() - begin:.0f} s")

    def _ray_worker(self, logdir: str) -> int:
        """The process of Ray that runs a task of this name."""
        name = "/".join(pathlib.Path(logdir).parts[-3:])
        for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if path.read_bytes().startswith(f"ray::{name}".encode()):
                    return int(path.parent.name)
            except OSError:
                continue
        raise AssertionError(f"no worker of Ray runs {name}")

    def check(self) -> dict[str, Any]:
        """Compare what is there with what must be."""
        from dreamerv2.sweeps import status

        statuses = status.read_sweep(self.folder)
        assert [s.state for s in statuses] == ["done"] * 6, statuses
        assert all(s.frames == s.total for s in statuses)
        assert not self.watcher.twice, self.watcher.twice
        resumed = [self._resumed(*saved) for saved in self._saved]
        lines = (self.folder / "sweep.jsonl").read_text().splitlines()
        events = [json.loads(line) for line in lines]
        self.read_table()
        return {
            "done": self.done,
            "runs": [f"{s.name}: {s.frames} frames" for s in statuses],
            "two_trainings_of_a_run": len(self.watcher.twice),
            "looks_at_all_processes": self.watcher.looks,
            "resumed_saved_frames": [row for row in resumed if row],
            "tables_made": self.tables,
            "events": {kind: sum(e["event"] == kind for e in events)
                       for kind in dict.fromkeys(e["event"] for e in events)},
            "reasons": [e["reason"] for e in events if "reason" in e],
        }  # fmt: skip

    def _resumed(self, logdir: str, saved: pathlib.Path, size: int) -> tuple[int, int] | None:
        """Frames where a run went on, and of the checkpoint that there was before."""
        import tensorflow as tf

        latest = (saved / "checkpoint").read_text()
        match = re.search(r'^model_checkpoint_path: "(.*)"', latest, re.MULTILINE)
        assert match
        reader = tf.train.load_checkpoint(str(saved / match[1]))
        key = next(k for k in reader.get_variable_to_shape_map() if k.startswith("states/progress"))
        frames = 4 * json.loads(reader.get_tensor(key))["steps"]
        text = (pathlib.Path(logdir) / "output.log").read_bytes()[size:].decode()
        found = re.search(r"Resuming at ([\d,]+) frames", text)
        if not found:  # It was complete before the fault.
            return None
        at = int(found[1].replace(",", ""))
        assert at >= frames, (logdir, at, frames)
        return at, frames

    def close(self) -> None:
        """End the cluster."""
        self.watcher.over = True
        self.cluster.shutdown()


def main() -> None:
    """Parse the command line, break, check, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", required=True, help="Of the sweep; must not exist.")
    parser.add_argument("--steps", type=int, default=1500, help="Agent steps of each run.")
    parser.add_argument("--parallel", type=int, default=2, help="Runs at the same time.")
    args = parser.parse_args()
    folder = pathlib.Path(args.folder).absolute()
    if folder.exists():
        parser.error(f"the folder {folder} is there already; name a new one")
    # A program in the background of a shell, and what it starts, would not listen to Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    begin = time.monotonic()
    faults = Faults(folder, args.steps, args.parallel)
    try:
        faults.run()
        report = faults.check()
    finally:
        faults.close()
    print(json.dumps({**report, "seconds": round(time.monotonic() - begin)}, indent=2))


if __name__ == "__main__":
    main()
