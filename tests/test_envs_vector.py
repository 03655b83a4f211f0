import functools
import os
import subprocess
import sys

import gymnasium
import numpy as np
import pytest

from dreamerv2.common import envs
from dreamerv2.common.envs.dummy import Count
from dreamerv2.common.envs.vector import env_seeds
from dreamerv2.common.errors import UserError

PARALLEL = ["none", "process"]


class Broken(Count):
    """Fails in some way at step 3."""

    def __init__(self, how):
        super().__init__()
        self.how = how

    def step(self, action):
        obs, reward, terminated, truncated, info = super().step(action)
        if obs["count"][1] == 3:
            if self.how == "raise":
                raise KeyError("oh no")
            if self.how == "exit":
                os._exit(1)
            if self.how == "reward":
                reward = float("nan")
            if self.how == "obs":
                obs["count"][0] = np.inf
            if self.how == "shape":
                obs["count"] = np.zeros(3, np.float32)
        return obs, reward, terminated, truncated, info


def run_until_error(how, parallel, message):
    env = envs.make_from(functools.partial(Broken, how), num=2, parallel=parallel, name="mine")
    actions = np.eye(3, dtype=np.float32)[[0, 1]]
    env.reset()
    env.step(actions)
    env.step(actions)
    with pytest.raises(envs.EnvError, match=message):
        env.step(actions)
    processes = getattr(env._vector, "processes", [])
    assert len(processes) == (2 if parallel == "process" else 0)
    env.close()
    env.close()
    assert not any(process.is_alive() for process in processes)
    with pytest.raises(envs.EnvError, match="closed"):
        env.step(actions)


@pytest.mark.parametrize("parallel", PARALLEL)
@pytest.mark.parametrize(
    "how, message",
    [
        (
            "raise",
            r"environment 0 of 'mine' failed in step\(\), at step 3 of its episode: KeyError: 'oh "
            r"no' \(in test_envs_vector.py, line 29\)\n(.|\n)*Trace",
        ),
        ("reward", "environment 0 of 'mine' gave a value of 'reward' .* not finite at step 3 "),
        ("obs", "environment 0 of 'mine' gave a value of 'count' .* not finite at step 3 "),
        ("shape", r"environment [01] of 'mine' failed.*\(3,\) although its space says \(2,\)"),
    ],
)
@pytest.mark.filterwarnings("error")  # Gymnasium reports them as well.
def test_failing_environments(how, message, parallel):
    run_until_error(how, parallel, message)


def test_dying_process():
    run_until_error("exit", "process", "worker process of the environment 'mine' died")


@pytest.mark.parametrize("parallel", PARALLEL)
def test_layout_of_batches(parallel):
    with envs.make("dummy_count", num=3, parallel=parallel) as env:
        assert list(env.obs_space) == ["count", "image", "log_action"]
        actions = np.eye(3, dtype=np.float32)
        batches = [env.reset()] + [env.step(actions) for _ in range(24)]
    for step, batch in enumerate(batches):
        episode, within = divmod(step, 11)
        assert batch["count"].tolist() == [[episode, within]] * 3
        assert batch["image"][:, 0, 0].tolist() == [[episode, within, 0]] * 3
        assert batch["reward"].tolist() == [within] * 3
        assert batch["is_first"].tolist() == [within == 0] * 3
        assert batch["is_last"].tolist() == [within == 10] * 3
        assert batch["is_terminal"].tolist() == [within == 10 and episode == 0] * 3
        assert batch["log_action"].tolist() == ([0, 1, 2] if within else [-1, -1, -1])
        assert {key: value.dtype.name for key, value in batch.items()} == {
            "count": "float32",
            "image": "uint8",
            "log_action": "float32",
            "reward": "float32",
            "is_first": "bool",
            "is_last": "bool",
            "is_terminal": "bool",
        }


def test_processes_give_what_one_process_gives():
    def play(parallel):
        with envs.make("dummy_catch", num=2, seed=5, parallel=parallel) as env:
            actions = np.eye(3, dtype=np.float32)[[0, 2]]
            return np.stack([env.reset()["image"]] + [env.step(actions)["image"] for _ in "a" * 25])

    np.testing.assert_array_equal(play("none"), play("process"))


def test_only_the_first_reset_is_seeded():
    with envs.make("dummy_count") as env:
        assert env.reset()["count"][0, 0] == 0
        assert env.reset()["count"][0, 0] == 1


def test_seeds():
    assert env_seeds(0, 3) == env_seeds(0, 4)[:3]
    assert len({*env_seeds(0, 100), *env_seeds(1, 100)}) == 200
    assert all(0 <= seed < 2**31 for seed in env_seeds(0, 100))


def test_wrong_use():
    with envs.make("dummy_count", num=2) as env:
        with pytest.raises(RuntimeError, match="reset"):
            env.step(np.zeros((2, 3), np.float32))
        env.reset()
        with pytest.raises(ValueError, match=r"\(2, 3\) but have the shape \(3, 3\)"):
            env.step(np.zeros((3, 3), np.float32))


@pytest.mark.parametrize(
    "task, options, message",
    [
        ("walker_walk", {}, "'walker_walk' names no known suite: use atari_<game>, dmc_"),
        ("atari", {}, "'atari' names no known suite"),
        ("dummy_count", {"num": 0}, "envs cannot be 0"),
        ("dummy_count", {"parallel": "thread"}, "envs_parallel cannot be 'thread'"),
        ("dummy_count", {"parallel": "native"}, "'native' exists for Atari only"),
        ("dummy_count", {"seed": -1}, "seed cannot be -1"),
        ("dummy_count", {"action_repeat": 0}, "action_repeat cannot be 0"),
        ("dummy_count", {"time_limit": -1}, "time_limit cannot be -1"),
        ("dummy_count", {"size": (64,)}, r"render_size cannot be \[64\]"),
        ("dummy_count", {"size": (64, 0)}, r"render_size cannot be \[64, 0\]"),
        ("atari_pong", {"atari_sticky": 2.0}, "atari_sticky is a probability, not 2.0"),
        ("atari_pong", {"atari_noops": -1}, "atari_noops cannot be -1"),
    ],
)
def test_refused_options(task, options, message):
    with pytest.raises(UserError, match=message) as error:
        envs.make(task, **options)
    assert "\n" not in str(error.value)


def test_environments_of_the_user():
    with envs.make_from(Count(length=2)) as env:
        assert env.num == 1 and env.reset()["count"].tolist() == [[0, 0]]
    with envs.make_from(lambda: Count(length=2), num=2, parallel="process") as env:
        assert env.reset()["count"].tolist() == [[0, 0], [0, 0]]


def test_refused_environments_of_the_user():
    count = Count()
    with pytest.raises(UserError, match=r"envs 2 .* needs a function"):
        envs.make_from(count, num=2)
    with pytest.raises(UserError, match="'process' needs a function"):
        envs.make_from(count, parallel="process")
    with pytest.raises(UserError, match="the same object twice"):
        envs.make_from(lambda: count, num=2)
    with pytest.raises(UserError, match=r"'custom' is a builtins.int, not a gymnasium.Env"):
        envs.make_from(lambda: 3)
    with pytest.raises(UserError, match="'custom' is of the type int"):
        envs.make_from(3)
    with pytest.raises(UserError, match="Atari only"):
        envs.make_from(count, parallel="native")
    vector = gymnasium.make_vec("CartPole-v1")
    with pytest.raises(UserError, match=r"not a gymnasium.Env"):
        envs.make_from(vector)
    vector.close()


def test_importing_is_light():
    code = (
        "import sys, dreamerv2.common.driver, dreamerv2.common.envs;"
        "print([m for m in ('gymnasium', 'ale_py', 'cv2', 'tensorflow') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


class Old(Count):
    """Has the interface of the old gym."""

    def step(self, action):
        obs, reward, terminated, truncated, info = super().step(action)
        return obs, reward, terminated or truncated, info


class OldReset(Count):
    def reset(self, **kwargs):
        return super().reset(**kwargs)[0]


@pytest.mark.parametrize("repeat", [1, 2])
def test_environments_of_the_old_gym_are_one_sentence(repeat):
    env = envs.make_from(Old, name="mine", action_repeat=repeat)
    env.reset()
    with pytest.raises(UserError, match=r"4 values as the old gym did: write `return obs, rew"):
        env.step(np.eye(3, dtype=np.float32)[:1])
    env.close()
    with pytest.raises(UserError, match=r"reset\(\) .* type dict as the old gym .*obs, info`"):
        envs.make_from(OldReset, name="mine").reset()


def test_the_space_of_the_environment_itself_is_known():
    with envs.make_from(Count, size=(16, 16), time_limit=3, action_repeat=2) as env:
        assert env.env_space == Count().observation_space
        assert env.obs_space["image"].shape == (16, 16, 3)
    with envs.make("atari_pong", parallel="native") as env:
        assert env.env_space is None
