"""Every mistake in an environment leads to the finding that mends it, and to no other error."""

from __future__ import annotations

import pathlib
import subprocess
import sys
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from dreamerv2 import checking
from dreamerv2.checking import check_env, check_first
from dreamerv2.common import flags
from dreamerv2.common.envs.dummy import Catch

ROOT = pathlib.Path(__file__).resolve().parents[1]


class Good(gymnasium.Env):
    """A walk on a line, without a mistake; subclasses make one each."""

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.place, self.time = self.np_random.uniform(-0.5, 0.5), 0
        return self.obs(), {}

    def step(self, action: Any) -> Any:
        self.place += 0.2 * int(action) - 0.1
        self.time += 1
        return self.obs(), self.place, bool(abs(self.place) >= 1), self.time >= 40, {}

    def obs(self) -> Any:
        return np.array([np.clip(self.place, -1, 1), self.time / 40], np.float32)


def variant(**methods: Any) -> type[Good]:
    return type("Mistake", (Good,), methods)


def spaced(space: Any, value: Any) -> type[Good]:
    """An environment with this observation space that always gives this observation."""

    class Spaced(Good):
        def __init__(self) -> None:
            super().__init__()
            self.observation_space = space

        def obs(self) -> Any:
            return value

    return Spaced


def acting(space: Any) -> type[Good]:
    class Acting(Good):
        def __init__(self) -> None:
            super().__init__()
            self.action_space = space

        def step(self, action: Any) -> Any:
            return super().step(np.max(action) > 0)

    return Acting


class Forgets(Good):
    """Does not seed its generator."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return super().reset()


class OwnGenerator(Good):
    def __init__(self) -> None:
        super().__init__()
        self.generator = np.random.default_rng(3)

    def step(self, action: Any) -> Any:
        obs, *rest = super().step(action)
        return (obs + np.float32(1e-3) * self.generator.normal(size=2).astype(np.float32), *rest)


def changed(index: int, value: Any) -> Any:
    """A step method whose result has another value at an index."""

    def step(self: Any, action: Any) -> Any:
        result = list(Good.step(self, action))
        result[index] = value(result[index]) if callable(value) else value
        return tuple(result)

    return step


def endless(self: Any, action: Any) -> Any:
    return self.obs(), 0.1, False, False, {}


def old_step(self: Any, action: Any) -> Any:
    obs, reward, terminated, truncated, info = Good.step(self, action)
    return obs, reward, terminated or truncated, info


def old_reset(self: Any, *, seed: int | None = None, options: Any = None) -> Any:
    return Good.reset(self, seed=seed)[0]


def seedless(self: Any) -> Any:
    return Good.reset(self)


def crash(self: Any, action: Any) -> Any:
    return {}["speed"]


IMAGE = spaces.Box(0, 255, (32, 32, 3), np.uint8)
NOISE = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
MISTAKES: list[tuple[Any, str, str, str]] = [
    (variant(step=old_step), "error", "4 values as the old gym did", "return obs, reward, term"),
    (variant(reset=old_reset), "error", "returned one value of the type ndarray", "obs, info"),
    (variant(reset=seedless), "error", "does not take seed", "seed=None, options=None"),
    (variant(step=crash), "error", "KeyError: 'speed'", "mend that line"),
    (variant(step=changed(1, None)), "error", "reward is None", "float(reward)"),
    (variant(step=changed(1, np.nan)), "error", "reward is nan", "find the step"),
    (variant(step=changed(2, 1)), "warning", "terminated is 1 of the type int", "bool(terminated)"),
    (variant(step=changed(4, None)), "warning", "info is of the type NoneType", "a dict"),
    (variant(step=changed(1, 50.0)), "warning", "clip_rewards: tanh", "reward / 50"),
    (variant(step=changed(1, 0.0)), "note", "met no reward", "reward progress"),
    (variant(step=changed(1, 1e-3)), "warning", "largest reward is 0.001", "TransformReward"),
    (variant(step=endless), "warning", "no episode ended within 300", "time_limit"),
    (variant(step=changed(2, True)), "warning", "after one step", "bandit"),
    (variant(obs=lambda self: np.zeros(3, np.float32)), "error", "shape (3,), but", "shape=(3,)"),
    (variant(obs=lambda self: np.full(2, np.nan)), "error", "NaN or infinity", "find the step"),
    (variant(obs=lambda self: np.full(2, 5, np.float32)), "warning", "leaves the bounds", "np.inf"),
    (variant(obs=lambda self: np.zeros(2)), "warning", "float64, but", "astype(np.float32)"),
    (spaced(spaces.Box(0, 255, (3, 32, 32), np.uint8), 0), "error", "channel-first", "(1, 2, 0)"),
    (spaced(spaces.Box(0, 1, (32, 32, 3)), NOISE / 255), "warning", "a vector of 3,072", "uint8"),
    (spaced(IMAGE, NOISE / 255), "error", "says uint8, which cuts", "255 * image"),
    (spaced(IMAGE, NOISE // 255), "warning", "largest value of the image", "multiply by 255"),
    (spaced(IMAGE, NOISE), "warning", "is the same in all steps", "drawn anew"),
    (spaced(IMAGE, NOISE), "note", "32x32 pixels are resized to 64x64", "render_size"),
    (spaced(IMAGE, NOISE.astype(int) * 2), "error", "outside of uint8", "clip"),
    (spaced(spaces.Box(-1e4, 1e4, (1,)), np.ones(1) * 900), "warning", "reaches 900", "divide"),
    (spaced(spaces.Dict({"reward": spaces.Discrete(2)}), {}), "error", "reserved", "rename"),
    (spaced(spaces.Dict({"kl": spaces.Discrete(2)}), {}), "error", "name of a loss", "rename"),
    (spaced(spaces.Dict({"a": spaces.Discrete(2)}), {}), "error", "lacks the key 'a'", '"a"'),
    (spaced(spaces.Dict({"a": spaces.Discrete(2)}), 1), "error", "its space is a Dict", "a dict"),
    (spaced(spaces.Dict({"a": spaces.Discrete(2)}), {"a": 2}), "error", "not in its space", "only"),
    (
        spaced(spaces.Dict({"a": spaces.Discrete(2)}), {"a": 1, "b": 2}),
        "warning", "which its space lacks", "leave it out",
    ),
    (
        spaced(spaces.Dict({"a": spaces.Discrete(2), "log_b": spaces.Discrete(2)}),
               {"a": 1, "log_b": 1}),
        "note", "'log_b' is only logged", "rename it",
    ),
    (spaced(spaces.Text(3), "abc"), "error", "not supported", "Box, Discrete"),
    (acting(spaces.Text(3)), "error", "not supported", "MultiDiscrete"),
    (acting(spaces.Box(-np.inf, np.inf, (2,))), "warning", "infinite bounds", "Box(-2.0"),
    (Forgets, "warning", "same seed and the same actions differ", "super().reset(seed=seed)"),
    (OwnGenerator, "warning", "differ, first in step 1", "self.np_random"),
    (lambda: Good("human"), "warning", "render_mode is 'human'", "render_mode=None"),
    (lambda: 1 / 0, "error", "ZeroDivisionError", "mend that line"),
    (lambda: 3, "error", "this is a builtins.int, not a gymnasium.Env", "derive"),
    (object(), "error", "this is a builtins.object", "derive"),
]  # fmt: skip


@pytest.mark.parametrize(("env", "severity", "problem", "mend"), MISTAKES, ids=range(len(MISTAKES)))
def test_mistakes_are_found_and_mended(env: Any, severity: str, problem: str, mend: str) -> None:
    findings = check_env(env, steps=300)
    matching = [f for f in findings if problem in f.problem]
    assert matching, "\n".join(map(str, findings))
    assert [f.severity for f in matching] == [severity] and mend in matching[0].mend
    errors = [f for f in findings if f.severity == "error"]
    assert errors == [f for f in matching if severity == "error"]
    assert findings[: len(errors)] == errors
    if severity == "error":
        assert [f for f in check_first(env)[1] if f.severity == "error"] == errors


class OldGym:
    """Looks like an environment of the old gym."""

    __module__ = "gym.envs.classic"

    def step(self, action: Any) -> None:
        """Take no step."""


def test_the_old_gym_is_told_from_other_objects() -> None:
    (finding,) = check_env(OldGym())
    assert "import gymnasium as gym" in finding.mend


def test_good_environments_have_no_findings() -> None:
    assert check_env(Good) == []
    assert check_env(gymnasium.make("CartPole-v1")) == []
    assert check_first(Good) == ("custom_Good", [])
    assert check_first(gymnasium.make("CartPole-v1"))[0] == "custom_CartPole-v1"


def test_a_time_limit_given_as_terminated_is_noted() -> None:
    (finding,) = check_env(Catch, steps=100)
    assert finding.severity == "note" and "exactly 10 steps" in finding.problem
    assert "truncated=True" in finding.mend


def test_the_configuration_decides_what_matters() -> None:
    config = flags.build(checking.CONFIGS, ["vector"])
    loud = variant(step=changed(1, 20.0))
    assert any("tanh" in f.problem for f in check_env(loud, steps=100))
    assert check_env(loud, config, steps=100) == []
    assert "set" not in check_env(variant(step=changed(1, 50.0)), config, steps=100)[0].mend
    ending = variant(step=endless)
    assert check_env(ending, config.update({"time_limit": 9}), steps=100) == []
    small = config.update({"render_size": [32, 32]})
    assert not any("resized" in f.problem for f in check_env(spaced(IMAGE, NOISE), small))


def test_what_is_handed_over_stays_open_and_what_is_made_is_closed() -> None:
    closed: list[Good] = []
    kind = variant(close=lambda self: closed.append(self))
    check_env(kind(), steps=50)
    assert closed == []
    check_env(kind, steps=50)
    assert len(closed) == 1


def test_the_command_line(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.py").write_text(
        "import gymnasium, numpy as np\n"
        "class Env(gymnasium.Env):\n"
        "    observation_space = gymnasium.spaces.Box(0, 255, (3, 64, 64), np.uint8)\n"
        "    action_space = gymnasium.spaces.Discrete(2)\n"
    )
    command = [sys.executable, "-m", "dreamerv2.checking", "mine:Env"]
    result = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)}
    )
    assert result.returncode == 1 and "np.transpose(image, (1, 2, 0))" in result.stdout
    assert checking.main(["gym_CartPole-v1", "--steps", "100"]) == 0
    assert "Everything is fine" in capsys.readouterr().out
    for target, words in [
        ("gym_CartPole-v9", "CartPole-v1"),
        ("nowhere:Env", "cannot be imported"),
        ("dreamerv2.checking:Env", "has no 'Env'"),
    ]:
        assert checking.main([target]) == 2
        error = capsys.readouterr().err
        assert words in error and error.startswith("error: ") and error.count("\n") == 1
    assert checking.main([]) == 2
