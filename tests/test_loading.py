"""A trained agent comes back from the folder of its run as it was."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
import tensorflow as tf
import tiny

from dreamerv2 import loading, spaces_file
from dreamerv2.agent import Agent
from dreamerv2.common.checkpoint import Checkpoint, Saved
from dreamerv2.common.errors import UserError

STATES = [{"steps": 30, "updates": 4}, {"steps": 50, "updates": 6}]


def leave_run(path: pathlib.Path, seed: int = 5) -> Agent:
    """Write a run with two checkpoints and return its agent; weights grow by 1 in between."""
    config = tiny.config({"task": "gym_CartPole-v1", "action_repeat": 2, "seed": seed})
    agent = Agent(config, tiny.VECTOR, tiny.DISCRETE, seed)
    path.mkdir(parents=True)
    config.save(path / "config.yaml")
    spaces_file.save_spaces(path, tiny.VECTOR, tiny.DISCRETE)
    progress = iter(STATES)
    saved = {"progress": Saved(lambda: next(progress), lambda state: None)}
    checkpoint = Checkpoint(path / "checkpoint", agent.variables(), saved)
    for _ in STATES:
        for key, variable in agent.variables().items():
            if key.startswith("weights/"):
                variable.assign_add(tf.ones_like(variable))
        checkpoint.save()
    return agent


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[pathlib.Path, Agent]:
    path = tmp_path_factory.mktemp("logdir") / "run"
    return path, leave_run(path)


def weights(agent: Agent) -> dict[str, np.ndarray]:
    variables = {k: v for k, v in agent.variables().items() if k.startswith("weights/")}
    return tiny.values(variables)


def content(path: pathlib.Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def cut(path: pathlib.Path) -> None:
    path.write_bytes(path.read_bytes()[:500])


def actions(agent: Agent) -> np.ndarray:
    agent.seed_evaluation(3)
    batch, state, result = tiny.batch(leading=(6,)), None, []
    for _ in range(3):
        action, state = agent.policy(batch, state, mode="eval")
        result.append(action.numpy())
    return np.stack(result)


def test_gives_weights_spaces_and_progress_and_changes_nothing(
    original: tuple[pathlib.Path, Agent],
) -> None:
    path, agent = original
    before = content(path)
    run = loading.load_run(path)
    assert tiny.same(weights(run.agent), weights(agent))
    np.testing.assert_array_equal(actions(run.agent), actions(agent))
    assert (run.checkpoint, run.steps, run.updates, run.frames) == ("ckpt-2", 50, 6, 100)
    assert (run.obs_space, run.act_space) == (tiny.VECTOR, tiny.DISCRETE)
    assert run.config.seed == 5 and run.path == path
    assert content(path) == before


@pytest.mark.parametrize("name", ["1", "ckpt-1", "checkpoint/ckpt-1"])
def test_an_older_checkpoint_by_name_with_settings_changed(
    original: tuple[pathlib.Path, Agent], name: str
) -> None:
    path, agent = original
    run = loading.load_run(path, name, {"eval_noise": 0.5})
    assert (run.checkpoint, run.steps, run.config.eval_noise) == ("ckpt-1", 30, 0.5)
    for key, value in weights(agent).items():
        np.testing.assert_allclose(weights(run.agent)[key], value - 1, rtol=1e-5, atol=1e-6)


def test_a_checkpoint_that_is_not_there(original: tuple[pathlib.Path, Agent]) -> None:
    with pytest.raises(UserError, match=r"no checkpoint '9' in .*; choose from ckpt-2, ckpt-1"):
        loading.load_run(original[0], "9")


def test_falls_back_to_the_checkpoint_before_and_says_so(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    leave_run(tmp_path / "run")
    cut(tmp_path / "run" / "checkpoint" / "ckpt-2.data-00000-of-00001")
    assert loading.load_run(tmp_path / "run").steps == 30
    assert "ckpt-2 is damaged and passed over" in caplog.text
    with pytest.raises(UserError, match=r"ckpt-2 in .* cannot be read"):
        loading.load_run(tmp_path / "run", "2")
    cut(tmp_path / "run" / "checkpoint" / "ckpt-1.data-00000-of-00001")
    with pytest.raises(UserError, match=r"ckpt-2, ckpt-1 in .* cannot be read") as caught:
        loading.load_run(tmp_path / "run")
    assert "\n" not in str(caught.value)


def test_a_run_without_a_checkpoint(tmp_path: pathlib.Path) -> None:
    tiny.config().save(tmp_path / "config.yaml")
    with pytest.raises(UserError, match="without a checkpoint so far; let it train"):
        loading.load_run(tmp_path)


def test_spaces_and_steps_of_runs_of_earlier_versions(tmp_path: pathlib.Path) -> None:
    config = tiny.config({"task": "gym_CartPole-v1"})
    with loading.tasks.make_env(config, "eval", 0) as env:
        agent = Agent(config, env.obs_space, env.act_space)
        spaces = env.obs_space, env.act_space
    config.save(tmp_path / "config.yaml")
    states = {
        "progress": Saved(lambda: {"updates": 2}, lambda state: None),
        "replay": Saved(lambda: {"streams": {"0": [44, 40, 4, 1], "1": [5, 4, 1, 0]}}, print),
    }
    Checkpoint(tmp_path / "checkpoint", agent.variables(), states).save()
    run = loading.load_run(tmp_path)
    assert (run.obs_space, run.act_space) == spaces
    assert (run.steps, run.updates) == (44, 2)


def test_an_exported_run_is_the_same_agent_without_optimizers(
    original: tuple[pathlib.Path, Agent], tmp_path: pathlib.Path
) -> None:
    path, agent = original
    loading.export_run(loading.load_run(path), tmp_path / "small")
    run = loading.load_run(tmp_path / "small")
    assert tiny.same(weights(run.agent), weights(agent))
    assert (run.steps, run.updates, run.act_space) == (50, 6, tiny.DISCRETE)
    assert str(path) not in (tmp_path / "small" / "config.yaml").read_text()
    with pytest.raises(UserError, match="is not empty"):
        loading.export_run(run, tmp_path / "small")
    size = sum(len(data) for data in content(tmp_path / "small" / "checkpoint").values())
    assert size < 0.5 * sum(
        p.stat().st_size for p in (path / "checkpoint").iterdir() if "ckpt-2" in p.name
    )
