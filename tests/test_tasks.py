from __future__ import annotations

import numpy as np
import pytest

from dreamerv2 import tasks
from dreamerv2.common.errors import UserError
from dreamerv2.logdir import default_config


@pytest.mark.parametrize(
    ("mode", "num", "wanted"), [("train", None, 3), ("eval", None, 2), ("eval", 5, 5)]
)
def test_number_of_environments(mode: str, num: int | None, wanted: int) -> None:
    config = default_config().update({"task": "dummy_catch", "envs": 3, "eval_eps": 2})
    with tasks.make_env(config, mode, 0, num) as env:
        assert env.num == wanted
        assert env.reset()["image"].shape == (wanted, 64, 64, 3)


def test_at_least_one_environment_where_there_are_no_evaluations() -> None:
    config = default_config().update({"task": "dummy_catch", "eval_eps": 0})
    with tasks.make_env(config, "eval", 0) as env:
        assert env.num == 1


def test_settings_reach_the_environment() -> None:
    changes = {"task": "gym_CartPole-v1", "action_repeat": 2, "time_limit": 3}
    with tasks.make_env(default_config().update(changes), "train", 0) as env:
        assert env.action_repeat == 2
        env.reset()
        action = env.act_space.sample(np.random.default_rng(0), 1)
        assert [bool(env.step(action)["is_last"][0]) for _ in range(3)] == [False, False, True]


def test_environments_of_ones_own_are_handed_over_in_python() -> None:
    with pytest.raises(UserError, match=r"'custom_maze' is an environment of your own.*\.api"):
        tasks.make_env(default_config().update({"task": "custom_maze"}), "eval", 0)
