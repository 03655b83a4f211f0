"""The replay as a whole: counting data against brute-force oracles, eviction, threads."""

from __future__ import annotations

import threading
from collections import Counter

import numpy as np
import pytest
from counting import Counting, check

from dreamerv2.common.errors import UserError
from dreamerv2.common.replay import Replay


def test_keys_shapes_and_types(tmp_path):
    replay = Replay(tmp_path, capacity=100, length=5)
    Counting(replay).episode(12)
    batch = replay.sample(3)
    assert {k: (v.shape, str(v.dtype)) for k, v in batch.items()} == {
        "where": ((3, 5, 4), "int32"),
        "image": ((3, 5, 4, 4, 1), "uint8"),
        "action": ((3, 5, 3), "float32"),
        "reward": ((3, 5), "float32"),
        "is_first": ((3, 5), "bool"),
        "is_last": ((3, 5), "bool"),
        "is_terminal": ((3, 5), "bool"),
    }
    check(batch, 3, 5)


def expected_starts(lengths, length, prioritize_ends):
    """Probability of every window start, from the definition in the paper, one row at a time."""
    total = sum(lengths)
    result = Counter()
    begin = 0
    for steps in lengths:
        upper = steps - length + 1
        if upper <= 0:
            result[min(begin, total - length)] += 1 / len(lengths)
        else:
            draws = upper + (length if prioritize_ends else 0)
            for draw in range(draws):
                result[begin + min(draw, steps - length)] += 1 / draws / len(lengths)
        begin += steps
    return result


@pytest.mark.parametrize("prioritize_ends", [True, False])
def test_starts_have_the_documented_probabilities(tmp_path, prioritize_ends):
    lengths = [9, 2, 3, 1, 5, 20, 4, 2]
    replay = Replay(tmp_path, capacity=100, length=5, prioritize_ends=prioritize_ends, chunk=7)
    data = Counting(replay)
    for steps in lengths:
        data.episode(steps)
    number = 20000
    starts = Counter(window.start for window in replay.draw(number))
    expected = expected_starts(lengths, 5, prioritize_ends)
    assert starts.keys() == expected.keys()
    for start, probability in expected.items():
        error = (starts[start] / number - probability) / np.sqrt(probability / number)
        assert abs(error) < 4.5, start
    batch = replay.sample(3000)
    check(batch, 3000, 5)
    assert set(batch["where"][..., 3].ravel()) == set(range(sum(lengths))), "a step is unreachable"


def test_sampling_by_steps_is_uniform_over_windows(tmp_path):
    replay = Replay(tmp_path, capacity=100, length=4, sample="steps", chunk=6)
    data = Counting(replay)
    for worker, steps in [(0, 6), (1, 9), (0, 2), (2, 3)]:
        data.episode(steps, worker)
    data.episode(5, 1, last=False)
    starts = Counter((w.stream, w.start) for w in replay.draw(11000))
    assert starts.keys() == {(0, s) for s in range(5)} | {(1, s) for s in range(6)}
    assert all(abs(count - 1000) < 150 for count in starts.values())
    check(replay.sample(50), 50, 4)


def test_streams_do_not_mix_and_weigh_by_episodes(tmp_path):
    replay = Replay(tmp_path, capacity=1000, length=6, chunk=16)
    data = Counting(replay)
    for turn in range(60):
        for worker in (5, 0, 2):
            data.add(worker, last=turn % {0: 6, 2: 10, 5: 20}[worker] == 5)
    batch = replay.sample(3000)
    check(batch, 3000, 6)
    counts = Counter(batch["where"][:, 0, 0].tolist())
    finished = {0: 10, 2: 6, 5: 3}
    for worker, episodes in finished.items():
        assert abs(counts[worker] / 3000 - episodes / 19) < 0.04


def test_stream_shorter_than_a_window_is_not_drawn(tmp_path):
    replay = Replay(tmp_path, capacity=100, length=10)
    data = Counting(replay)
    data.episode(9, worker=0)
    with pytest.raises(UserError, match="no 10 steps in a row"):
        replay.sample(1)
    data.episode(10, worker=1)
    assert {(w.stream, w.start) for w in replay.draw(50)} == {(1, 0)}
    data.episode(1, worker=0)
    assert {(w.stream, w.start) for w in replay.draw(50)} == {(0, 0), (1, 0)}


def test_running_episode_only_on_request(tmp_path):
    for ongoing in (False, True):
        replay = Replay(tmp_path / str(ongoing), capacity=100, length=4, ongoing=ongoing)
        data = Counting(replay)
        data.episode(8)
        data.episode(9, last=False)
        rows = {r for _ in range(20) for r in replay.sample(16)["where"][..., 3].ravel().tolist()}
        assert rows == set(range(17 if ongoing else 8))
        assert not replay.notices
        data.add(last=True)
        assert max(replay.sample(100)["where"][..., 3].ravel()) == 17


def test_endless_episode_is_sampled_with_one_warning(tmp_path, caplog):
    replay = Replay(tmp_path, capacity=64, length=8)
    data = Counting(replay)
    data.episode(200, last=False)
    for _ in range(3):
        check(replay.sample(8), 8, 8)
    assert len(replay.notices) == len(caplog.records) == 1
    assert "still running" in replay.notices[0]
    assert replay.stats["loaded_episodes"] == 0


def test_stats_count_actions_and_finished_episodes(tmp_path):
    replay = Replay(tmp_path, capacity=80, length=5)
    data = Counting(replay)
    for _ in range(20):
        data.episode(11, worker=0)
        data.episode(6, worker=1)
    data.episode(4, worker=1, last=False)
    stats = replay.stats
    assert stats["total_steps"] == 20 * 10 + 20 * 5 + 3
    assert stats["total_episodes"] == 40
    assert 60 <= stats["loaded_steps"] <= 80 + 10
    assert 7 <= stats["loaded_episodes"] <= 12
    replay.close()
    again = Replay(tmp_path, capacity=80, length=5)
    assert again.stats == stats | {
        "total_episodes": 41,  # What was running counts as finished.
        "loaded_episodes": stats["loaded_episodes"] + 1,
    }


@pytest.mark.parametrize("streams", [1, 3])
def test_eviction_deletes_the_oldest_and_keeps_the_rest_usable(tmp_path, streams):
    capacity, length = 100, 9
    replay = Replay(tmp_path, capacity=capacity, length=length)
    data = Counting(replay)
    chunk = capacity // 8
    for turn in range(700):
        for worker in range(streams):
            data.add(worker, last=turn % 31 == 30)
        if turn > 60 and turn % 20 == 0:
            batch = replay.sample(40)
            check(batch, 40, length)
            oldest = turn - capacity // streams - 2 * chunk
            assert batch["where"][..., 3].min() > oldest
        rows = replay._store.rows
        assert rows <= max(capacity, streams * chunk) + chunk
        assert rows >= min(capacity, streams * (turn + 1))
    files = list(tmp_path.iterdir())
    assert len(files) <= (capacity + chunk) // chunk + streams
    assert sum(c.rows for s in replay._store.streams.values() for c in s.chunks) == rows


def test_slow_stream_may_lose_all_it_has(tmp_path):
    replay = Replay(tmp_path, capacity=16, length=4, chunk=2)
    data = Counting(replay)
    data.episode(2, worker=7, last=False)
    for _ in range(5):
        data.episode(10, worker=1)
    assert replay.stats["loaded_episodes"] <= 3
    data.episode(3, worker=7, last=False)
    data.add(worker=7, last=True)
    data.episode(4, worker=7)
    batch = replay.sample(64)
    check(batch, 64, 4)
    assert {7, 1} == set(batch["where"][..., 0].ravel())
    assert replay.stats["total_episodes"] == 7


def test_gathering_an_evicted_window(tmp_path):
    replay = Replay(tmp_path, capacity=40, length=10)
    data = Counting(replay)
    data.episode(40)
    windows = replay.draw(16)
    before = replay.gather(windows)
    for _ in range(5):
        data.episode(40)
    assert replay.locate(windows[0].stream, windows[0].start) is None
    after = replay.gather(windows)
    for key in before:
        np.testing.assert_array_equal(before[key], after[key])


def test_gathering_in_a_thread_while_adding_and_evicting(tmp_path):
    replay = Replay(tmp_path, capacity=256, length=20)
    data = Counting(replay)
    for _ in range(8):
        data.episode(32)
    errors, stop = [], threading.Event()

    def read():
        while not stop.is_set():
            try:
                check(replay.sample(8), 8, 20)
            except BaseException as error:
                errors.append(error)
                return

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(150):
        data.episode(32)
    stop.set()
    for thread in threads:
        thread.join()
    assert not errors


def test_settings_that_cannot_work(tmp_path):
    with pytest.raises(UserError, match=r"replay\.capacity is 10, .*dataset\.length, which is 50"):
        Replay(tmp_path, capacity=10, length=50)
    with pytest.raises(UserError, match=r"replay\.sample is 'x'; choose"):
        Replay(tmp_path, capacity=100, length=5, sample="x")
    with pytest.raises(UserError, match=r"dataset\.length is 0"):
        Replay(tmp_path, capacity=100, length=0)


def test_episode_must_begin_with_is_first(tmp_path):
    replay = Replay(tmp_path, capacity=100, length=5)
    with pytest.raises(ValueError, match="is_first"):
        replay.add({"x": 1.0, "is_first": False, "is_last": False})
    replay.add({"x": 1.0, "is_first": True, "is_last": True})
    with pytest.raises(ValueError, match="is_first"):
        replay.add({"x": 1.0, "is_first": False, "is_last": False})
    assert replay.stats["loaded_episodes"] == 1


def test_float_capacity_from_a_configuration(tmp_path):
    replay = Replay(tmp_path, capacity=1e2, length=5)
    Counting(replay).episode(500)
    assert 100 <= replay._store.rows <= 112
