"""Sequences for dreams: whole inside one episode, disjoint, as long as most episodes allow."""

from __future__ import annotations

import numpy as np
import pytest
from counting import Counting

from dreamerv2 import dream_windows
from dreamerv2.common.errors import UserError
from dreamerv2.common.replay import Replay
from dreamerv2.dream_windows import choose_length, from_replay


def replay(folder, lengths, workers=1):
    data = Counting(Replay(folder, capacity=10_000, length=1, chunk=16))
    for i, length in enumerate(lengths):
        data.episode(length, i % workers)
    return data


def take(folder, context=2, horizon=4, count=1000, seed=0):
    return from_replay(folder, context=context, horizon=horizon, count=count, seed=seed)


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ([50], 50),
        ([1000, 3], 50),
        ([11] * 400, 11),
        # Half of the steps lie in episodes of at least 30.
        ([30, 10, 10, 10], 30),
        ([30, 10, 10, 11], 11),
        # One long episode does not speak for many short ones, unless nothing else is possible.
        ([49] + [12] * 100, 12),
        ([49] + [5] * 100, 49),
        ([90] + [5] * 100, 50),
        ([6, 5, 5, 5], 6),
        ([5, 5, 1], 0),
    ],
)
def test_length(lengths, expected):
    assert choose_length(lengths, 5, 45) == expected
    assert choose_length(lengths[::-1], 5, 45) == expected


def test_windows_lie_inside_episodes_and_share_no_step(tmp_path):
    lengths = [20, 6, 3, 13, 1, 7, 30]
    replay(tmp_path, lengths, workers=2)
    windows = take(tmp_path)
    where = windows.data["where"]
    # Every disjoint window that fits is there, when that many are asked for.
    assert len(windows) == sum(n // 6 for n in lengths)
    assert (windows.context, windows.horizon, windows.length) == (2, 4, 6)
    assert windows.notes == []
    assert (where[:, :, :2] == where[:, :1, :2]).all(), "a window crosses episodes"
    assert (np.diff(where[..., 2], axis=1) == 1).all()
    rows = [tuple(row) for row in where[..., [0, 3]].reshape(-1, 2)]
    assert len(set(rows)) == len(rows), "windows overlap"
    assert windows.data["is_first"][:, 0].all()
    assert not windows.data["is_first"][:, 1:].any()
    same_group = windows.groups[:, None] == windows.groups
    same_episode = (where[:, None, 0, :2] == where[None, :, 0, :2]).all(-1)
    np.testing.assert_array_equal(same_group, same_episode)


def test_the_choice_repeats_and_depends_on_the_seed(tmp_path):
    replay(tmp_path, [40] * 10)
    first, again, other = (take(tmp_path, count=5, seed=seed).data["where"] for seed in (0, 0, 1))
    assert first.shape == (5, 6, 4)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    starts = {int(w[0, 2]) for w in take(tmp_path, seed=2).data["where"]}
    assert len(starts) > 10, "windows of an episode start anywhere in it"


def test_short_episodes_shorten_the_horizon_and_it_is_said(tmp_path):
    replay(tmp_path, [11] * 20 + [60])
    windows = take(tmp_path, context=5, horizon=45)
    assert windows.length == 11
    assert windows.notes == [
        "6 steps are imagined instead of 45, since dreams do not cross the end of an episode and "
        "1 of 21 episodes have 50 observations."
    ]


def test_memory_is_bounded(tmp_path, monkeypatch):
    replay(tmp_path, [40] * 10)
    row = sum(value.nbytes for value in take(tmp_path).data.values()) // (6 * len(take(tmp_path)))
    monkeypatch.setattr(dream_windows, "MAX_BYTES", 7 * 6 * row)
    assert len(take(tmp_path)) == 7


def test_windows_that_are_evicted_meanwhile_are_replaced_by_others(tmp_path, monkeypatch):
    replay(tmp_path, [40] * 10)
    reader = dream_windows.ReplayReader

    class Evicted(reader):
        def __init__(self, directory):
            super().__init__(directory)
            (directory / "0000-00000003.chunk").unlink()

    monkeypatch.setattr(dream_windows, "ReplayReader", Evicted)
    windows = take(tmp_path)
    assert 0 < len(windows) < 60
    assert not np.isin(windows.data["where"][..., 3], np.arange(48, 64)).any()


def test_refusals(tmp_path):
    with pytest.raises(UserError, match=r"there is no replay in .*use --dream episodes"):
        take(tmp_path / "replay")
    replay(tmp_path, [5, 4, 5])
    with pytest.raises(UserError, match=r"longest of 3 episodes in .* has 5 observations, but"):
        take(tmp_path, context=5)
    assert take(tmp_path, context=4).horizon == 1
