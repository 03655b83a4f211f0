"""Which action follows from which keys, in every action space."""

from __future__ import annotations

import numpy as np
import pytest

from dreamerv2 import play_keys
from dreamerv2.common.envs.spaces import ActSpec

FULL = [
    "NOOP", "FIRE", "UP", "RIGHT", "LEFT", "DOWN", "UPRIGHT", "UPLEFT", "DOWNRIGHT", "DOWNLEFT",
    "UPFIRE", "RIGHTFIRE", "LEFTFIRE", "DOWNFIRE", "UPRIGHTFIRE", "UPLEFTFIRE", "DOWNRIGHTFIRE",
    "DOWNLEFTFIRE",
]  # fmt: skip


def chosen(names: list[str], held: list[str]) -> str:
    controls = play_keys.make_controls(ActSpec("discrete", (len(names),)), names)
    action = controls.action(held, [])
    assert action.dtype == np.float32 and action.shape == (len(names),) and action.sum() == 1
    return names[int(action.argmax())]


@pytest.mark.parametrize(
    "held, name",
    [
        ([], "NOOP"),
        (["Space"], "FIRE"),
        (["ArrowUp", "ArrowRight"], "UPRIGHT"),
        (["KeyW", "KeyD", "Space"], "UPRIGHTFIRE"),
        (["Space", "KeyS", "ArrowLeft"], "DOWNLEFTFIRE"),
        (["ArrowLeft", "ArrowRight"], "RIGHT"),
        (["ArrowRight", "KeyA", "ArrowUp"], "UPLEFT"),
        (["KeyQ", "Digit4"], "NOOP"),
    ],
)
def test_all_18_atari_actions_are_a_joystick(held: list[str], name: str) -> None:
    assert chosen(FULL, held) == name


def test_every_atari_action_can_be_reached() -> None:
    for name in FULL[1:]:
        parts = [part for part in play_keys.ATARI if part in name]
        assert chosen(FULL, [play_keys.ATARI[part][0] for part in parts]) == name


def test_games_with_fewer_actions_take_what_fits_and_the_latest_key_first() -> None:
    breakout = ["NOOP", "FIRE", "RIGHT", "LEFT"]
    assert chosen(breakout, ["ArrowLeft", "Space"]) == "FIRE"
    assert chosen(breakout, ["Space", "ArrowLeft"]) == "LEFT"
    assert chosen(breakout, ["ArrowUp"]) == "NOOP"
    assert chosen(["NOOP", "UP", "UPFIRE"], ["ArrowUp", "Space"]) == "UPFIRE"
    controls = play_keys.AtariControls(breakout)
    assert [key.label for key in controls.keys] == ["right", "left", "fire"]
    assert controls.describe(np.eye(4)[3]) == "left" and controls.lit(np.eye(4)[3]) == [1]
    assert controls.describe(np.eye(4)[0]) == "nothing" and controls.lit(np.eye(4)[0]) == []
    assert controls.keys[1].caps == ["←", "A"]


def test_ale_names_its_actions() -> None:
    assert play_keys.atari_names("boxing", True) == FULL
    assert play_keys.atari_names("breakout", False) == ["NOOP", "FIRE", "RIGHT", "LEFT"]


def test_few_discrete_actions() -> None:
    two = play_keys.make_controls(ActSpec("discrete", (2,)))
    assert two.action([], []).tolist() == [1, 0]
    assert two.action(["ArrowRight"], []).tolist() == [0, 1]
    three = play_keys.make_controls(ActSpec("discrete", (3,)), ["left", "stay", "right"])
    assert three.action([], []).tolist() == [0, 1, 0]
    assert three.action(["ArrowRight", "ArrowLeft"], []).tolist() == [1, 0, 0]
    assert three.action(["KeyD"], []).tolist() == [0, 0, 1]
    assert three.describe(three.action(["Digit2"], [])) == "right"
    one = play_keys.make_controls(ActSpec("discrete", (1,)))
    assert one.action(["Digit0"], []).tolist() == [1]


def test_many_discrete_actions_have_numbers_arrows_and_buttons() -> None:
    controls = play_keys.make_controls(ActSpec("discrete", (12,)))
    for code, index in [
        ("Digit0", 0), ("Numpad9", 9), ("ArrowLeft", 1), ("ArrowRight", 2), ("ArrowUp", 3),
        ("KeyS", 4), ("Space", 5), ("Action11", 11), ("Digit7", 7),
    ]:  # fmt: skip
        assert controls.action([code], []).argmax() == index
    assert controls.action([], []).argmax() == 0
    # Every action has a button, and no key means two actions.
    codes = [code for key in controls.keys for code in key.codes]
    assert len(controls.keys) == 12 and len(codes) == len(set(codes))
    assert controls.keys[11].caps == []


def test_several_discrete_actions() -> None:
    controls = play_keys.make_controls(ActSpec("multi_discrete", (2, 3, 5)))
    assert [slider.rest for slider in controls.sliders] == [0, 1, 0]
    assert controls.action([], []).tolist() == [1, 0, 0, 1, 0, 1, 0, 0, 0, 0]
    action = controls.action(["ArrowRight", "ArrowDown"], [0, 1, 3])
    assert controls.values(action) == [1, 0, 3]
    assert controls.describe(action) == "1  0  3"
    assert action.sum() == 3 and action.dtype == np.float32


def test_continuous_actions_are_pushed_by_keys_and_rest_at_their_sliders() -> None:
    controls = play_keys.make_controls(ActSpec("continuous", (8,)))
    assert controls.action([], []).tolist() == [0] * 8
    rest = [0.5, -0.25, 0, 0, 0, 0, 0, 7]
    action = controls.action(["ArrowLeft", "KeyI", "KeyD"], rest)
    assert action.tolist() == [-1, -0.25, 1, 0, 0, 1, 0, 1]
    assert controls.sliders[6].codes == () and controls.sliders[0].step == 0
    assert controls.describe(action[:2]) == "-1.00  -0.25"
