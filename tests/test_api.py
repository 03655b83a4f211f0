"""Training on one's own environments, and using what was trained, from Python."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
from typing import Any

import gymnasium
import numpy as np
import pytest
import tiny
from gymnasium import spaces

import dreamerv2.api as dv2
from dreamerv2.common.config import Config
from dreamerv2.common.errors import UserError
from dreamerv2.policy import Policy

ROOT = pathlib.Path(__file__).resolve().parents[1]


class Room(gymnasium.Env):
    """Images that are resized, a vector, an integer; two actions at once."""

    log: list[str]  # Set by tests that want to know what is called.

    def __init__(self) -> None:
        self.observation_space = spaces.Dict(
            {
                "camera": spaces.Box(0, 255, (20, 24, 3), np.uint8),
                "inside": spaces.Dict({"speed": spaces.Box(-1, 1, (2,), np.float64)}),
                "door": spaces.Discrete(3, start=1),
            }
        )
        self.action_space = spaces.MultiDiscrete([2, 3])
        self.open = True

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        if hasattr(self, "log"):
            self.log.append("reset" if seed is None else f"reset {seed}")
        self.time = 0
        return self.obs(), {}

    def step(self, action: Any) -> Any:
        assert self.open and self.action_space.contains(np.asarray(action))
        self.time += 1
        return self.obs(), float(action[0]), self.time >= 7, False, {}

    def close(self) -> None:
        self.open = False

    def obs(self) -> Any:
        return {
            "camera": self.np_random.integers(0, 255, (20, 24, 3), dtype=np.uint8),
            "inside": {"speed": self.np_random.uniform(-1, 1, 2)},
            "door": np.int64(self.np_random.integers(1, 4)),
        }


def settings(logdir: pathlib.Path, **changes: Any) -> Config:
    config = dv2.configs("debug").update(tiny.SIZES)
    return config.update(
        {
            "logdir": str(logdir), "steps": 60, "prefill": 40, "train_every": 10,
            "log_every": 20, "eval_every": 30, "dataset": {"batch": 2, "length": 5},
            "time_limit": 0, "pretrain": 2, **changes,
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    return dv2.train(Room, settings(tmp_path_factory.mktemp("room")))


def lines(logdir: pathlib.Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (logdir / "metrics.jsonl").read_text().splitlines()]


def observations(number: int, seed: int = 0) -> list[Any]:
    env = Room()
    first, _ = env.reset(seed=seed)
    return [first] + [env.step([0, 0])[0] for _ in range(number - 1)]


def stack(obs: list[Any]) -> Any:
    if isinstance(obs[0], dict):
        return {key: stack([o[key] for o in obs]) for key in obs[0]}
    return np.stack(obs)


def test_importing_is_light() -> None:
    code = (
        "import sys, dreamerv2.api as dv2\n"
        "assert not {'tensorflow', 'keras', 'gymnasium'} & set(sys.modules)\n"
        "assert dv2.defaults.rssm.deter == 1024 and dv2.defaults is dv2.defaults\n"
        "from dreamerv2.api import *; train, load, defaults"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_configs_are_those_of_the_command_line() -> None:
    assert dv2.configs() == dv2.defaults
    both = dv2.configs("atari", "small")
    assert both.task == "atari_pong" and both.rssm.deter == 200
    with pytest.raises(UserError, match=r"the nearest of .* is atari"):
        dv2.configs("atrai")
    with pytest.raises(AttributeError, match="default"):
        _ = dv2.default  # type: ignore[attr-defined]


def test_training_does_what_the_command_line_does(policy: Policy) -> None:
    folder = policy.run.path
    rows = lines(folder)
    assert policy.run.config.task == "custom_Room" and policy.run.steps == 60
    for key in ("train_return", "eval_return", "camera_loss", "inside_speed_loss", "door_loss"):
        assert any(key in row for row in rows), key
    # Two before the first action, one with it, then one every 10 steps.
    assert policy.run.updates == 2 + len(range(41, 61, 10))
    assert list(folder.glob("events.out.*")) and (folder / "config.yaml").exists()
    again = dv2.load(folder)
    left, right = (tiny.values(p.run.agent.variables()) for p in (policy, again))
    weights = {key for key in left if key.startswith("weights/")}
    assert all(np.array_equal(left[key], right[key]) for key in weights)


def test_acting_translates_as_training_does(policy: Policy) -> None:
    one, two = observations(2)
    policy.reset(seed=3)
    actions = [policy.act(one), policy.act(two)]
    assert all(Room().action_space.contains(action) for action in actions)
    with dv2_env() as env:
        batch = env.reset()
    # The same by hand: the agent's own policy on what the training environments give.
    agent = policy.run.agent
    agent.seed_evaluation(3)
    by_hand, state = [], None
    for i, obs in enumerate((one, two)):
        data = {key: np.zeros_like(value) for key, value in batch.items()}
        data["camera"][0] = resized(obs["camera"])
        data["inside_speed"][0] = obs["inside"]["speed"]
        data["door"][0] = np.eye(3)[obs["door"] - 1]
        data["is_first"][:] = i == 0
        vector, state = agent.policy(data, state, mode="eval")
        by_hand.append(policy.run.act_space.to_env(vector.numpy())[0])
    np.testing.assert_array_equal(actions, by_hand)
    assert state is not None
    np.testing.assert_array_equal(policy.state["deter"], state["deter"])


def dv2_env() -> Any:
    from dreamerv2.common import envs

    return envs.make_from(Room)


def resized(image: np.ndarray) -> np.ndarray:
    from dreamerv2.common.envs import images

    return images.resize(image, (64, 64))


def test_batches_act_as_single_observations_do(policy: Policy) -> None:
    config = policy.run.config.update({"eval_state_mean": True})
    still = dv2.load(policy.run.path, changes={"eval_state_mean": True})
    assert still.run.config == config
    episodes = [observations(3, seed) for seed in (1, 2)]
    single = []
    for episode in episodes:
        still.reset()
        single.append([still.act(obs) for obs in episode])
    still.reset()
    rows = []
    for pair in zip(*episodes, strict=True):
        rows.append(still.act(stack(list(pair))))
        assert rows[-1].shape == (2, 2) and still.state["deter"].shape[0] == 2
    np.testing.assert_array_equal(np.stack(rows, 1), single)
    # A single observation and a batch of one are the same environment.
    still.reset()
    still.act(episodes[0][0])
    assert still.act(stack([episodes[0][1]])).shape == (1, 2)


def test_episodes_begin_where_reset_says(policy: Policy) -> None:
    still = dv2.load(policy.run.path, changes={"eval_state_mean": True})
    first, second = stack(observations(2, 1)), stack(observations(2, 2))
    still.act(first)
    still.reset(np.array([True, False]))
    still.act(second)
    mixed = still.state
    still.reset()
    still.act(second)
    fresh = still.state["deter"]
    np.testing.assert_allclose(mixed["deter"][0], fresh[0], atol=1e-6)
    assert not np.allclose(mixed["deter"][1], fresh[1], atol=1e-4)
    with pytest.raises(UserError, match="3 entries, but the policy remembers 2"):
        still.reset(np.zeros(3, bool))
    with pytest.raises(UserError, match="array of bool"):
        still.reset(np.array([0, 1]))
    with pytest.raises(UserError, match=r"of 1 environments, .* 2; call reset\(\)"):
        still.act(observations(1)[0])
    still.reset()
    with pytest.raises(UserError, match="seen nothing"):
        _ = still.state


def test_seeds_repeat_actions_and_modes_differ(policy: Policy) -> None:
    obs = stack(observations(7) * 20)

    def act(seed: int, mode: str = "eval") -> np.ndarray:
        policy.reset(seed=seed)
        return policy.act(obs, mode)

    np.testing.assert_array_equal(act(1), act(1))
    assert (act(1, "train") != act(1, "train")).any()
    with pytest.raises(ValueError, match="mode is 'best'"):
        act(1, "best")


WRONG: list[tuple[Any, str]] = [
    (lambda o: (o, {}), r"obs, info = env.reset\(\)"),
    (lambda o: o["camera"], "lacks 'door'|lacks 'camera'"),
    (lambda o: {**o, "camera": o["camera"][:10]}, r"\(10, 24, 3\); it must be \(20, 24, 3\) or "),
    (lambda o: {**o, "camera": o["camera"] / 255}, "float64; pass uint8"),
    (lambda o: {**o, "inside": {"speed": np.array([np.nan, 0])}}, "'inside_speed' .* not finite"),
    (lambda o: {**o, "inside": {}}, r"lacks 'inside.speed' \(there is \)"),
    (lambda o: {**o, "door": np.array([1])}, "differ in their numbers"),
    (lambda o: stack([stack([o])]), r"\(1, 1, 20, 24, 3\); it must be .*\(N, 20, 24, 3\)"),
]


@pytest.mark.parametrize(("change", "words"), WRONG, ids=range(len(WRONG)))
def test_observations_that_do_not_fit_are_refused(change: Any, words: str, policy: Policy) -> None:
    policy.reset()
    with pytest.raises(UserError, match=words):
        policy.act(change(observations(1)[0]))


def test_evaluating(policy: Policy) -> None:
    scores = policy.evaluate(Room, 3, seed=5)
    assert scores.lengths.tolist() == [7, 7, 7] and scores.returns.shape == (3,)
    assert scores.mean == scores.returns.mean() and "over 3 episodes" in str(scores)
    np.testing.assert_array_equal(policy.evaluate(Room, 3, seed=5).returns, scores.returns)
    own = Room()
    policy.evaluate(own, 1)
    assert own.open
    with pytest.raises(UserError, match=r"dreamerv2.api.train was given; pass it to evaluate"):
        policy.evaluate()
    with pytest.raises(UserError, match=r"observes 'camera' .* does not have it"):
        policy.evaluate(lambda: gymnasium.make("CartPole-v1"))
    with pytest.raises(UserError, match="episodes is 0"):
        policy.evaluate(Room, 0)


def test_tasks_by_name_are_made_again(tmp_path: pathlib.Path) -> None:
    trained = dv2.train("gym_CartPole-v1", settings(tmp_path, eval_eps=0, pretrain=0, steps=45))
    assert trained.run.config.task == "gym_CartPole-v1"
    scores = trained.evaluate(episodes=2)
    assert (scores.returns == scores.lengths).all()
    obs, _ = gymnasium.make("CartPole-v1").reset(seed=0)
    action = trained.act(obs)
    assert isinstance(action, int) and action in (0, 1)
    with pytest.raises(UserError, match="eval_env is given"):
        dv2.train("gym_CartPole-v1", settings(tmp_path), eval_env=Room)


def test_continuous_actions_have_the_range_of_the_environment(tmp_path: pathlib.Path) -> None:
    env = gymnasium.make("Pendulum-v1")
    config = settings(tmp_path, eval_eps=0, pretrain=0, steps=45, action_repeat=2)
    trained = dv2.train(env, config)
    assert trained.run.config.task == "custom_Pendulum-v1" and trained.run.frames == 90
    obs, _ = env.reset(seed=0)
    action = trained.act(obs, mode="train")
    assert action.shape == (1,) and action.dtype == np.float32 and env.action_space.contains(action)
    states = trained.model.imagine(trained.state, horizon=4, seed=0)
    assert states["action"].shape == (1, 4, 1) and (np.abs(states["action"]) <= 2).all()


def test_an_environment_that_is_handed_over_stays_open_and_plays_evaluations(
    tmp_path: pathlib.Path,
) -> None:
    env = Room()
    env.log = []
    with_eval = settings(tmp_path, task="custom_house", eval_every=7, steps=55, pretrain=0)
    trained = dv2.train(env, with_eval)
    assert env.open and trained.run.config.task == "custom_house" and trained.run.steps == 55
    seeded = [entry for entry in env.log if " " in entry]
    # A look at it, the training, and evaluations at 40, 42, 49 and in the end.
    assert len(seeded) == 1 + 1 + 4
    rows = lines(tmp_path)
    assert sum("eval_return" in row for row in rows) == 4
    more = dv2.train(env, with_eval.update({"steps": 57, "eval_eps": 0}))
    assert more.run.steps == 57
    with pytest.raises(UserError, match=r"envs is 2 .* pass the function or class"):
        dv2.train(env, settings(tmp_path / "other", envs=2))
    assert not (tmp_path / "other").exists()


def test_evaluations_on_an_environment_of_their_own(tmp_path: pathlib.Path) -> None:
    train_env, eval_env = Room(), Room()
    train_env.log, eval_env.log = [], []
    dv2.train(train_env, settings(tmp_path, steps=42, pretrain=0), eval_env=eval_env)
    assert sum(" " in entry for entry in train_env.log) == 2
    assert sum(" " in entry for entry in eval_env.log) == 2
    assert train_env.open and eval_env.open


def test_several_environments_at_once(tmp_path: pathlib.Path) -> None:
    trained = dv2.train(Room, settings(tmp_path, envs=2, eval_eps=3, steps=44, pretrain=0))
    assert trained.run.steps == 44
    assert trained.evaluate(Room, 3, num=2).lengths.tolist() == [7, 7, 7]


class Old(Room):
    def step(self, action: Any) -> Any:
        obs, reward, terminated, _, info = super().step(action)
        return obs, reward, terminated, info


@pytest.mark.parametrize(
    ("env", "words"),
    [
        (Old, "4 values as the old gym did: write `return obs, reward"),
        (Old(), "4 values as the old gym did"),
        (3, "not a gymnasium.Env: derive it"),
        (lambda: 1 / 0, "ZeroDivisionError"),
    ],
    ids=range(4),
)
def test_bad_environments_are_one_sentence_and_write_nothing(
    env: Any, words: str, tmp_path: pathlib.Path
) -> None:
    logdir = tmp_path / "run"
    with pytest.raises(UserError, match=words) as caught:
        dv2.train(env, settings(logdir))
    assert "\n" not in str(caught.value) and not logdir.exists()


def test_warnings_about_the_environment_are_shown(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Shown(Room):
        def __init__(self) -> None:
            super().__init__()
            self.render_mode = "human"

    dv2.train(Shown, settings(tmp_path, steps=40, eval_eps=0, pretrain=0))
    assert "warning: render_mode is 'human'" in capsys.readouterr().out


def test_folders_without_a_run_are_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match="holds no run"):
        dv2.load(tmp_path)
