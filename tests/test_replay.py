"""The replay as a whole: counting data against brute-force oracles, restarts, kills, damage."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter

import numpy as np
import pytest

from dreamerv2.common.errors import UserError
from dreamerv2.common.replay import Replay


class Counting:
    """Adds transitions that say stream, episode, step in the episode and row in the stream."""

    def __init__(self, replay):
        self.replay = replay
        self.episodes = Counter()
        self.rows = Counter()
        self.steps = Counter()

    def add(self, worker=0, last=False, first=None):
        if first or (first is None and not self.steps[worker]):
            self.steps[worker] = 0
            self.episodes[worker] += 1
        where = [worker, self.episodes[worker], self.steps[worker], self.rows[worker]]
        transition = {
            "where": np.array(where, np.int32),
            "image": np.full((4, 4, 1), self.rows[worker] % 256, np.uint8),
            "action": np.zeros(3, np.float32),
            "reward": np.float32(self.steps[worker]),
            "is_first": np.bool_(self.steps[worker] == 0),
            "is_last": np.bool_(last),
            "is_terminal": np.bool_(last and self.episodes[worker] % 2),
            "log_x": np.float32(1.0),
        }
        self.replay.add(transition, worker)
        self.rows[worker] += 1
        self.steps[worker] = 0 if last else self.steps[worker] + 1

    def episode(self, length, worker=0, last=True):
        for step in range(length):
            self.add(worker, last=last and step == length - 1)


def check(batch, batch_size, length):
    """Whatever is drawn: rows follow each other, keys agree, seams are marked."""
    where = batch["where"]
    assert where.shape == (batch_size, length, 4)
    assert (np.diff(where[..., 3], axis=1) == 1).all()
    assert (where[..., 0] == where[:, :1, 0]).all()
    assert batch["is_first"][:, 0].all()
    assert ((where[:, 1:, 2] == 0) == batch["is_first"][:, 1:]).all()
    assert (batch["reward"] == where[..., 2]).all()
    assert (batch["image"] == (where[..., 3] % 256)[..., None, None, None]).all()
    same = where[:, 1:, 1] == where[:, :-1, 1]
    assert (same != batch["is_first"][:, 1:]).all()


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


def test_same_state_and_data_give_the_same_draws_across_processes(tmp_path):
    settings = {"capacity": 200, "length": 8, "chunk": 16}
    replay = Replay(tmp_path, seed=3, **settings)
    data = Counting(replay)
    for worker in (4, 1):
        for _ in range(6):
            data.episode(12, worker)
        data.episode(30, worker, last=False)
    replay.sample(5)
    state = json.loads(json.dumps(replay.state()))
    expected = [replay.sample(7) for _ in range(5)]
    stats = replay.stats
    replay.restore(state)
    again = [replay.sample(7) for _ in range(5)]
    data.add(4)  # Restoring in the same process leaves the running episode alone.
    replay.close()
    reopened = Replay(tmp_path, seed=99, **settings)
    assert reopened.stats["total_steps"] == stats["total_steps"] + 1
    for one, two in zip(expected, again, strict=True):
        for key in one:
            np.testing.assert_array_equal(one[key], two[key])


def test_reopened_replay_draws_as_before_until_data_arrives(tmp_path):
    settings = {"capacity": 200, "length": 8, "chunk": 16}
    replay = Replay(tmp_path, seed=3, **settings)
    data = Counting(replay)
    for worker in (4, 1):
        for _ in range(3):
            data.episode(12, worker)
        data.episode(30, worker, last=False)
    state = json.loads(json.dumps(replay.state()))
    expected = [replay.sample(7) for _ in range(5)]
    stats = replay.stats
    replay.close()
    replay = Replay(tmp_path, seed=99, **settings)
    replay.restore(state)
    assert replay.stats == stats
    for one in expected:
        two = replay.sample(7)
        assert {k: v.tobytes() for k, v in one.items()} == {k: v.tobytes() for k, v in two.items()}
    data.replay = replay
    data.steps.clear()
    data.episode(3, 1, last=False)
    assert replay.stats["loaded_episodes"] == 8  # Now the interrupted ones count.
    assert replay.stats["total_episodes"] == 8


def test_counters_survive_lost_files_with_the_state(tmp_path):
    replay = Replay(tmp_path, capacity=50, length=5)
    Counting(replay).episode(30)
    state, stats = replay.state(), replay.stats
    replay.close()
    for path in tmp_path.iterdir():
        path.unlink()
    replay = Replay(tmp_path, capacity=50, length=5)
    assert set(replay.stats.values()) == {0}
    replay.restore(state)
    assert replay.stats == stats | {"loaded_steps": 0, "loaded_episodes": 0}
    data = Counting(replay)
    data.episode(10)
    assert replay.draw(1)[0].start >= 30  # Addresses are never used twice.
    assert replay.stats["total_steps"] == 29 + 9


@pytest.mark.parametrize("rows", [0, 1, 15, 16, 17, 40])
def test_reopening_continues_where_it_stopped(tmp_path, rows):
    settings = {"capacity": 1000, "length": 4, "chunk": 16}
    data = Counting(Replay(tmp_path, **settings))
    if rows:
        data.episode(rows, last=False)
    for _ in range(3):  # Without close, as after a crash.
        data.replay = Replay(tmp_path, **settings)
        data.steps.clear()
        data.episode(5)
    assert data.replay._store.rows == rows + 15
    assert len(list(tmp_path.iterdir())) == -(-(rows + 15) // 16)
    expected = {0: rows} if rows else {}
    assert data.replay.stats["loaded_episodes"] == 3 + len(expected)
    batch = data.replay.sample(100)
    check(batch, 100, 4)
    assert batch["where"][..., 3].max() == rows + 14


def test_lower_capacity_evicts_when_opened(tmp_path):
    data = Counting(Replay(tmp_path, capacity=400, length=5, chunk=10))
    for _ in range(20):
        data.episode(20)
    data.replay.close()
    replay = Replay(tmp_path, capacity=50, length=5, chunk=10)
    assert len(list(tmp_path.iterdir())) == 5
    assert replay.stats["loaded_steps"] == 50 - 2
    assert replay.stats["total_episodes"] == 20
    batch = replay.sample(200)
    check(batch, 200, 5)
    assert set(batch["where"][..., 3].ravel()) == set(range(350, 400))


KILLED = """
import sys
import numpy as np
from dreamerv2.common.replay import Replay
replay = Replay(sys.argv[1], capacity=3000, length=5, chunk=32)
row = replay.state()["streams"].get("0", [0])[0]
step = 0
while True:
    replay.add({"row": np.int64(row), "image": np.full((32, 32, 1), row % 251, np.uint8),
                "is_first": step % 40 == 0, "is_last": step % 40 == 39})
    row += 1
    step += 1
    if step % 100 == 0:
        print(row, flush=True)
"""


def test_kill_loses_at_most_the_row_being_written(tmp_path):
    total = 0
    for attempt in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        for _ in range(3 + 5 * attempt):
            reported = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().split()
        process.wait()
        process.stdout.close()
        reported = int(rest[-1]) if rest else reported
        replay = Replay(tmp_path, capacity=3000, length=5, chunk=32)
        assert not replay.notices
        now = replay.state()["streams"]["0"][0]
        assert reported <= now < reported + 100
        assert now > total
        total = now
        batch = replay.sample(200)
        assert (np.diff(batch["row"], axis=1) == 1).all()
        assert (batch["image"] == (batch["row"] % 251)[..., None, None, None]).all()
        assert not replay.verify()


def damage(path, how):
    size = path.stat().st_size
    with path.open("r+b") as file:
        if how == "truncated":
            file.truncate(size - 100)
        elif how == "emptied":
            file.truncate(0)
        elif how == "foreign":
            file.write(b"PK\x03\x04")
        elif how == "header":
            file.seek(80)
            file.write(b"\0")
        elif how == "rows":
            file.seek(24)
            file.write(b"\xff\xff")
        elif how == "flags":
            file.seek(4096 + 3)
            file.write(b"\x07")


@pytest.mark.parametrize("how", ["truncated", "emptied", "foreign", "header", "rows", "flags"])
@pytest.mark.parametrize("which", [0, 2, 4])
def test_damaged_file_is_set_aside(tmp_path, caplog, how, which):
    data = Counting(Replay(tmp_path, capacity=400, length=5, chunk=10))
    for _ in range(10):
        data.episode(5)
    data.replay.close()
    path = sorted(tmp_path.iterdir())[which]
    damage(path, how)
    replay = data.replay = Replay(tmp_path, capacity=400, length=5, chunk=10)
    assert not path.exists() and path.with_name(path.name + ".bad").exists()
    assert len(replay.notices) == len(caplog.records) == 1
    assert path.name in replay.notices[0] and "left out" in replay.notices[0]
    rows = {r for r in range(50) if r // 10 != which}
    batch = replay.sample(300)
    check(batch, 300, 5)
    assert set(batch["where"][..., 3].ravel()) == rows
    for _ in range(3):
        replay.sample(4)
        data.rows[0] = replay.state()["streams"]["0"][0]
        data.episode(5)
    assert not Replay(tmp_path, capacity=400, length=5, chunk=10).notices


def test_verify_finds_damaged_images(tmp_path):
    replay = Replay(tmp_path, capacity=400, length=5, chunk=10)
    data = Counting(replay)
    for _ in range(10):
        data.episode(5)
    assert replay.verify() == []
    path = sorted(tmp_path.iterdir())[1]
    with path.open("r+b") as file:
        file.seek(path.stat().st_size - 20)
        file.write(b"\x99")
    assert not Replay(tmp_path, capacity=400, length=5, chunk=10).notices
    assert replay.verify() == [path]
    rows = set(replay.sample(300)["where"][..., 3].ravel())
    assert rows == set(range(50)) - set(range(10, 20))


def test_truncation_while_in_use_is_an_exception(tmp_path):
    replay = Replay(tmp_path, capacity=400, length=5, chunk=10)
    Counting(replay).episode(50)
    windows = replay.draw(50)
    for path in tmp_path.iterdir():
        os.truncate(path, 4096)
    with pytest.raises(Exception, match="shorter than when it was opened"):
        replay.gather(windows)


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
