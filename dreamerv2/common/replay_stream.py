"""The streams of a replay: what each has counted, and which of its chunk files are loaded."""

from __future__ import annotations

import logging
import re
import stat
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dreamerv2.common.replay_chunk import SUFFIX, Chunk, ChunkError
from dreamerv2.common.replay_sampling import Stretch
from dreamerv2.common.replay_writer import Writer

_log = logging.getLogger(__name__)


class Stream:
    """What is known of one stream: its counters since ever, and its loaded chunks and stretches."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.sequence = 0  # Of the next chunk.
        self.next = 0  # Index of the next row.
        self.steps = 0  # Rows ever added that are not is_first.
        self.begun = 0  # Episodes ever begun.
        self.running = False  # Whether the last of them has not finished.
        self.chunks: list[Chunk] = []
        self.firsts: list[int] = []
        self.stretches: list[Stretch] = []
        self.writer: Writer | None = None

    @property
    def totals(self) -> tuple[int, int, int]:
        """The counters that outlive the data: rows, steps and episodes begun."""
        return self.next, self.steps, self.begun

    def raise_totals(self, totals: Sequence[int]) -> None:
        """Takes the larger of each counter and of what was recorded elsewhere."""
        self.next = max(self.next, totals[0])
        self.steps = max(self.steps, totals[1])
        self.begun = max(self.begun, totals[2])

    def stretch(self) -> Stretch:
        """The stretch that the next row continues."""
        if not self.stretches or self.stretches[-1].end != self.next:
            self.stretches.append(Stretch(self.next))
        return self.stretches[-1]

    def push(self, first: bool, last: bool) -> None:
        """Counts one row that was written."""
        self.stretch().push(first, last)
        self.next += 1
        self.steps += not first
        self.begun += first
        self.running = not last

    def reopen(self, next_row: int) -> bool:
        """Takes the last episode for running again, unless rows after ``next_row`` came since."""
        self.running = bool(self.stretches) and self.next == next_row
        if self.running:
            self.stretches[-1].reopen()
        return self.running

    def finish(self) -> None:
        """Takes the last episode for finished."""
        self.stretches[-1].finish()
        self.running = False

    def append(self, chunk: Chunk) -> None:
        """Takes a chunk that begins at the end of the stream or later."""
        self.chunks.append(chunk)
        self.firsts.append(chunk.first)
        self.sequence = chunk.sequence + 1

    def load(self, chunk: Chunk, starts: np.ndarray) -> None:
        """Takes a chunk found on disk, with ``starts`` the rows at which episodes begin."""
        self.append(chunk)
        chunk.episode_starts = len(starts)
        self.next, self.steps, self.begun = chunk.totals[self.number]
        if chunk.rows:
            stretch = self.stretch()
            episodes = starts
            if stretch.start == stretch.end and not (len(starts) and starts[0] == 0):
                # After a gap, or with its beginning evicted, the rest of an episode stays one.
                episodes = np.insert(starts, 0, 0)
            stretch.extend(episodes + chunk.first, chunk.rows)
            stretch.finish()
        self.next = chunk.end
        self.steps += chunk.rows - len(starts)
        self.begun += len(starts)

    def evict(self) -> Chunk:
        """Drops the oldest chunk from the index and returns it."""
        chunk = self.chunks.pop(0)
        self.firsts.pop(0)
        if chunk.rows:
            self.stretches[0].cut(chunk.end)
            if self.stretches[0].start == self.stretches[0].end:
                self.stretches.pop(0)
        return chunk

    def pieces(self, start: int, length: int) -> tuple[tuple[Chunk, int, int], ...]:
        """Where the rows ``[start, start + length)`` lie, as (chunk, row, count).

        Raises:
            KeyError: some of them are not loaded.
        """
        found = []
        while length:
            at = bisect_right(self.firsts, start) - 1
            if at < 0 or self.chunks[at].end <= start:
                raise KeyError(f"row {start} of stream {self.number} is not loaded")
            chunk = self.chunks[at]
            count = min(length, chunk.end - start)
            found.append((chunk, start - chunk.first, count))
            start, length = start + count, length - count
        return tuple(found)


def load_streams(directory: Path, readonly: bool = False) -> tuple[dict[int, Stream], list[str]]:
    """Opens all chunk files of a folder; those that can't be used are renamed to ``*.bad``.

    With ``readonly`` nothing in the folder changes, and another process may be using it.

    Returns the streams by number and one sentence for each file that was set aside.
    """
    notices = []
    chunks: list[Chunk] = []
    starts = {}
    reject = leave_out if readonly else set_aside
    for path in [] if readonly else directory.glob("*.tmp"):
        if re.fullmatch(r"\d{4,}-\d{8,}\.tmp", path.name):
            path.unlink()  # The process was killed before it had created the file.
    for path in sorted(directory.glob("*" + SUFFIX)):
        try:
            if not stat.S_ISREG(path.lstat().st_mode):
                raise ChunkError("is no plain file")  # A link may lead anywhere, a pipe block.
            chunk, small = Chunk.load(path)
            if chunk.schema.get("is_first") != (np.dtype(bool), ()):
                raise ChunkError("has no key is_first")
            starts[path] = np.flatnonzero(small["is_first"])
            chunks.append(chunk)
        except ChunkError as error:
            notices.append(reject(path, error))
        except FileNotFoundError:
            if not readonly:
                raise  # Else the process that uses the replay has just evicted it.
    newest = max(chunks, key=lambda chunk: chunk.order, default=None)
    streams: dict[int, Stream] = {}
    for chunk in sorted(chunks, key=lambda chunk: (chunk.stream, chunk.sequence)):
        stream = streams.setdefault(chunk.stream, Stream(chunk.stream))
        if newest and chunk.schema != newest.schema:
            reason = ChunkError(f"holds other keys than {newest.path.name}")
            notices.append(reject(chunk.path, reason))
        elif chunk.first < stream.next:
            notices.append(reject(chunk.path, ChunkError("repeats steps of another file")))
        else:
            stream.load(chunk, starts[chunk.path])
    for chunk in chunks:
        for number, totals in chunk.totals.items():
            streams.setdefault(number, Stream(number)).raise_totals(totals)
    return streams, notices


def set_aside(path: Path, error: Exception) -> str:
    """Renames a file that can't be used to ``*.bad``; logs and returns a sentence about it."""
    bad = path.with_name(path.name + ".bad")
    path.rename(bad)
    notice = f"The replay file {path} {error}; it is now {bad.name} and its steps are left out."
    _log.warning(notice)
    return notice


def leave_out(path: Path, error: Exception) -> str:
    """Logs and returns a sentence about a file that can't be used; the file stays as it is."""
    notice = f"The replay file {path} {error}; its steps are left out."
    _log.warning(notice)
    return notice
