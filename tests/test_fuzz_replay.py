"""Any sequence of operations on a replay against a list in memory; any bytes in its files."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import tempfile
import zlib
from typing import Any

import pytest
from counting import Counting, check
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dreamerv2.common.errors import UserError
from dreamerv2.common.replay import Replay
from dreamerv2.common.replay_chunk import FIXED, MAGIC, PAGE, PROGRESS, VERSION, Chunk, ChunkError
from dreamerv2.common.replay_reader import ReplayReader

QUICK = settings(max_examples=40, derandomize=True, deadline=None, database=None,
                 suppress_health_check=list(HealthCheck))  # fmt: skip
CAPACITY, LENGTH, CHUNK = 64, 4, 8


class ReplayMachine(RuleBasedStateMachine):
    """Adds, draws, flushes, closes, is killed, evicts and restores; rows say where they belong."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.counting: Any = None
        self.saved: dict[str, Any] | None = None
        self.rows: dict[int, list[tuple[bool, bool]]] = {0: [], 1: []}
        self.open()

    def open(self) -> None:
        replay = Replay(
            self.folder, capacity=CAPACITY, length=LENGTH, ongoing=True, chunk=CHUNK, seed=1
        )
        if self.counting is None:
            self.counting = Counting(replay)
        self.counting.replay = replay

    @property
    def replay(self) -> Replay:
        return self.counting.replay

    @rule(worker=st.integers(0, 1), length=st.integers(1, 9), last=st.booleans())
    def add(self, worker: int, length: int, last: bool) -> None:
        for step in range(length):
            first = self.counting.steps[worker] == 0
            ends = last and step == length - 1
            self.counting.add(worker, last=ends)
            self.rows[worker].append((first, ends))

    @rule(batch=st.integers(1, 3))
    def draw(self, batch: int) -> None:
        streams = self.replay._store.streams.values()
        lengths = [s.stretches[-1].end - s.stretches[-1].start for s in streams if s.stretches]
        loaded = max(lengths, default=0)
        try:
            windows = self.replay.sample(batch)
        except UserError:
            assert loaded < LENGTH
        else:
            check(windows, batch, LENGTH)

    @rule()
    def flush(self) -> None:
        self.replay.flush()

    @rule()
    def save(self) -> None:
        self.saved = json.loads(json.dumps(self.replay.state()))

    @rule(closed=st.booleans())
    def reopen(self, closed: bool) -> None:
        if closed:
            self.replay.close()
        self.open()  # Otherwise as after a kill: nothing was flushed or closed.
        self.restart()

    @precondition(lambda self: self.saved is not None)
    @rule()
    def restore(self) -> None:
        self.replay.close()
        self.open()
        self.replay.restore(self.saved)
        self.restart()

    def restart(self) -> None:
        """The environments of another process begin with new episodes."""
        for worker in (0, 1):
            self.counting.steps[worker] = 0

    @rule(seed=st.integers(0, 5))
    def verify(self, seed: int) -> None:
        if not any(stream.running for stream in self.replay._store.streams.values()):
            assert self.replay.verify() == []

    @invariant()
    def counts_are_right(self) -> None:
        stats = self.replay.stats
        steps = sum(not first for rows in self.rows.values() for first, _ in rows)
        assert stats["total_steps"] == steps
        total = sum(len(rows) for rows in self.rows.values())
        held = self.replay._store.rows
        assert min(total, CAPACITY) <= held <= min(total, CAPACITY + 3 * CHUNK)
        assert not self.replay.notices or "still running" in self.replay.notices[0]
        files = list(self.folder.glob("*"))
        assert all(path.suffix == ".chunk" for path in files)
        assert len(files) <= 2 + 2 + held // CHUNK + 40  # Short ones stay when a process is killed.

    def teardown(self) -> None:
        self.replay.close()
        shutil.rmtree(self.folder)


class TestReplay(ReplayMachine.TestCase):  # type: ignore[name-defined]
    settings = settings(QUICK, max_examples=25, stateful_step_count=30)


def whole(folder: pathlib.Path) -> pathlib.Path:
    """A folder with one full file."""
    counting = Counting(Replay(folder, capacity=CAPACITY, length=2, chunk=CHUNK))
    counting.episode(CHUNK)
    counting.replay.close()
    return next(folder.glob("*.chunk"))


def rewrite(path: pathlib.Path, change: Any) -> None:
    """Change the description in a file, with a right checksum, as only malice would."""
    data = bytearray(path.read_bytes())
    _, version, header, length, _ = FIXED.unpack_from(data)
    meta = json.loads(data[64 : 64 + length])
    result = change(meta)
    text = (result if isinstance(result, str) else json.dumps(meta)).encode()
    assert len(text) <= header - 64
    data[64 : 64 + len(text)] = text
    data[: FIXED.size] = FIXED.pack(MAGIC, version, header, len(text), zlib.crc32(text))
    path.write_bytes(data)


def replace(name: str, value: Any) -> Any:
    return lambda meta: meta.update({name: value})


def in_key(**changes: Any) -> Any:
    return lambda meta: meta["keys"][0].update(changes)


HUGE = 10**18
ATTACKS: dict[str, Any] = {
    "capacity": replace("capacity", HUGE), "capacity_list": replace("capacity", [8]),
    "no_rows": replace("capacity", 0), "negative": replace("capacity", -8),
    "first": replace("first", -1), "order": replace("order", 10**40), "text": replace("first", "0"),
    "stream": replace("stream", 2.5), "totals": replace("totals", {}),
    "totals_list": replace("totals", [1]), "totals_huge": replace("totals", {"0": [HUGE] * 3}),
    "totals_short": replace("totals", {"0": [1]}), "keys": replace("keys", []),
    "keys_number": replace("keys", 7), "shape": in_key(shape=[HUGE]),
    "shapes": in_key(shape=[2] * 99),
    "shape_negative": in_key(shape=[-4]), "shape_text": in_key(shape="44"),
    "object": in_key(dtype="O"), "void": in_key(dtype="V8"), "texts": in_key(dtype="<U9"),
    "time": in_key(dtype="M8[s]"), "no_type": in_key(dtype="nonsense"),
    "list_type": in_key(dtype=[["a", "O"]]),
    "name": in_key(name=["a"]), "twice": in_key(name="image"), "string": lambda meta: '"text"',
    "list": lambda meta: "[1, 2]", "deep": lambda meta: "[" * 2500,
    "number": lambda meta: "9" * 3900,
    "nothing": lambda meta: "{}",
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_headers_that_lie_are_refused(attack: str, tmp_path: pathlib.Path) -> None:
    path = whole(tmp_path)
    rewrite(path, ATTACKS[attack])
    with pytest.raises(ChunkError):
        Chunk.load(path)
    assert ReplayReader(tmp_path).notices and path.exists()
    replay = Replay(tmp_path, capacity=CAPACITY, length=2, chunk=CHUNK)
    (notice,) = replay.notices
    assert "set aside" in notice or ".bad" in notice
    assert [p.suffix for p in tmp_path.iterdir()] == [".bad"]


@QUICK
@given(data=st.data())
def test_files_of_any_bytes_are_refused_or_read(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        path = whole(folder)
        content = bytearray(path.read_bytes())
        kind = data.draw(st.sampled_from(["flip", "cut", "noise", "fixed", "progress"]))
        if kind == "flip":
            for _ in range(data.draw(st.integers(1, 4))):
                content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(
                    st.integers(1, 255)
                )
        elif kind == "cut":
            content = content[: data.draw(st.integers(0, len(content)))]
        elif kind == "noise":
            content = bytearray(data.draw(st.binary(max_size=200))) + bytes(
                data.draw(st.just(PAGE))
            )
        elif kind == "fixed":
            numbers = [data.draw(st.sampled_from([0, 1, 64, PAGE, 2**24, 2**32 - 1])) for _ in "ab"]
            content[: FIXED.size] = FIXED.pack(MAGIC, VERSION, *numbers, 0)
        else:
            rows = data.draw(st.sampled_from([0, 3, 8, 9, 2**40, 2**64 - 1]))
            sealed = data.draw(st.integers(0, 2))
            content[24 : 24 + PROGRESS.size] = PROGRESS.pack(rows, sealed)
        path.write_bytes(content)
        with contextlib.suppress(ChunkError):
            Chunk.load(path)
        replay = Replay(folder, capacity=CAPACITY, length=2, chunk=CHUNK)
        assert replay._store.rows <= CHUNK
        replay.verify()
        replay.close()


def test_a_file_that_claims_terabytes_takes_no_memory(tmp_path: pathlib.Path) -> None:
    path = whole(tmp_path)
    with open(path, "r+b") as file:
        file.truncate(1 << 40)  # Sparse: it takes no space.
        file.write(FIXED.pack(MAGIC, VERSION, 2**32 - 4096, 2**31, 0))
    with pytest.raises(ChunkError, match="unusable"):
        Chunk.load(path)


def test_links_pipes_and_files_of_others_are_left_alone(tmp_path: pathlib.Path) -> None:
    mine = tmp_path / "mine"
    (other := tmp_path / "other").mkdir()
    mine.mkdir()
    precious = whole(other)
    before = precious.read_bytes()
    (mine / precious.name).symlink_to(precious)
    (other / "thesis.tmp").write_text("precious")
    (mine / "thesis.tmp").write_text("precious")
    os.mkfifo(mine / "0000-00000001.chunk")
    replay = Replay(mine, capacity=CAPACITY, length=2, chunk=CHUNK)
    assert len(replay.notices) == 2 and replay._store.rows == 0
    assert precious.read_bytes() == before and (mine / "thesis.tmp").exists()
    replay.close()
