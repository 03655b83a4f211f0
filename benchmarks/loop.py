"""Measures everything in training that is neither the update, nor the policy, nor the environment.

    python benchmarks/loop.py --configs atari --updates 1300
    python benchmarks/loop.py --configs atari small --updates 2000 --real

The real training loop runs, with the real driver, replay, prefetching, metrics, logs and
checkpoints. By default update and policy return what their first call gave, the update after a
sleep of `--update_ms`, so that the rest is measured as a fast GPU would see it: the next batch is
read while the device computes. `--real` calls them each time. Prints JSON: milliseconds an update
for update, policy, environment and the rest, the share of the rest, resident memory over the run,
and how much of two days 200M frames leave for updates and policy calls. `--parts` times the parts
of the rest as well, which makes it longer, by about 0.1 ms an update.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import pathlib
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

# The paper's run: frames, frames an agent step, agent steps an update.
FRAMES, REPEAT, EVERY = 200e6, 4, 16
DAYS = 2

SETTINGS: dict[str, Any] = {
    "prefill": 2000,
    "pretrain": 0,
    "eval_eps": 0,
    "save_every": 20,
    "replay.capacity": 50000,
}


class Clock:
    """Sums the time that is spent in each part; parts within parts count for themselves."""

    def __init__(self) -> None:
        self.seconds: collections.Counter[str] = collections.Counter()
        self.calls: collections.Counter[str] = collections.Counter()
        self._inner = [0.0]

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with its time added to a part."""

        def call(*args: Any, **kwargs: Any) -> Any:
            begin = time.perf_counter()
            self._inner.append(0.0)
            try:
                return function(*args, **kwargs)
            finally:
                taken = time.perf_counter() - begin
                self.seconds[name] += taken - self._inner.pop()
                self._inner[-1] += taken
                self.calls[name] += 1

        return call

    def reset(self) -> None:
        """Forget what was measured so far."""
        self.seconds.clear()
        self.calls.clear()


def resident() -> float:
    """Return the resident memory of this process in MB."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def measure(config: Any, updates: int, real: bool, update_ms: float, parts: bool) -> dict[str, Any]:
    """Run the loop in this process and return what is printed."""
    from dreamerv2 import loop, tasks
    from dreamerv2.agent import Agent
    from dreamerv2.api import Callback
    from dreamerv2.common.checkpoint import Checkpoint
    from dreamerv2.common.envs.vector import VecEnv
    from dreamerv2.common.prefetch import Prefetcher
    from dreamerv2.common.replay import Replay
    from dreamerv2.reporting import Reporter

    clock = Clock()

    def once(function: Callable[..., Any], wait: float = 0.0) -> Callable[..., Any]:
        results: list[Any] = []

        def call(*args: Any, **kwargs: Any) -> Any:
            if not results:
                results.append(function(*args, **kwargs))
            if wait:
                time.sleep(wait)
            return results[0]

        return function if real else call

    def patch(owner: Any, method: str, name: str, wrap: Callable[..., Any] = lambda f: f) -> None:
        setattr(owner, method, clock.timed(name, wrap(getattr(owner, method))))

    patch(Agent, "train", "update", lambda function: once(function, update_ms / 1e3))
    patch(Agent, "policy", "policy", once)
    patch(loop.Training, "_policy", "policy")  # With the copy of the action from the device.
    patch(VecEnv, "step", "environment")
    patch(Checkpoint, "start", "checkpoint")
    if parts:
        patch(Replay, "add", "replay_add")
        patch(Prefetcher, "__next__", "next_batch")
        patch(Reporter, "update", "metrics")
        patch(Reporter, "write_updates", "logging")
    begin = 0.0
    memory: list[float] = []

    class Watch(Callback):
        def on_update(self, run: Any) -> bool | None:
            nonlocal begin
            warm = 2 if real else max(10, updates // 10)
            if run.updates == warm:
                clock.reset()
                begin = time.perf_counter()
            if run.updates >= warm and (run.updates - warm) % max(1, updates // 20) == 0:
                memory.append(resident())
            if run.updates < warm + updates:
                return None
            clock.seconds["wall"] = time.perf_counter() - begin
            clock.calls["steps"] = clock.calls["environment"]
            self.seconds, self.calls = dict(clock.seconds), dict(clock.calls)
            return False

    watch = Watch()
    loop.run(config, lambda mode, seed: tasks.make_env(config, mode, seed), watch)
    if not hasattr(watch, "seconds"):
        sys.exit("interrupted before all updates were made")
    return report(watch.seconds, watch.calls, updates, config.envs, memory)


def report(
    seconds: dict[str, float], calls: dict[str, int], updates: int, envs: int, memory: list[float]
) -> dict[str, Any]:
    """Return the measured parts an update, the shares and the arithmetic of a whole run."""
    wall, saves = seconds.pop("wall"), calls.get("checkpoint", 0)
    saving = seconds.pop("checkpoint", 0.0)
    wall -= saving  # Far more frequent than every ten minutes; its share is computed below.
    work = sum(seconds.get(name, 0.0) for name in ("update", "policy", "environment"))
    parts = {name: 1e3 * value / updates for name, value in sorted(seconds.items())}
    parts["rest"] = 1e3 * (wall - sum(seconds.values())) / updates
    overhead = wall - work
    steps = calls["steps"]
    env_ms = 1e3 * seconds["environment"] / steps
    count = FRAMES / REPEAT
    fixed = (env_ms / envs + 1e3 * overhead / steps / envs) * count / 1e3
    left = DAYS * 86400 - fixed
    return {
        "updates": updates,
        "agent_steps": steps * envs,
        "ms_per_update": {name: round(value, 4) for name, value in parts.items()},
        "overhead_ms_per_update": 1e3 * overhead / updates,
        "overhead_share": overhead / wall,
        "checkpoint": {
            "saves": saves,
            "ms_each_in_the_loop": 1e3 * saving / saves if saves else None,
            "share_at_one_in_600_s": saving / saves / 600 if saves else None,
        },
        "memory_mb": {
            "start": memory[0],
            "middle": memory[len(memory) // 2],
            "end": memory[-1],
            "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        },
        "two_days_200m_frames": {
            "policy_calls": count,
            "updates": count / EVERY,
            "hours_environment": env_ms / envs * count / 3.6e6,
            "hours_loop": 1e3 * overhead / steps / envs * count / 3.6e6,
            "hours_left_for_updates_and_policy": left / 3600,
            "ms_left_per_update_with_16_policy_calls": 1e3 * left / (count / EVERY),
        },
    }


def main() -> None:
    """Run the benchmark and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configs", nargs="+", default=["atari"], help="configurations in order")
    parser.add_argument("--task", default="atari_pong", help="environment")
    parser.add_argument("--updates", type=int, default=500, help="updates measured")
    parser.add_argument("--real", action="store_true", help="call update and policy each time")
    parser.add_argument("--parts", action="store_true", help="also time the parts of the rest")
    parser.add_argument("--update_ms", type=float, default=20.0, help="an update that is not real")
    parser.add_argument("--dir", default=None, help="where the temporary folder is made")
    args = parser.parse_args()

    from dreamerv2.common import flags
    from dreamerv2.common.quiet import quiet_start

    with quiet_start(), tempfile.TemporaryDirectory(dir=args.dir) as folder:
        config = flags.build(ROOT / "dreamerv2" / "configs.yaml", args.configs)
        settings = {**SETTINGS, "task": args.task, "logdir": folder + "/run", "steps": 1e8}
        with contextlib.redirect_stdout(sys.stderr):
            result = measure(
                config.update(settings), args.updates, args.real, args.update_ms, args.parts
            )
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
