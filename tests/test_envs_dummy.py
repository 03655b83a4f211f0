import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from dreamerv2.common import envs
from dreamerv2.common.driver import RandomPolicy
from dreamerv2.common.envs import wrappers
from dreamerv2.common.envs.dummy import ENVS, Catch, Count
from dreamerv2.common.errors import UserError


@pytest.mark.filterwarnings("ignore::UserWarning")  # About infinite bounds and wrappers.
@pytest.mark.parametrize("name", ENVS)
def test_gymnasium_checker(name):
    check_env(ENVS[name](), skip_render_check=True)
    check_env(wrappers.wrap(ENVS[name](), name=name, size=(16, 16)), skip_render_check=True)


def test_count_says_where_it_is():
    env = Count(length=2)
    obs, _ = env.reset(seed=3)
    assert obs["count"].tolist() == [0, 0] and obs["log_action"] == -1
    obs, reward, terminated, truncated, _ = env.step(2)
    assert obs["count"].tolist() == [0, 1] and obs["log_action"] == 2
    assert (reward, terminated, truncated) == (1, False, False)
    assert env.step(0)[1:4] == (2, True, False)
    obs, _ = env.reset()
    assert obs["count"].tolist() == [1, 0]
    env.step(0)
    obs, reward, terminated, truncated, _ = env.step(0)
    assert (terminated, truncated) == (False, True)
    assert np.all(obs["image"] == [1, 2, 0])


def test_variable_lengths():
    env = Count(length=2, variable=True)
    lengths = []
    env.reset(seed=0)
    for _ in range(5):
        done = False
        length = 0
        while not done:
            _, _, terminated, truncated, _ = env.step(1)
            done = terminated or truncated
            length += 1
        lengths.append(length)
        env.reset()
    assert lengths == [2, 3, 4, 2, 3]


def play(env, policy):
    image, _ = env.reset()
    total, ball = 0.0, None
    for step in range(Catch.LENGTH):
        cells = image[::8, ::8]
        if step < Catch.VISIBLE:
            assert cells[step, :, 0].sum() == 255
            ball = int(cells[step, :, 0].argmax())
        else:
            assert cells[..., 0].sum() == 0
        paddle = int(cells[-1, :, 1].argmax())
        image, reward, terminated, truncated, _ = env.step(policy(ball, paddle))
        assert not truncated and terminated == (step == Catch.LENGTH - 1)
        total += reward
    assert image[::8, ::8][-2, :, 0].sum() == 255
    return total


def test_catch_rewards_memory():
    env = Catch()
    env.reset(seed=0)
    perfect = [play(env, lambda b, p: 2 if b > p + 1 else 0 if b < p else 1) for _ in range(100)]
    assert np.mean(perfect) == 1
    rng = np.random.default_rng(0)
    random = [play(env, lambda b, p: int(rng.integers(3))) for _ in range(1000)]
    assert 0.2 < np.mean(random) < 0.3
    assert {p for p in perfect + random} == {0.0, 1.0}


def test_same_seed_same_games_and_other_environments_differ():
    def images(seed):
        with envs.make("dummy_catch", num=3, seed=seed) as env:
            policy = RandomPolicy(env.act_space, 3, 0)
            batches = [env.reset()] + [env.step(policy({})[0]) for _ in range(25)]
        return np.stack([batch["image"] for batch in batches])

    first = images(1)
    np.testing.assert_array_equal(first, images(1))
    assert (first != images(2)).any()
    assert (first[:, 0] != first[:, 1]).any() and (first[:, 1] != first[:, 2]).any()


def test_size_repeat_and_limit():
    with envs.make("dummy_count", size=(16, 24), action_repeat=3, time_limit=2) as env:
        assert env.obs_space["image"].shape == (16, 24, 3)
        assert env.action_repeat == 3
        env.reset()
        action = np.array([[1, 0, 0]], np.float32)
        batch = env.step(action)
        assert batch["image"].shape == (1, 16, 24, 3)
        assert batch["count"].tolist() == [[0, 3]] and batch["reward"] == 1 + 2 + 3
        batch = env.step(action)
        assert batch["reward"] == 4 + 5 + 6
        assert batch["is_last"] and not batch["is_terminal"]


def test_repeat_stops_at_the_end():
    with envs.make("dummy_count", action_repeat=4) as env:
        env.reset()
        for _ in range(3):
            batch = env.step(np.array([[1, 0, 0]], np.float32))
        assert batch["count"].tolist() == [[0, 10]] and batch["reward"] == 9 + 10
        assert batch["is_terminal"]


def test_unknown_name():
    with pytest.raises(UserError, match="'dummy_cach' does not exist: did you mean dummy_catch"):
        envs.make("dummy_cach")
