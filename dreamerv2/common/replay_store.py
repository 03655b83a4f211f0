"""The streams of a replay on disk: appending transitions, evicting the oldest, reading rows."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dreamerv2.common.replay_chunk import Chunk, ChunkError, Schema
from dreamerv2.common.replay_schema import Checker
from dreamerv2.common.replay_stream import Stream, load_streams, set_aside
from dreamerv2.common.replay_writer import Writer, create


class Window(NamedTuple):
    """Some rows of a stream; the first two numbers address them across restarts.

    It keeps its data readable while it exists, even once the replay has evicted it.
    """

    stream: int
    start: int
    pieces: tuple[tuple[Chunk, int, int], ...]


def read_windows(schema: Schema, windows: Sequence[Window], length: int) -> dict[str, np.ndarray]:
    """Reads windows of ``length`` rows: every key of the schema as ``(B, length, ...)``.

    Raises:
        ChunkError: a file was truncated while it was in use.
    """
    outputs: dict[str, np.ndarray] = {}
    buffers: list[tuple[str, memoryview, int]] = []
    for key, (dtype, shape) in schema.items():
        outputs[key] = np.empty((len(windows), length, *shape), dtype)
        data: Any = outputs[key].reshape(-1).view(np.uint8)
        buffers.append((key, memoryview(data), len(data) // max(1, len(windows) * length)))
    done = 0
    for window in windows:
        for chunk, row, count in window.pieces:
            chunk.read(row, count, {key: data[done * size :] for key, data, size in buffers})
            done += count
    return outputs


class Store:
    """Streams of transitions in the chunk files of one folder.

    When more than ``capacity`` rows are loaded the oldest file goes as soon as ``capacity`` rows
    are left without it. Files being written are never evicted, so fewer than
    ``max(capacity, streams * chunk) + chunk`` rows are loaded. Not thread-safe, except `read`.

    Args:
        directory: Folder of the chunk files, created if missing.
        capacity: Transitions kept.
        chunk: Transitions in a new file.
    """

    def __init__(self, directory: Path, capacity: int, chunk: int) -> None:
        self.directory = directory
        self.rows = 0
        self.notices: list[str] = []
        self.streams: dict[int, Stream] = {}
        self._capacity = capacity
        self._chunk = chunk
        self._evict_from = sys.maxsize  # Rows from which on there is something to evict.
        self._checker = Checker({}, directory)
        directory.mkdir(parents=True, exist_ok=True)
        self._open()

    def append(self, transition: Mapping[str, Any], number: int) -> None:
        """Appends a transition to a stream.

        Raises:
            UserError: its keys, dtypes or shapes differ from those stored, or the disk is full.
            ValueError: an episode begins without ``is_first``.
        """
        values = self._checker(transition)
        first, last = bool(values["is_first"]), bool(values["is_last"])
        stream = self.streams.get(number)
        if stream is None:
            stream = self.streams[number] = Stream(number)
        if not first and not stream.running:
            raise ValueError(f"an episode of worker {number} must begin with is_first")
        writer = stream.writer
        if writer is None:
            writer = stream.writer = self._writer(stream)
            self._evict()
        writer.append(values)
        writer.chunk.episode_starts += first
        stream.push(first, last)
        self.rows += 1
        if writer.chunk.rows == writer.chunk.capacity:
            writer.seal()
            stream.writer = None
            self._evict()
        elif self.rows >= self._evict_from:
            self._evict()

    def window(self, number: int, start: int, length: int) -> Window:
        """Finds rows of a stream; KeyError if some of them are not loaded."""
        return Window(number, start, self.streams[number].pieces(start, length))

    def read(self, windows: Sequence[Window], length: int) -> dict[str, np.ndarray]:
        """Reads windows of ``length`` rows: every key as ``(B, length, ...)``.

        Raises:
            ChunkError: a file was truncated while it was in use.
            DamagedRows: a file holds other values than were written.
        """
        return read_windows(self._checker.schema, windows, length)

    def flush(self) -> None:
        """Waits until everything appended so far is on the disk."""
        for stream in self.streams.values():
            if stream.writer is not None:
                stream.writer.flush()

    def close(self) -> None:
        """Flushes and closes the files that are being written."""
        self.flush()
        for stream in self.streams.values():
            stream.writer = None

    def set_aside(self, chunk: Chunk, error: ChunkError) -> None:
        """Renames the file of a chunk that turned out damaged, and goes on without it.

        Streams keep their counters, and episodes that are running go on.
        """
        before = self.streams
        chunks = {chunk.path: chunk for stream in before.values() for chunk in stream.chunks}
        if chunks.get(chunk.path) is not chunk:
            return  # It was evicted or set aside meanwhile.
        chunk.hold()  # Windows that were drawn before may still look for it.
        self.notices.append(set_aside(chunk.path, error))
        self._open()
        for number, old in before.items():
            stream = self.streams.setdefault(number, Stream(number))
            stream.chunks = [chunks.get(new.path, new) for new in stream.chunks]
            stream.writer = old.writer
            if old.running:
                stream.reopen(old.next)
            stream.raise_totals(old.totals)

    def verify(self) -> list[Path]:
        """Reads all full files against their checksums; sets damaged ones aside, then reloads."""
        bad = []
        for chunk in [chunk for stream in self.streams.values() for chunk in stream.chunks]:
            try:
                chunk.verify()
            except ChunkError as error:
                self.notices.append(set_aside(chunk.path, error))
                bad.append(chunk.path)
        if bad:
            self._open()
        return bad

    def _open(self) -> None:
        self.streams, notices = load_streams(self.directory)
        self.notices.extend(notices)
        chunks = [chunk for stream in self.streams.values() for chunk in stream.chunks]
        self.rows = sum(chunk.rows for chunk in chunks)
        if chunks:
            self._checker = Checker(chunks[-1].schema, chunks[-1].path)
        self._evict()

    def _writer(self, stream: Stream) -> Writer:
        """Continues the newest chunk of a stream, or starts one."""
        if stream.chunks and not stream.chunks[-1].sealed and stream.chunks[-1].end == stream.next:
            writer = Writer(stream.chunks[-1])
            if writer.chunk.rows < writer.chunk.capacity:
                return writer
            writer.seal()  # The process was killed between the last row and this.
        chunk = create(
            self.directory,
            self._checker.schema,
            stream=stream.number,
            sequence=stream.sequence,
            first=stream.next,
            capacity=self._chunk,
            order=sum(other.next for other in self.streams.values()),
            totals={number: other.totals for number, other in self.streams.items()},
        )
        self._checker.path = chunk.path
        stream.append(chunk)
        return Writer(chunk)

    def _evict(self) -> None:
        """Deletes the oldest chunks as long as ``capacity`` rows remain without them."""
        while True:
            # The newest chunk of a stream may be the one being written.
            streams = [s for s in self.streams.values() if len(s.chunks) > (s.writer is not None)]
            oldest = min(streams, key=lambda s: s.chunks[0].order, default=None)
            if oldest is None:
                self._evict_from = sys.maxsize
                return
            self._evict_from = self._capacity + oldest.chunks[0].rows
            if self.rows < self._evict_from:
                return
            chunk = oldest.evict()
            self.rows -= chunk.rows
            chunk.delete()
