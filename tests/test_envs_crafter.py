"""Crafter behind Gymnasium: spaces, seeds, ends, achievements."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from dreamerv2.common import envs
from dreamerv2.common.envs import crafter as ours
from dreamerv2.common.envs import extras, wrappers
from dreamerv2.common.errors import UserError

crafter = pytest.importorskip("crafter", reason="the extra crafter is not installed")

NOOP, SLEEP = 0, 6


@pytest.fixture(autouse=True)
def small_world(monkeypatch: pytest.MonkeyPatch) -> None:
    """A world of 64 by 64 cells takes a second to generate."""
    small = functools.partial(ours._reproducible(), area=(16, 16))
    monkeypatch.setattr(ours, "_reproducible", lambda: small)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_gymnasium_checker() -> None:
    check_env(ours.constructor("reward", size=(64, 64))(), skip_render_check=True)
    env = ours.constructor("noreward", size=(64, 64))()
    check_env(wrappers.wrap(env, name="crafter_noreward"), skip_render_check=True)


def test_spaces() -> None:
    with envs.make("crafter_reward", num=2, size=(40, 60)) as env:
        assert env.act_space.sizes == (17,)
        assert env.obs_space["image"].shape == (40, 60, 3)
        logs = {key for key, spec in env.obs_space.items() if spec.shape == ()}
        assert logs == set(env.obs_space) - {"image"} and len(logs) == 1 + 22
        batch = env.reset()
        assert batch["image"].shape == (2, 40, 60, 3) and batch["image"].std() > 10


def play(seed: int, steps: int, episodes: int = 1) -> np.ndarray:
    """Images and rewards of random actions, as one array of sums."""
    waste = [object() for _ in range(seed * 100)]  # Other addresses, so another order of sets.
    env = ours.Crafter()
    rng = np.random.default_rng(1)
    sums = []
    for episode in range(episodes):
        obs, _ = env.reset(seed=seed if episode == 0 else None)
        sums.append([int(obs["image"].sum()), 0.0])
        for _ in range(steps):
            obs, reward, terminated, _, _ = env.step(rng.integers(17))
            sums.append([int(obs["image"].sum()), reward])
            if terminated:
                break
    del waste
    return np.array(sums)


def test_the_same_seed_gives_the_same_world_every_time() -> None:
    first = play(3, 100, episodes=2)
    np.testing.assert_array_equal(first, play(3, 100, episodes=2))
    assert first[0, 0] != play(4, 0)[0, 0]
    # The second episode is another world.
    assert len(np.unique(play(3, 0, episodes=3)[:, 0])) > 1


def test_objects_are_taken_in_the_order_of_their_creation() -> None:
    env = ours._reproducible()(seed=0)
    env.reset()
    seen = []

    def balance(chunk, objs, *args) -> None:
        seen.append([env._world._obj_map[tuple(obj.pos)] for obj in objs])

    env._balance_object = balance
    for chunk, objs in env._world.chunks.items():
        env._balance_chunk(chunk, objs)
    assert max(map(len, seen)) > 1
    assert all(indices == sorted(indices) for indices in seen)


def test_achievements_and_rewards() -> None:
    """Wake up by sleeping: the surest achievement there is."""
    for name, scale in (("reward", 1), ("noreward", 0)):
        env = ours.constructor(name, size=(18, 18))()
        obs, _ = env.reset(seed=0)
        assert obs["log_reward"] == 0
        env._world._player.inventory["energy"] = 8
        unlocked, rewards = [], []
        for _ in range(200):
            obs, reward, *_ = env.step(SLEEP if not unlocked else NOOP)
            assert reward == pytest.approx(scale * float(obs["log_reward"]), abs=1e-6)
            rewards.append(float(obs["log_reward"]))
            unlocked = [k for k in obs if k.startswith("log_achievement_") and obs[k] > 0]
            if unlocked:
                break
        assert unlocked == ["log_achievement_wake_up"]
        assert rewards[-1] >= 0.9
        obs, _ = env.reset()
        assert not any(obs[key] for key in obs if key.startswith("log_"))


def test_death_is_terminal_and_the_limit_is_not() -> None:
    env = ours.Crafter()
    env.reset(seed=0)
    env._world._player.health = 0
    assert env.step(NOOP)[2:4] == (True, False)
    env.reset()
    env._world._length = 3
    assert [env.step(NOOP)[2:4] for _ in range(3)] == [(False, False)] * 2 + [(False, True)]
    with envs.make("crafter_noreward", time_limit=2) as vector:
        vector.reset()
        batches = [vector.step(np.eye(17, dtype=np.float32)[[NOOP]]) for _ in range(2)]
    assert batches[1]["is_last"] and not batches[1]["is_terminal"]


def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="'crafter_rewards' does not exist: use crafter_reward or"):
        envs.make("crafter_rewards")
    with pytest.raises(UserError, match=r"render_size is \[64, 17\]"):
        envs.make("crafter_reward", size=(64, 17))
    monkeypatch.setattr(extras, "_installed", lambda package: False)
    with pytest.raises(UserError, match=r"run python -m pip install 'crafter>=1\.8\.3'"):
        envs.make("crafter_reward")
