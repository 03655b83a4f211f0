"""Runs of two workers on loopback, each in a process; TensorFlow is imported only once.

python tests/worker_runs.py learn <folder>     three updates by one process and by two
python tests/worker_runs.py train <folder>     the command line: killed, stopped, continued
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import pathlib
import shutil
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dreamerv2.cluster import ALONE, read_cluster

FLAGS = [
    "--configs", "debug", "--task", "dummy_catch", "--prefill", "40", "--train_every", "10",
    "--log_every", "20", "--eval_every", "100", "--save_every", "0.5", "--dataset.length", "4",
    "--imag_horizon", "2", "--log_keys_video", "none", "--replay.capacity", "1e5",
]  # fmt: skip


def cluster_text(index: int, ports: list[int]) -> str:
    """Return a TF_CONFIG for one of several workers on this machine."""
    addresses = [f"127.0.0.1:{port}" for port in ports]
    return json.dumps(
        {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
    )


def free_ports(number: int = 2) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class Pair:
    """Two processes, each with its TF_CONFIG; what they print goes to files."""

    def __init__(self, folder: pathlib.Path, name: str, function: Callable[[int], int]) -> None:
        ports = free_ports()
        self._logs = [folder / f"{name}{index}.log" for index in range(2)]
        self.pids = [self._start(i, cluster_text(i, ports), function) for i in range(2)]

    def _start(self, index: int, text: str, function: Callable[[int], int]) -> int:
        pid = os.fork()
        if pid == 0:
            status = 70
            try:
                file = os.open(self._logs[index], os.O_WRONLY | os.O_CREAT)
                os.dup2(file, 1)
                os.dup2(file, 2)
                os.environ["TF_CONFIG"] = text
                status = function(index)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        return pid

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so, while both work."""
        while not condition():
            for pid in self.pids:
                assert os.waitpid(pid, os.WNOHANG)[0] == 0, self.output()
            time.sleep(0.02)

    def output(self) -> list[str]:
        return [log.read_text() for log in self._logs]

    def result(self) -> dict[str, Any]:
        """Wait for both; return statuses (minus the signal for the killed) and output."""
        begun = time.monotonic()
        status = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in self.pids]
        return {"status": status, "output": self.output(), "seconds": time.monotonic() - begun}


def learn(folder: pathlib.Path) -> None:
    """Let one process and two make the same updates, and write down all that comes of them."""
    import test_replicas
    import tiny

    from dreamerv2.agent import Agent
    from dreamerv2.workers import Workers, join

    def process(index: int) -> int:
        cluster = ALONE if index < 0 else read_cluster(os.environ)
        config = tiny.config({**test_replicas.CHANGES, "jit": "graph"})
        replicas = join(cluster, config, print)
        agent = Agent(config, tiny.VECTOR, tiny.DISCRETE, 0, replicas)
        workers = Workers(cluster, agent.replicas)
        if index == 1:  # As a worker that lost its checkpoint.
            tiny.randomize([v for v in agent.variables().values() if v.dtype.is_floating])
        workers.share(agent.variables(), Nothing(), False)
        found: dict[str, Any] = {"policy_seeds": test_replicas.values(agent)["seeds/policy"]}
        for update in range(3):
            data = test_replicas.data(update)
            part = slice(None) if index < 0 else slice(2 * index, 2 * index + 2)
            workers.exchange(False, False, False, False, 0)
            state, metrics = agent.train(
                {k: v[part] for k, v in data.items()}, 0, None, sample=False
            )
            found.update({f"metrics/{update}/{k}": v.numpy() for k, v in metrics.items()})
            found.update({f"latent/{update}/{k}": v.numpy() for k, v in state.items()})
            found.update({f"{update}/{k}": v for k, v in test_replicas.values(agent).items()})
        agreed = workers.exchange(index == 1, False, index == 0, False, 7 + index)
        found["agreed"] = [agreed.stop, agreed.done, agreed.save, agreed.steps, agreed.failed]
        same = {k: np.concatenate([v[:1], v[:1]]) for k, v in test_replicas.data(5).items()}
        state, _ = agent.train(same, 0)
        found["sampled"] = state["stoch"].numpy()
        np.savez(folder / f"{index}.npz", **found)
        return 0

    result = Pair(folder, "learn", process).result()
    assert result["status"] == [0, 0], result["output"]
    process(-1)


class Nothing:
    """Counters of a run that has none."""

    def common(self) -> dict[str, Any]:
        return {}

    def join(self, state: dict[str, Any]) -> None:
        pass


def train(folder: pathlib.Path) -> None:
    """Kill, stop, continue and misuse the command line; write down what each time came of it."""
    from dreamerv2 import loop, train  # TensorFlow is imported here, once for all.
    from dreamerv2.api import Callback, RunView

    logdir = folder / "run"
    results: dict[str, Any] = {}

    def start(name: str, *extra: str, only: Sequence[str] = ()) -> Pair:
        def process(index: int) -> int:
            flags = [*FLAGS, "--logdir", str(logdir), *extra, *(only if index else ())]
            return train.main(flags)

        return Pair(folder, name, process)

    def lines(index: int) -> list[dict[str, Any]]:
        path = [logdir, logdir / "workers" / "1"][index] / "metrics.jsonl"
        text = path.read_text() if path.exists() else ""
        return [json.loads(line) for line in text.splitlines()]

    def saved() -> int:
        found = [path.stem for path in logdir.glob("checkpoint/*.index")]
        return max((int(name.split("-")[1]) for name in found), default=0)

    pair = start("settings", only=["--discount", "0.9", "--devices", "1"])
    results["settings"] = {**pair.result(), "written": logdir.exists()}

    pair = start("killed", "--steps", "1e6")
    pair.until(lambda: saved() >= 2)
    os.kill(pair.pids[1], signal.SIGKILL)
    results["killed"] = pair.result()
    results["killed"]["saved"] = saved()

    class Fails(Callback):
        def on_update(self, run: RunView) -> None:
            raise ZeroDivisionError("in a callback of one worker")

    def fail(index: int) -> int:
        if index == 1:  # In this process only.
            loop.run = functools.partial(loop.run, callbacks=Fails())
        return train.main([*FLAGS, "--logdir", str(logdir), "--steps", "1e6"])

    results["failed"] = {**Pair(folder, "failed", fail).result(), "saved": saved()}

    pair = start("stopped", "--steps", "1e6")
    count = len(lines(1))
    pair.until(lambda: len(lines(1)) >= count + 3)
    os.kill(pair.pids[1], signal.SIGTERM)
    results["stopped"] = pair.result()

    shutil.rmtree(logdir / "workers")  # A machine is replaced by another one.
    last = max(line["step"] for line in lines(0))
    end = str(int(last) + 60)
    pair = start("finished", "--steps", end)
    results["finished"] = pair.result()
    results["lines"] = [lines(index) for index in range(2)]
    results["end"] = int(end)
    results["complete"] = start("complete", "--steps", end).result()
    (folder / "results.json").write_text(json.dumps(results))


if __name__ == "__main__":
    {"learn": learn, "train": train}[sys.argv[1]](pathlib.Path(sys.argv[2]))
