"""MiniGrid behind our interface: images, names, ends."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from dreamerv2.common import envs
from dreamerv2.common.envs import extras, wrappers
from dreamerv2.common.envs import minigrid as ours
from dreamerv2.common.errors import UserError

pytest.importorskip("minigrid", reason="the extra minigrid is not installed")

LEFT, RIGHT, FORWARD = (np.eye(7, dtype=np.float32)[[i]] for i in range(3))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", ["DoorKey-8x8", "LavaGapS7", "BabyAI-GoToObj"])
def test_gymnasium_checker(name: str) -> None:
    build = ours.constructor(name)
    check_env(build(), skip_render_check=True)
    check_env(wrappers.wrap(build(), name=f"minigrid_{name}"), skip_render_check=True)


def test_only_the_image_in_front_of_the_agent() -> None:
    with envs.make("minigrid_Empty-8x8", num=2, size=(56, 56)) as env:
        assert set(env.obs_space) == {"image"} and env.act_space.sizes == (7,)
        image = env.reset()["image"][0]
        # The agent is a red triangle in the middle of the bottom row of 7 by 7 cells.
        cell = image[48:56, 24:32].astype(int)
        assert (cell[..., 0] - cell[..., 1]).max() > 100
        assert (env.step(np.repeat(LEFT, 2, 0))["image"][0] != image).any()
    with envs.make("minigrid_Empty-8x8", size=(64, 80)) as env:
        assert env.reset()["image"].shape == (1, 64, 80, 3)


def test_images_are_those_of_the_library() -> None:
    from minigrid import wrappers as theirs

    plain = gymnasium.make("MiniGrid-KeyCorridorS3R1-v0")
    plain = theirs.ImgObsWrapper(theirs.RGBImgPartialObsWrapper(plain))
    env = ours.constructor("KeyCorridorS3R1")()
    assert env.observation_space == plain.observation_space
    np.testing.assert_array_equal(env.reset(seed=1)[0], plain.reset(seed=1)[0])
    for action in (0, 2, 1, 2, 3):
        np.testing.assert_array_equal(env.step(action)[0], plain.step(action)[0])


def test_goal_is_terminal_and_the_limit_is_not() -> None:
    with envs.make("minigrid_Empty-5x5") as env:
        env.reset()
        for action in (FORWARD, FORWARD, RIGHT, FORWARD):
            assert not env.step(action)["is_last"]
        batch = env.step(FORWARD)
        assert batch["is_last"] and batch["is_terminal"]
        # One for success, less 0.9 for the share of the 100 steps that was needed.
        assert batch["reward"][0] == pytest.approx(1 - 0.9 * 5 / 100)
        assert env.step(LEFT)["is_first"]
        batches = [env.step(LEFT) for _ in range(100)]
    assert [bool(b["is_last"][0]) for b in batches] == [False] * 99 + [True]
    assert not any(b["is_terminal"][0] for b in batches)


def test_lava_is_terminal() -> None:
    with envs.make("minigrid_DistShift1") as env:
        rng, ends = np.random.default_rng(0), []
        env.reset()
        while len(ends) < 3:
            batch = env.step(np.eye(7, dtype=np.float32)[[rng.integers(3)]])
            if batch["is_last"]:
                ends.append((bool(batch["is_terminal"][0]), float(batch["reward"][0])))
    assert (True, 0.0) in ends


def test_seeds() -> None:
    def images(seed: int) -> np.ndarray:
        with envs.make("minigrid_MultiRoom-N2-S4", num=2, seed=seed) as env:
            steps = [env.reset()] + [env.step(np.repeat(FORWARD, 2, 0)) for _ in range(50)]
        return np.stack([batch["image"] for batch in steps])

    first = images(0)
    np.testing.assert_array_equal(first, images(0))
    assert (first != images(1)).any() and (first[:, 0] != first[:, 1]).any()


@pytest.mark.parametrize(
    "name, env_id",
    [
        ("DoorKey-8x8", "MiniGrid-DoorKey-8x8-v0"),
        ("doorkey-8x8", "MiniGrid-DoorKey-8x8-v0"),
        ("MiniGrid-DoorKey-8x8-v0", "MiniGrid-DoorKey-8x8-v0"),
        ("MultiRoom-N4-S5", "MiniGrid-MultiRoom-N4-S5-v1"),
        ("MultiRoom-N4-S5-v0", "MiniGrid-MultiRoom-N4-S5-v0"),
        ("BabyAI-GoToObj", "BabyAI-GoToObj-v0"),
    ],
)
def test_names(name: str, env_id: str) -> None:
    assert ours.constructor(name)().spec.id == env_id


@pytest.mark.parametrize(
    "task, message",
    [
        ("DoorKey-8x9", "did you mean minigrid_DoorKey-8x8 or"),
        ("MultiRoom-N4-S5-v7", "it has the versions v0, v1"),
        ("qqqqq", "use minigrid_DoorKey-8x8"),
    ],
)
def test_refused_names(task: str, message: str) -> None:
    with pytest.raises(UserError, match=f"'minigrid_{task}' names an environment .*{message}"):
        envs.make(f"minigrid_{task}")


def test_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "_installed", lambda package: False)
    with pytest.raises(UserError, match=r"run python -m pip install 'minigrid>=3\.0'"):
        envs.make("minigrid_DoorKey-8x8")
