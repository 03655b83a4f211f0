"""A run that goes on in another process makes the updates of the run that never stopped."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

HALF = 20
ROOT = pathlib.Path(__file__).resolve().parents[1]

# All that has a period or a memory is in the middle of it after the first half.
CHANGES: dict[str, Any] = {
    "task": "dummy_count",
    r"(en|de)coder\.cnn_keys": "$^",
    "dataset": {"batch": 2, "length": 4},
    "imag_horizon": 2,
    "prefill": 60,
    "steps": 61,
    "pretrain": 2 * HALF,
    "eval_eps": 0,
    "log_every": 7,
    "actor_ent": "linear(1e-1,1e-3,200)",
    "actor_grad": "both",
    "actor_grad_mix": "linear(1,0,100)",
    "slow_target_update": 6,
    "slow_target_fraction": 0.3,
    "reward_norm.momentum": 0.97,
    "expl_noise": 0.1,
    "jit": "graph",
}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "half": {"precision": 16, "model_opt.opt": "adamax", "actor_opt.opt": "nadam"},
}


def train(folder: pathlib.Path, changes: dict[str, Any], resume: bool) -> None:
    """Make updates up to the end, then write down all variables and the metrics of each.

    Where nothing is resumed the run is saved after the first half, and the folder copied.
    """
    from tiny import config

    from dreamerv2 import loop, optimizer, tasks
    from dreamerv2.agent import Agent
    from dreamerv2.api import Callback

    optimizer.Optimizer._GROWTH_INTERVAL = 9
    metrics: list[dict[str, float]] = []
    update = Agent.train

    def recorded(self: Agent, *args: Any, **kwargs: Any) -> Any:
        state, found = update(self, *args, **kwargs)
        metrics.append({key: float(value) for key, value in found.items()})
        return state, found

    Agent.train = recorded  # type: ignore[method-assign]

    class Watch(Callback):
        def on_update(self, run: Any) -> bool:
            if run.updates == HALF and not resume:
                run.save()
                shutil.copytree(folder / "once", folder / "twice")
                write(folder / "first.npz", run)
            if run.updates == 2 * HALF:
                write(folder / ("second.npz" if resume else "once.npz"), run)
            return run.updates < 2 * HALF

    def write(path: pathlib.Path, run: Any) -> None:
        found = {key: v.numpy() for key, v in run.agent.variables().items()}
        np.savez(path, metrics=json.dumps(metrics), **found)

    logdir = str(folder / ("twice" if resume else "once"))
    settings = config({**CHANGES, **changes, "logdir": logdir})
    loop.run(settings, lambda mode, seed: tasks.make_env(settings, mode, seed), Watch())


def in_process(function: Callable[..., None], *args: Any) -> int:
    """Start a process for a call, which ends with it; return its number."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            function(*args)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return pid


def main(folder: pathlib.Path) -> int:
    """Train every variant at once and in two processes; TensorFlow is imported only once."""
    sys.path.insert(0, str(ROOT))
    from dreamerv2 import loop  # noqa: F401

    failed = 0
    for name, changes in VARIANTS.items():
        (folder / name).mkdir()
        for resume in (False, True):
            pid = in_process(train, folder / name, changes, resume)
            failed += os.waitpid(pid, 0)[1] != 0
    return failed


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("resume")
    command = [sys.executable, __file__, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("name", VARIANTS)
def test_two_processes_make_the_updates_of_one(name: str, folder: pathlib.Path) -> None:
    once, first, second = (
        dict(np.load(folder / name / f"{part}.npz")) for part in ("once", "first", "second")
    )
    expected = json.loads(str(once.pop("metrics")))
    parts = [json.loads(str(part.pop("metrics"))) for part in (first, second)]
    assert [len(part) for part in parts] == [HALF, HALF]  # One process made each.
    assert len(expected) == 2 * HALF
    # As text, so that NaN is NaN and every bit of a number counts.
    assert [str(row) for row in parts[0] + parts[1]] == [str(row) for row in expected]
    assert once.keys() == second.keys()
    for key, value in once.items():
        assert value.tobytes() == second[key].tobytes(), key
    kinds = ("weights/", "optimizers/", "seeds/")
    assert all(any(key.startswith(kind) for key in once) for kind in kinds)
    changed = [key for key, value in once.items() if value.tobytes() != first[key].tobytes()]
    assert {"seeds/train"} <= set(changed)
    assert sum(key.startswith("weights/") for key in changed) > 20
    assert sum(key.startswith("optimizers/") for key in changed) > 40


def test_everything_was_in_the_middle_of_a_period(folder: pathlib.Path) -> None:
    half = dict(np.load(folder / "half" / "first.npz"))
    assert half["optimizers/model/good_updates"] % 9
    assert half["optimizers/model/loss_scale"] != 2.0**15
    plain = dict(np.load(folder / "plain" / "first.npz"))
    assert plain["behavior/updates"] % CHANGES["slow_target_update"]
    assert 0 < plain["behavior/reward_magnitude"] != 1


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
