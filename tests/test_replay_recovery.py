"""The replay across restarts, kills, lost and damaged files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from counting import Counting, check

from dreamerv2.common import replay_writer
from dreamerv2.common.errors import UserError
from dreamerv2.common.replay import Replay
from dreamerv2.common.replay_chunk import Chunk


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
from dreamerv2.common import replay_writer
from dreamerv2.common.errors import UserError
from dreamerv2.common.replay import Replay
from dreamerv2.common.replay_chunk import Chunk
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
            [sys.executable, "-c", KILLED, str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent.parent,
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


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x20]))


def last_offset(path: Path, row: int) -> int:
    """Where the `where` of `Counting` (16 bytes, not looked at when a file is opened) is."""
    return Chunk.load(path)[0].columns[-1].offset + 16 * row


@pytest.mark.parametrize("which", [0, 2])
def test_a_damaged_value_is_found_when_it_is_drawn(tmp_path, caplog, which):
    settings = {"capacity": 400, "length": 5, "chunk": 10}
    data = Counting(Replay(tmp_path, **settings))
    for _ in range(10):
        data.episode(5)
    data.replay.close()
    path = sorted(tmp_path.iterdir())[which]
    flip(path, last_offset(path, 3))
    replay = data.replay = Replay(tmp_path, **settings)
    assert not replay.notices
    data.episode(3, last=False)
    batch = replay.sample(300)
    check(batch, 300, 5)
    rows = set(batch["where"][..., 3].ravel())
    assert not rows & set(range(10 * which, 10 * which + 10))
    assert path.with_name(path.name + ".bad").exists() and not path.exists()
    assert len(replay.notices) == len(caplog.records) == 1
    assert "has damaged values in row 3; it is now" in replay.notices[0]
    data.episode(4)  # The running episode goes on, in the same file.
    assert replay.stats["total_episodes"] == 11 and replay.stats["total_steps"] == 11 * 4 + 2
    check(replay.sample(300), 300, 5)
    again = Replay(tmp_path, **settings)
    assert not again.notices and again.stats == replay.stats


def test_windows_drawn_before_a_file_was_set_aside_are_replaced(tmp_path):
    replay = Replay(tmp_path, capacity=400, length=5, chunk=10)
    data = Counting(replay)
    for _ in range(10):
        data.episode(5)
    replay.close()
    path = sorted(tmp_path.iterdir())[1]
    flip(path, last_offset(path, 0))
    replay = Replay(tmp_path, capacity=400, length=5, chunk=10)
    first, second = replay.draw(100), replay.draw(100)
    for windows in (first, second):
        batch = replay.gather(windows)
        check(batch, 100, 5)
        assert not set(batch["where"][..., 3].ravel()) & set(range(10, 20))
    assert len(replay.notices) == 1


@pytest.mark.parametrize("rows", [10, 7])
def test_every_byte_that_is_written_is_checked(tmp_path, rows):
    original = tmp_path / "original"
    data = Counting(Replay(original, capacity=100, length=3, chunk=10))
    data.episode(rows, last=False)
    data.replay.close()
    (path,) = original.iterdir()
    expected = Replay(original, capacity=100, length=3, ongoing=True, chunk=10).sample(50)
    whole = path.read_bytes()
    chunk, _ = Chunk.load(path)
    used = {b for c in chunk.columns for b in range(c.offset, c.offset + c.stride * rows)}
    used |= set(range(24)) | set(range(64, 24 + 64))
    used |= set(range(chunk.sums_offset, chunk.sums_offset + 4 * rows))
    copy = tmp_path / "copy"
    copy.mkdir()
    for offset in sorted(used)[::13]:
        for left in copy.iterdir():
            left.unlink()
        damaged = bytearray(whole)
        damaged[offset] ^= 1 << (offset % 8)
        (copy / path.name).write_bytes(damaged)
        replay = Replay(copy, capacity=100, length=3, ongoing=True, chunk=10)
        if not replay.notices:  # Else found when it was opened.
            with pytest.raises(UserError, match="holds no 3 steps"):
                replay.gather(replay.draw(50))
        assert len(replay.notices) == 1, offset
    assert expected["image"].shape == (50, 3, 4, 4, 1)


def test_files_without_checksums_of_rows_are_still_read(tmp_path, monkeypatch):
    monkeypatch.setattr(replay_writer, "VERSION", 1)
    load = Chunk.__init__
    monkeypatch.setattr(Chunk, "__init__", lambda self, *a: load(self, *a[:3], 1))
    data = Counting(Replay(tmp_path, capacity=400, length=5, chunk=10))
    data.episode(25)
    data.replay.close()
    monkeypatch.undo()
    data.replay = Replay(tmp_path, capacity=400, length=5, chunk=10)
    data.episode(20)
    check(data.replay.sample(100), 100, 5)
    path = sorted(tmp_path.iterdir())[0]
    flip(path, last_offset(path, 3))
    replay = Replay(tmp_path, capacity=400, length=5, chunk=10)
    check(replay.sample(100), 100, 5)
    assert "has damaged values of where" in replay.notices[0]
