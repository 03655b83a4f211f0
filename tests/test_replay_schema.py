"""Which transitions the replay takes, and the sentences for those it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dreamerv2.common.errors import UserError
from dreamerv2.common.replay import Replay
from dreamerv2.common.replay_schema import Checker, infer


def transition(**changes):
    result = {
        "image": np.zeros((4, 4, 1), np.uint8),
        "reward": np.float32(0),
        "is_first": np.bool_(True),
        "is_last": np.bool_(False),
        "log_gold": np.float64(1),
    }
    return {k: v for k, v in {**result, **changes}.items() if v is not None}


def test_first_transition_decides_and_float64_becomes_float32():
    schema = infer(transition(vector=np.zeros(3), count=np.int64(3), is_last=False, reward=1.0))
    assert schema == {
        "image": (np.dtype("u1"), (4, 4, 1)),
        "vector": (np.dtype("f4"), (3,)),
        "count": (np.dtype("i8"), ()),
        "reward": (np.dtype("f4"), ()),
        "is_first": (np.dtype("?"), ()),
        "is_last": (np.dtype("?"), ()),
    }


def test_values_that_fit_pass_unchanged_and_others_are_converted():
    checker = Checker({}, Path("file"))
    values = transition()
    assert checker(values) is values
    assert checker(transition(log_gold=None, log_new="text")).keys() >= {"image", "log_new"}
    converted = checker(transition(reward=1.5, is_first=True))
    assert converted["reward"].dtype == np.float32 and converted["reward"] == 1.5
    assert converted["is_first"].dtype == bool


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"image": np.zeros((4, 4, 3), np.uint8)},
            r"key 'image' is uint8 of shape \(4, 4, 1\) in .*chunk but uint8 of shape \(4, 4, 3\) "
            r"in this run; choose another logdir or delete the folder .*",
        ),
        ({"image": np.zeros((4, 4, 1), np.float32)}, r"'image' is uint8 .* but float32 of shape"),
        ({"image": None}, r"'image' is uint8 of shape \(4, 4, 1\) in .* but missing in this run"),
        ({"extra": np.float32(0)}, r"'extra' is missing in .* but float32 of shape \(\) in this"),
        ({"reward": 1}, r"'reward' is float32 of shape \(\) in .* but int64"),
    ],
)
@pytest.mark.parametrize("reopen", [True, False])
def test_other_keys_than_in_the_files(tmp_path, changes, message, reopen):
    replay = Replay(tmp_path, capacity=100, length=2)
    replay.add(transition())
    if reopen:
        replay = Replay(tmp_path, capacity=100, length=2)
    for _ in range(2):
        with pytest.raises(UserError, match=message):
            replay.add(transition(**changes))
    replay.add(transition())
    assert replay.stats["total_episodes"] == 1
    assert replay.sample(1)["image"].shape == (1, 2, 4, 4, 1)


def test_values_that_are_no_numbers():
    with pytest.raises(UserError, match=r"'mission' has values of type .*rename it to log_mission"):
        infer(transition(mission="go"))


@pytest.mark.parametrize("changes", [{"is_first": None}, {"is_last": 1.0}, {"is_last": [True]}])
def test_flags_are_needed(changes):
    with pytest.raises(ValueError, match="needs the bool is_"):
        infer(transition(**changes))
