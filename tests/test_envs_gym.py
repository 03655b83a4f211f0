import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from dreamerv2.common import envs
from dreamerv2.common.envs import wrappers
from dreamerv2.common.errors import UserError


def test_cart_pole_is_what_gymnasium_gives():
    plain = gymnasium.make("CartPole-v1")
    with envs.make("gym_CartPole-v1", seed=4) as env:
        assert env.obs_space == {"vector": envs.ObsSpec((4,), np.dtype("float32"))}
        batch = env.reset()
        plain.reset(seed=0)
        plain.unwrapped.state = batch["vector"][0].astype(np.float64)
        for step in range(200):
            index = step % 2
            batch = env.step(np.eye(2, dtype=np.float32)[[index]])
            obs, reward, terminated, _, _ = plain.step(index)
            np.testing.assert_allclose(batch["vector"][0], obs, rtol=1e-4, atol=1e-5)
            assert batch["reward"][0] == reward and batch["is_terminal"][0] == terminated
            if terminated:
                break
    plain.close()
    assert 5 < step < 199


def test_own_time_limit_truncates():
    with envs.make("gym_Pendulum-v1", num=2) as env:
        env.reset()
        batches = [env.step(np.zeros((2, 1), np.float32)) for _ in range(201)]
    assert [bool(batch["is_last"].all()) for batch in batches] == [False] * 199 + [True, False]
    assert batches[200]["is_first"].all() and not batches[200]["reward"].any()
    assert not any(batch["is_terminal"].any() for batch in batches)


def test_shorter_time_limit_with_repeat():
    with envs.make("gym_Pendulum-v1", time_limit=7, action_repeat=2) as env:
        env.reset()
        last = [bool(env.step(np.zeros((1, 1), np.float32))["is_last"][0]) for _ in range(8)]
    assert last == [False] * 6 + [True, False]


def test_actions_are_rescaled():
    class Echo(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,))
        action_space = gymnasium.spaces.Box(np.float32([0, -2]), np.float32([10, 2]))

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return np.zeros(2, np.float32), {}

        def step(self, action):
            return action, 0.0, False, False, {}

    with envs.make_from(Echo) as env:
        env.reset()
        batch = env.step(np.array([[0.0, 1.0]], np.float32))
    assert batch["vector"].tolist() == [[5, 2]]


@pytest.mark.parametrize(
    "task, length", [("FrozenLake-v1", 16), ("Taxi-v4", 500), ("Blackjack-v1", None)]
)
def test_discrete_observations(task, length):
    if length is None:
        with pytest.raises(UserError, match="'gym_Blackjack-v1' has the observation space Tuple"):
            envs.make(f"gym_{task}")
        return
    with envs.make(f"gym_{task}") as env:
        batch = env.reset()
        assert env.obs_space["vector"].shape == (length,)
        assert batch["vector"].sum() == 1 and batch["vector"].max() == 1


@pytest.mark.filterwarnings("ignore::UserWarning")  # About infinite bounds and wrappers.
@pytest.mark.parametrize("task", ["CartPole-v1", "Pendulum-v1", "FrozenLake-v1", "Acrobot-v1"])
def test_gymnasium_checker(task):
    env = gymnasium.make(task)
    wrapped = wrappers.wrap(env.unwrapped, name=task, action_repeat=2, time_limit=9)
    check_env(wrapped, skip_render_check=True)


def test_registration_travels_to_processes():
    code = (
        "import gymnasium\n"
        "from dreamerv2.common import envs\n"
        "from dreamerv2.common.envs.dummy import Count\n"
        "if __name__ == '__main__':\n"
        "  gymnasium.register('Mine-v0', entry_point=Count, kwargs={'length': 1})\n"
        "  with envs.make('gym_Mine-v0', num=2, parallel='process') as env:\n"
        "    print(env.reset()['count'].tolist())\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[[0.0, 0.0], [0.0, 0.0]]"


@pytest.mark.parametrize(
    "task, message",
    [
        ("gym_CartPol-v1", "'gym_CartPol-v1' is not registered .* did you mean gym_CartPole-v1"),
        ("gym_Taxi-v3", "'gym_Taxi-v3' is not registered .* did you mean gym_Taxi-v4"),
        ("gym_qwxzqwxz", "'gym_qwxzqwxz' is not registered .* register it with Gymnasium"),
        ("gym_no_such_mod:Foo-v0", "names the module 'no_such_mod', which cannot be imported"),
    ],
)
def test_unknown_ids(task, message):
    with pytest.raises(UserError, match=message) as error:
        envs.make(task)
    assert "\n" not in str(error.value)


def test_missing_dependency():
    def broken():
        raise gymnasium.error.DependencyNotInstalled("Box3D is missing,\nrun `pip install box3d`")

    gymnasium.register("Missing-v0", entry_point=broken)
    try:
        with pytest.raises(UserError, match=r"'gym_Missing-v0' needs a package.*pip install box3d"):
            envs.make("gym_Missing-v0")
    finally:
        del gymnasium.registry["Missing-v0"]
