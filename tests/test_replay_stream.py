"""Loading a folder of chunk files: what counts, what is set aside, what is cleaned up."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from dreamerv2.common.replay import Replay
from dreamerv2.common.replay_stream import load_streams


def fill(directory, worker=0, episodes=4, key="x"):
    replay = Replay(directory, capacity=1000, length=2, chunk=8)
    for _ in range(episodes):
        for step in range(6):
            values = {key: np.float32(step), "is_first": step == 0, "is_last": step == 5}
            replay.add(values, worker)
    replay.close()


def test_counters_and_episodes_are_recovered_from_the_files(tmp_path):
    fill(tmp_path, worker=0)
    fill(tmp_path, worker=2, episodes=1)
    streams, notices = load_streams(tmp_path)
    assert not notices
    assert {n: s.totals for n, s in streams.items()} == {0: (24, 20, 4), 2: (6, 5, 1)}
    assert streams[0].stretches[0].starts.tolist() == [0, 6, 12, 18]
    assert [(c.first, c.rows) for c in streams[0].chunks] == [(0, 8), (8, 8), (16, 8)]
    assert not streams[0].running and streams[0].sequence == 3


def test_gap_and_missing_beginning_make_stretches(tmp_path):
    fill(tmp_path, episodes=6)
    paths = sorted(tmp_path.iterdir())
    paths[0].unlink()
    paths[2].unlink()
    stream = load_streams(tmp_path)[0][0]
    assert [(s.start, s.end, s.starts.tolist()) for s in stream.stretches] == [
        (8, 16, [8, 12]),
        (24, 36, [24, 30]),
    ]
    assert stream.totals == (36, 30, 6)
    with pytest.raises(KeyError, match="row 16 of stream 0"):
        stream.pieces(14, 4)
    assert [(c.first, row, n) for c, row, n in stream.pieces(30, 4)] == [(24, 6, 2), (32, 0, 2)]


def test_stream_without_files_keeps_its_counters(tmp_path):
    fill(tmp_path, worker=0)
    fill(tmp_path, worker=1)
    for path in tmp_path.glob("0000-*"):
        path.unlink()
    streams, _ = load_streams(tmp_path)
    assert streams[0].totals == (24, 20, 4) and not streams[0].chunks


def test_half_created_files_are_removed_and_others_left_alone(tmp_path):
    fill(tmp_path)
    (tmp_path / "0000-00000009.tmp").write_bytes(b"half")
    (tmp_path / "notes.txt").write_text("mine")
    assert load_streams(tmp_path)[1] == []
    assert not list(tmp_path.glob("*.tmp")) and (tmp_path / "notes.txt").exists()


def test_files_of_other_runs_are_set_aside(tmp_path):
    fill(tmp_path / "old", key="y")
    fill(tmp_path / "new", episodes=8)
    old = sorted((tmp_path / "old").iterdir())[0]
    shutil.copy(old, tmp_path / "new" / "0007-00000000.chunk")
    shutil.copy(old, tmp_path / "new" / "0003-00000000.chunk")
    streams, notices = load_streams(tmp_path / "new")
    assert len(notices) == 2
    assert any("0003-00000000.chunk was written as 0000-00000000.chunk" in n for n in notices)
    assert sorted(streams) == [0] and streams[0].next == 48
    foreign = sorted((tmp_path / "old").iterdir())[1]
    (tmp_path / "new" / "0000-00000001.chunk").unlink()
    shutil.copy(foreign, tmp_path / "new" / "0000-00000001.chunk")
    streams, notices = load_streams(tmp_path / "new")
    assert len(notices) == 1 and "holds other keys than 0000-00000005.chunk" in notices[0]
    assert len(streams[0].stretches) == 2
