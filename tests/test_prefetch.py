"""The prefetcher draws in the caller, reads in a thread, and resumes with the same batches."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest

from dreamerv2.common.errors import UserError
from dreamerv2.common.prefetch import Prefetcher
from dreamerv2.common.replay import Replay

SETTINGS = {"capacity": 400, "length": 6, "chunk": 16}


def fill(replay, episodes, steps=20):
    for _ in range(episodes):
        for step in range(steps):
            row = replay.state()["streams"].get("0", [0])[0]
            replay.add(
                {
                    "row": np.int64(row),
                    "is_first": step == 0,
                    "is_last": step == steps - 1,
                }
            )


@pytest.fixture(name="replay")
def fixture_replay(tmp_path):
    replay = Replay(tmp_path, seed=1, **SETTINGS)
    fill(replay, 5)
    return replay


def rows(batches, number):
    return [next(batches)["row"].tolist() for _ in range(number)]


def test_batches_are_those_of_the_replay_in_order(replay, tmp_path):
    twin = Replay(tmp_path, seed=1, **SETTINGS)
    with Prefetcher(replay, 4) as batches:
        assert iter(batches) is batches
        assert rows(batches, 10) == [twin.sample(4)["row"].tolist() for _ in range(10)]


def test_draws_happen_in_the_callers_thread_one_batch_ahead(replay, monkeypatch):
    log = []
    draw, gather = replay.draw, replay.gather
    monkeypatch.setattr(
        replay,
        "draw",
        lambda n: (log.append(("draw", threading.current_thread().name)), draw(n))[1],
    )
    monkeypatch.setattr(
        replay,
        "gather",
        lambda w: (log.append(("gather", threading.current_thread().name)), gather(w))[1],
    )
    batches = Prefetcher(replay, 2)
    assert log == []
    here = threading.current_thread().name
    next(batches)
    next(batches)
    batches.close()
    assert [entry for entry in log if entry[0] == "draw"] == [("draw", here)] * 3
    assert [entry for entry in log if entry[0] == "gather"] == [("gather", "prefetch")] * 3


def test_new_data_is_seen_after_the_batch_in_flight(replay):
    with Prefetcher(replay, 64) as batches:
        next(batches)
        fill(replay, 5)
        assert np.max(rows(batches, 1)) < 100
        assert np.max(rows(batches, 1)) >= 100


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_resume_gives_the_same_batches(replay, tmp_path, taken):
    with Prefetcher(replay, 3) as batches:
        rows(batches, taken)
        state = json.loads(json.dumps([replay.state(), batches.state()]))
        expected = rows(batches, 5)
    replay.close()
    other = Replay(tmp_path, seed=77, **SETTINGS)
    with Prefetcher(other, 3) as batches:
        other.restore(state[0])
        batches.restore(state[1])
        assert rows(batches, 5) == expected
        other.restore(state[0])
        batches.restore(state[1])  # Also with a batch in flight.
        assert rows(batches, 5) == expected


def test_pending_windows_that_are_gone_are_drawn_anew(replay, caplog):
    with Prefetcher(replay, 8) as batches:
        next(batches)
        state = batches.state()
    fill(replay, 40)
    with Prefetcher(replay, 8) as batches:
        batches.restore(state)
        assert np.min(rows(batches, 1)) > 300
        assert len(batches.state()["pending"]) == 8
    assert "8 sequences drawn before the restart are gone" in caplog.text


def test_another_batch_size_draws_anew(replay):
    with Prefetcher(replay, 8) as batches:
        next(batches)
        state = batches.state()
    with Prefetcher(replay, 5) as batches:
        batches.restore(state)
        assert next(batches)["row"].shape == (5, 6)


def test_errors_of_the_thread_reach_the_caller_once(replay, monkeypatch):
    gather = replay.gather
    calls = []

    def broken(windows):
        calls.append(windows)
        if len(calls) == 2:
            raise OSError("disk on fire")
        return gather(windows)

    monkeypatch.setattr(replay, "gather", broken)
    with Prefetcher(replay, 2) as batches:
        next(batches)
        with pytest.raises(OSError, match="disk on fire"):
            next(batches)
        assert next(batches)["row"].shape == (2, 6)


def test_too_little_data_and_closing(tmp_path):
    replay = Replay(tmp_path, **SETTINGS)
    batches = Prefetcher(replay, 2)
    with pytest.raises(UserError, match="no 6 steps in a row"):
        next(batches)
    fill(replay, 1)
    next(batches)
    batches.close()
    batches.close()
    assert not any(thread.name == "prefetch" for thread in threading.enumerate())
    with pytest.raises(RuntimeError, match="closed"):
        next(batches)


def test_batches_belong_to_the_caller(replay):
    with Prefetcher(replay, 2) as batches:
        first = next(batches)
        copy = first["row"].copy()
        first["is_last"][:] = True
        second = next(batches)
        second["row"][:] = -1
        np.testing.assert_array_equal(first["row"], copy)
