from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tiny

from dreamerv2 import replicas, train
from dreamerv2.agent import Agent
from dreamerv2.common.checkpoint import Checkpoint
from dreamerv2.common.errors import UserError

# Everything in which the whole batch matters: the mean KL against a threshold that some shares
# are above and others below, the running mean of rewards, clipping, decay, rare copies.
CHANGES: dict[str, Any] = {
    "dataset.batch": 4,
    "kl.free": 0.2,
    "kl.free_avg": True,
    "reward_norm.momentum": 0.9,
    "slow_target_update": 2,
    r".*_opt\.clip": 0.5,
    r".*_opt\.wd": 1e-3,
}


def agent_on(devices: int | str, changes: dict[str, Any]) -> Agent:
    return tiny.agent({**CHANGES, **changes, "devices": devices})


def data(seed: int) -> dict[str, np.ndarray]:
    return tiny.batch(leading=(4, 3), seed=seed)


def distance(one: dict[str, Any], two: dict[str, Any]) -> float:
    """Return the largest difference, relative to 1 or to the numbers if they are larger."""
    assert one.keys() == two.keys()
    pairs = [(np.asarray(one[key]), np.asarray(two[key])) for key in one]
    return float(max(np.max(np.abs(a - b) / (1 + np.abs(b))) for a, b in pairs))


def values(agent: Agent) -> dict[str, np.ndarray]:
    return {key: variable.read_value().numpy() for key, variable in agent.variables().items()}


def spread(agent: Agent) -> float:
    """Return the largest difference between the copies of a variable."""
    copies = [getattr(v, "values", (v,)) for v in agent.variables().values()]
    assert max(map(len, copies)) == agent.replicas.num
    return max(np.max(np.abs(c.numpy() - group[0].numpy())) for group in copies for c in group)


def measure(folder: str) -> dict[str, float]:
    """Train the same on one device and on several; runs in a process with four CPU devices."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 4)
    one = agent_on(1, {})
    two = agent_on(2, {"jit": "graph"})
    result = {"start": distance(values(two), values(one))}
    metrics: dict[str, list[float]] = {"losses": [], "others": [], "variables": [], "latents": []}
    for seed in range(3):
        (latent, ours), (wanted, theirs) = (a.train(data(seed), 0, None, False) for a in (two, one))
        exact = [k for k in theirs if "_std" not in k]  # Those are means over the shares.
        losses = [k for k in exact if "loss" in k or "norm" in k]
        metrics["losses"].append(distance(*({k: m[k] for k in losses} for m in (ours, theirs))))
        metrics["others"].append(distance(*({k: m[k] for k in exact} for m in (ours, theirs))))
        metrics["variables"].append(distance(values(two), values(one)))
        metrics["latents"].append(distance(latent, wanted))
    result.update({key: max(found) for key, found in metrics.items()})
    result["spread"] = spread(two)
    result["copies"] = two.replicas.num
    # A run goes on with another number of devices.
    Checkpoint(folder, two.variables(), {}).save()
    four = agent_on("all", {})
    assert Checkpoint(folder, four.variables(), {}).restore()
    result["restored"] = max(distance(values(four), values(two)), spread(four))
    for agent in (one, four):
        agent.train(data(4), 0, None, False)
    result["continued"] = distance(values(four), values(one))
    # Equal sequences on both devices give different samples.
    state, _ = two.train({k: np.repeat(v[:2], 2, 0)[[0, 2, 1, 3]] for k, v in data(5).items()}, 0)
    result["same_samples"] = float(np.all(state["stoch"][:2] == state["stoch"][2:]))
    result["spread_sampling"] = spread(two)
    action, _ = two.policy({k: v[:, 0] for k, v in data(0).items() if k != "action"})
    result["policy"] = float(action.shape == (4, 4))
    adamax = {r".*_opt\.opt": "adamax"}
    one, two = agent_on(1, adamax), agent_on(2, adamax)
    for agent in (one, two):
        agent.train(data(0), 0, None, False)
    result["adamax"] = max(distance(values(two), values(one)), spread(two))
    try:
        agent_on(3, {})
    except UserError as error:
        result["refused"] = float("set it to 6" in str(error))
    try:
        agent_on(2, {"jit": "xla"})
    except UserError as error:
        result["no_xla"] = float("set jit to auto" in str(error))
    return result


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    command = [sys.executable, __file__, str(tmp_path_factory.mktemp("checkpoint"))]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout.splitlines()[-1])


def test_several_devices_learn_what_one_learns(result: dict[str, float]) -> None:
    assert result["copies"] == 2 and result["start"] == 0
    for name in ("losses", "others", "variables", "latents", "adamax"):
        assert result[name] < 1e-5, name


def test_copies_stay_equal(result: dict[str, float]) -> None:
    assert result["spread"] == result["spread_sampling"] == 0


def test_a_run_goes_on_with_another_number_of_devices(result: dict[str, float]) -> None:
    assert result["restored"] == 0
    assert result["continued"] < 1e-5


def test_shares_draw_their_own_samples_and_policies_work(result: dict[str, float]) -> None:
    assert not result["same_samples"] and result["policy"]


def test_refuses_what_does_not_fit(result: dict[str, float]) -> None:
    assert result["refused"] and result["no_xla"]
    with pytest.raises(UserError, match="devices is 2, but TensorFlow finds 1 CPU here; set"):
        replicas.Replicas(2, 16)
    assert replicas.Replicas("all", 16).num == 1


def test_the_command_line_refuses_in_one_sentence(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--configs", "debug", "--logdir", str(tmp_path / "run"), "--devices", "64"]
    assert train.main(flags) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: devices is 64") and captured.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


if __name__ == "__main__":
    print(json.dumps({k: float(v) for k, v in measure(sys.argv[1]).items()}))
