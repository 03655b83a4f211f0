"""Several workers learn what one process learns, and stop, fail and go on together."""

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
import worker_runs

from dreamerv2 import cluster, workers
from dreamerv2.common.checkpoint_reader import VARIABLE, names
from dreamerv2.common.config import Config
from dreamerv2.common.errors import UserError

# Two or three processes that each start TensorFlow, several times: minutes on a busy machine.
pytestmark = pytest.mark.timeout(900)


def run(part: str, folder: pathlib.Path) -> None:
    command = [sys.executable, worker_runs.__file__, part, str(folder)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=800, env=env)
    logs = "\n".join(path.read_text() for path in sorted(folder.glob("*.log")))
    assert done.returncode == 0, logs[-3000:] + done.stderr[-3000:]


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, np.ndarray]]:
    folder = tmp_path_factory.mktemp("learn")
    run("learn", folder)
    return {index: dict(np.load(folder / f"{index}.npz")) for index in (-1, 0, 1)}


def test_two_workers_learn_what_one_process_learns(
    learned: dict[int, dict[str, np.ndarray]],
) -> None:
    one = learned[-1]
    keys = [key for key in one if key[0].isdigit() or key.startswith("metrics/")]
    assert sum("loss" in key for key in keys) > 20 and sum("grad_norm" in key for key in keys) == 9
    assert sum("/optimizers/" in key for key in keys) > 100
    for worker in (0, 1):
        for key in keys:
            if "_std" in key or key.endswith("seeds/policy"):
                continue  # Means over the workers; each worker's own.
            error = np.abs(learned[worker][key] - one[key]) / (1 + np.abs(one[key]))
            assert np.max(error) < 1e-5, key
    for key in (key for key in one if key.startswith("latent/")):
        both = np.concatenate([learned[worker][key] for worker in (0, 1)])
        np.testing.assert_allclose(both, one[key], atol=1e-5)


def test_workers_stay_equal_but_for_their_own_random_numbers(
    learned: dict[int, dict[str, np.ndarray]],
) -> None:
    first, second = learned[0], learned[1]
    for key in first:
        if key[0].isdigit() and not key.endswith("seeds/policy"):
            assert first[key].tobytes() == second[key].tobytes(), key
    assert np.array_equal(first["policy_seeds"], learned[-1]["policy_seeds"])
    assert not np.array_equal(first["policy_seeds"], second["policy_seeds"])
    # The same sequence, but other samples of its latents.
    assert not np.array_equal(first["sampled"], second["sampled"])


def test_all_conclude_the_same_from_an_exchange(learned: dict[int, dict[str, np.ndarray]]) -> None:
    for worker in (0, 1):
        # Somebody stops; done and steps are those of worker 0 alone.
        assert learned[worker]["agreed"].tolist() == [True, True, False, 7, -1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("train")
    run("train", folder)
    return folder


@pytest.fixture(scope="module")
def results(folder: pathlib.Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text())


def test_other_settings_are_refused_by_all_before_anything_is_written(
    results: dict[str, Any],
) -> None:
    found = results["settings"]
    assert found["status"] == [2, 2] and not found["written"]
    for output in found["output"]:
        errors = [line for line in output.splitlines() if line.startswith("error: ")]
        assert errors == [
            "error: workers 0 and 1 differ: discount is 0.99 and 0.9; start the same command on "
            "all machines."
        ]


def test_the_other_one_of_a_killed_worker_ends_with_a_sentence(results: dict[str, Any]) -> None:
    found = results["killed"]
    assert found["status"] == [1, -9] and found["seconds"] < 60
    output = found["output"][0]
    assert output.splitlines()[-1] == (
        "error: worker 1 ended or cannot be reached; start the same command on all machines again "
        "to go on from the last checkpoint."
    )
    assert "Traceback" not in output and "saved" not in output


def test_where_one_worker_fails_all_save(results: dict[str, Any]) -> None:
    found = results["failed"]
    assert found["status"] == [1, 70]
    first, second = found["output"]
    assert "A callback failed at" in second and "ZeroDivisionError" in second
    assert "error: worker 1 failed, its output says why; saved at" in first.splitlines()[-1]
    assert found["saved"] > results["killed"]["saved"]


def test_a_signal_to_one_worker_saves_and_ends_all(results: dict[str, Any]) -> None:
    found = results["stopped"]
    assert found["status"] == [0, 0]
    for output in found["output"]:
        assert "Resuming at" in output
        assert "saved; run the same command to continue." in output.splitlines()[-1]


def checkpoint(logdir: pathlib.Path) -> dict[str, np.ndarray]:
    reader = tf.train.load_checkpoint(str(logdir / "checkpoint" / names(logdir / "checkpoint")[0]))
    keys = [key for key in reader.get_variable_to_shape_map() if key.endswith(VARIABLE)]
    return {key[: -len(VARIABLE)]: reader.get_tensor(key) for key in keys if "counter" not in key}


def test_the_same_commands_go_on_with_a_new_machine_to_the_end(
    results: dict[str, Any], folder: pathlib.Path
) -> None:
    assert results["finished"]["status"] == [0, 0]
    ours, theirs = results["lines"]
    for lines in (ours, theirs):
        steps = [line["step"] for line in lines]
        assert steps == sorted(steps) and results["end"] <= steps[-1] <= results["end"] + 4
    # None is lost: one at the start, and one for each 10 steps of both from the first chosen on.
    assert ours[-1]["updates"] == 1 + len(range(42, results["end"] + 1, 10))
    assert theirs[-1]["updates"] == ours[-1]["updates"]
    # Both act and see for themselves, and only one plays evaluations.
    assert any("eval_return" in line for line in ours)
    assert not any("eval_return" in line for line in theirs)
    assert any("train_return" in line for line in theirs)
    logdirs = [folder / "run", folder / "run" / "workers" / "1"]
    for logdir in logdirs:
        assert Config.load(logdir / "config.yaml")["steps"] == results["end"]
    states = [checkpoint(logdir) for logdir in logdirs]
    assert states[0].keys() == states[1].keys() and len(states[0]) > 100
    for key, value in states[0].items():
        same = value.tobytes() == states[1][key].tobytes()
        assert same != key.endswith("seeds:policy"), key


def test_a_complete_run_says_so_on_all(results: dict[str, Any]) -> None:
    found = results["complete"]
    assert found["status"] == [0, 0]
    assert all("The run is complete at" in output for output in found["output"])


def test_ctrl_c_while_waiting_for_others_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(workers, "meet", interrupted)
    two = cluster.Cluster(("127.0.0.1:1", "127.0.0.1:2"), 1)
    with pytest.raises(UserError, match="interrupted while waiting for other workers"):
        workers.join(two, tiny.config(), print)
