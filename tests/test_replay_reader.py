"""Reading a replay that another process owns: everything is seen, nothing is touched."""

from __future__ import annotations

import numpy as np
import pytest
from counting import Counting, check

from dreamerv2.common.replay import Replay
from dreamerv2.common.replay_chunk import ChunkError
from dreamerv2.common.replay_reader import ReplayReader


def contents(folder):
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}


def test_all_episodes_are_found_and_read_while_the_replay_is_in_use(tmp_path):
    replay = Replay(tmp_path, capacity=400, length=5, chunk=8)
    data = Counting(replay)
    for worker, length in [(0, 7), (3, 12), (0, 1), (0, 9)]:
        data.episode(length, worker)
    data.episode(6, 3, last=False)
    before = contents(tmp_path)
    reader = ReplayReader(tmp_path)
    assert {tuple(episode) for episode in reader.episodes} == {
        (0, 0, 7), (0, 7, 8), (0, 8, 17), (3, 0, 12), (3, 12, 18),
    }  # fmt: skip
    assert sorted(episode.length for episode in reader.episodes) == [1, 6, 7, 9, 12]
    batch = reader.read([reader.window(3, 13, 5), reader.window(0, 8, 5)], 5)
    check(batch, 2, 5)
    assert batch["where"][:, 0].tolist() == [[3, 2, 1, 13], [0, 3, 0, 8]]
    assert contents(tmp_path) == before
    data.add(3)  # What comes later is not seen, and does no harm.
    with pytest.raises(KeyError):
        reader.window(3, 14, 5)
    data.replay.sample(3)


def test_an_interrupted_episode_ends_where_the_next_begins(tmp_path):
    data = Counting(Replay(tmp_path, capacity=400, length=5))
    data.episode(6, last=False)
    data.add(first=True)
    data.episode(3)
    assert [tuple(e) for e in ReplayReader(tmp_path).episodes] == [(0, 0, 6), (0, 6, 10)]


def test_evicted_beginnings_and_files_that_vanish(tmp_path):
    data = Counting(Replay(tmp_path, capacity=40, length=5, chunk=5))
    data.episode(50)
    reader = ReplayReader(tmp_path)
    (episode,) = reader.episodes
    assert episode.start > 0
    assert episode.stop == 50
    window = reader.window(0, episode.start, 5)
    data.episode(50)
    with pytest.raises(ChunkError, match="evicted meanwhile"):
        reader.read([window], 5)


def test_damaged_and_foreign_files_stay_as_they_are(tmp_path):
    data = Counting(Replay(tmp_path, capacity=400, length=5, chunk=10))
    for _ in range(3):
        data.episode(10)
    (tmp_path / "0000-00000001.chunk").write_bytes(b"nonsense")
    (tmp_path / "0000-00000009.tmp").write_bytes(b"being created")
    before = contents(tmp_path)
    reader = ReplayReader(tmp_path)
    assert contents(tmp_path) == before
    assert [tuple(e) for e in reader.episodes] == [(0, 0, 10), (0, 20, 30)]
    (notice,) = reader.notices
    assert "0000-00000001.chunk is no replay chunk; its steps are left out." in notice
    np.testing.assert_array_equal(
        reader.read([reader.window(0, 20, 10)], 10)["where"][0, :, 3], np.arange(20, 30)
    )


def test_a_folder_without_replay_has_no_episodes(tmp_path):
    assert ReplayReader(tmp_path / "missing").episodes == []
    assert ReplayReader(tmp_path).episodes == []
