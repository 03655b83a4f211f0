"""The file format of the replay: fixed-size chunks of one stream of transitions.

A chunk file holds up to ``capacity`` consecutive rows of one stream. Nothing is pickled::

    0    magic (8 bytes), version, header bytes, JSON bytes, JSON checksum (uint32 each)
    24   rows written so far (uint64), sealed (uint32: 0 or 1)
    64   JSON: stream, sequence, first, capacity, order, totals, keys (name, dtype, shape, offset)
         one crc32 (uint32) a row, over its keys in the order of their arrays
         one crc32 (uint32) a key, valid once sealed
    ...  one array ``(capacity, *shape)`` a key, aligned, small keys first

All numbers are little-endian. Rows are written through a memory map and the row count is advanced
last, so a process killed at any instant loses at most the row being written: the page cache
outlives the process. Each row has a checksum, which is compared when the row is first read by a
process, and a full chunk is sealed with one checksum a key. Space is allocated when the
file is created, hence a full disk is an exception then, not a bus error later.

Reading goes through ``preadv`` into the caller's arrays, not through memory maps: as fast when the
file is cached, it leaves the resident memory of the process flat and turns a file that was
truncated behind our back into an exception.
"""

from __future__ import annotations

import json
import math
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dreamerv2.common.replay_header import HEADER_BYTES, check_header

SUFFIX = ".chunk"
PAGE = 4096
MAGIC = b"\x89REPLAY\n"
VERSION = 2  # 1 had no checksums of rows.
FIXED = struct.Struct("<8sIIII")  # Magic, version, header bytes, JSON bytes, JSON checksum.
PROGRESS = struct.Struct("<QI")  # Rows and the sealed flag.
PROGRESS_OFFSET = 24
JSON_OFFSET = 64
_BLOCK = 1 << 26  # Bytes that are verified at a time.
_SMALL = 8  # Bytes a row up to which a key is checked when its file is opened.

Schema = dict[str, tuple[np.dtype, tuple[int, ...]]]


class ChunkError(Exception):
    """A file is damaged, truncated or not a chunk at all."""


class DamagedRows(ChunkError):
    """Rows that were read have other values than were written."""

    def __init__(self, chunk: Chunk, message: str) -> None:
        super().__init__(message)
        self.chunk = chunk


class Column(NamedTuple):
    """Where the array of one key lies: ``offset`` from the start of the file, bytes a row."""

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int
    stride: int


def layout(schema: Schema, capacity: int, start: int) -> tuple[list[Column], int]:
    """Places the arrays after ``start``, small rows first; returns them and the file size."""
    columns = []
    end = start
    sizes = {name: dtype.itemsize * math.prod(shape) for name, (dtype, shape) in schema.items()}
    for name in sorted(schema, key=lambda name: (sizes[name], name)):
        nbytes = sizes[name] * capacity
        align = PAGE if nbytes >= 16 * PAGE else 64
        offset = -(-end // align) * align
        columns.append(Column(name, *schema[name], offset, sizes[name]))
        end = offset + nbytes
    return columns, end


class Handle:
    """An open file that closes with its last reference, whichever thread holds it."""

    def __init__(self, path: Path, flags: int = os.O_RDONLY) -> None:
        self.fd = -1
        self.fd = os.open(path, flags)

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)


class Chunk:
    """One chunk file; reading is safe from any thread, also while rows are appended.

    ``first`` is the index of row 0 within the stream, ``order`` the number of rows in the whole
    replay when the chunk was created, ``totals`` what all streams had counted by then.
    """

    def __init__(
        self, path: Path, meta: Mapping[str, Any], header: int, version: int = VERSION
    ) -> None:
        self.path = path
        self.stream = int(meta["stream"])
        self.sequence = int(meta["sequence"])
        self.first = int(meta["first"])
        self.capacity = int(meta["capacity"])
        self.order = int(meta["order"])
        self.totals: dict[int, tuple[int, int, int]] = {
            int(k): (int(rows), int(steps), int(begun))
            for k, (rows, steps, begun) in meta["totals"].items()
        }
        self.schema: Schema = {
            key["name"]: (np.dtype(key["dtype"]), tuple(map(int, key["shape"])))
            for key in meta["keys"]
        }
        self.columns, self.size = layout(self.schema, self.capacity, header)
        self.checksum_offset = header - 4 * len(self.columns)
        self.sums_offset = self.checksum_offset - 4 * self.capacity if version > 1 else None
        self.trusted = np.zeros(self.capacity, bool)  # Rows that were compared or written here.
        self.rows = 0
        self.sealed = False
        self.episode_starts = 0  # Rows with is_first; kept by the replay.
        self._handle: Handle | None = None  # Held only once the file is deleted.

    @property
    def end(self) -> int:
        """Index within the stream of the row after the last one."""
        return self.first + self.rows

    @staticmethod
    def name(stream: int, sequence: int) -> str:
        """File name of a chunk."""
        return f"{stream:04d}-{sequence:08d}{SUFFIX}"

    @classmethod
    def load(cls, path: Path) -> tuple[Chunk, dict[str, np.ndarray]]:
        """Opens a file; returns the chunk and its small keys, ``(rows,)`` each, verified.

        A chunk that is not sealed is verified as a whole, the others as their rows are read.

        Raises:
            ChunkError: the file is damaged, truncated or foreign.
        """
        handle = Handle(path)
        start = os.pread(handle.fd, 4 * PAGE, 0)
        if len(start) < PAGE or start[: len(MAGIC)] != MAGIC:
            raise ChunkError("is no replay chunk")
        _, version, header, length, checksum = FIXED.unpack_from(start)
        if version not in (1, VERSION):
            raise ChunkError(f"has version {version} where this program reads {VERSION}")
        if length > header or header > os.fstat(handle.fd).st_size:
            raise ChunkError("is truncated")
        if header > HEADER_BYTES:
            raise ChunkError("has an unusable header")
        if header > len(start):
            start = os.pread(handle.fd, header, 0)
        text = start[JSON_OFFSET : JSON_OFFSET + length]
        if zlib.crc32(text) != checksum:
            raise ChunkError("has a damaged header")
        try:
            meta = json.loads(text)
            check_header(meta)
            chunk = cls(path, meta, header, version)
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
            raise ChunkError("has an unusable header") from error
        if path.name != cls.name(chunk.stream, chunk.sequence):
            raise ChunkError(f"was written as {cls.name(chunk.stream, chunk.sequence)}")
        if os.fstat(handle.fd).st_size != chunk.size:
            raise ChunkError("is truncated")
        if chunk.checksum_offset < JSON_OFFSET + length or (chunk.sums_offset or length) < length:
            raise ChunkError("has an unusable header")
        rows, sealed = PROGRESS.unpack_from(start, PROGRESS_OFFSET)
        if rows > chunk.capacity or sealed > 1 or (sealed and rows < chunk.capacity):
            raise ChunkError("has a damaged row count")
        chunk.rows, chunk.sealed = rows, bool(sealed)
        small = {}
        for column, crc in zip(chunk.columns, chunk._checksums(handle), strict=True):
            if column.stride > _SMALL:
                break
            end = column.offset + column.stride * rows
            data = start[column.offset : end]
            if end > len(start):
                data = os.pread(handle.fd, column.stride * rows, column.offset)
            if sealed and zlib.crc32(data) != crc:
                raise ChunkError(f"has damaged values of {column.name}")
            small[column.name] = np.frombuffer(data, column.dtype).reshape(rows, *column.shape)
        if not sealed and chunk.sums_offset is not None:
            block = max(1, _BLOCK // max(1, sum(column.stride for column in chunk.columns)))
            for row in range(0, rows, block):
                count = min(block, rows - row)
                chunk.read(
                    row,
                    count,
                    {c.name: memoryview(bytearray(c.stride * count)) for c in chunk.columns},
                )
        return chunk, small

    def verify(self) -> None:
        """Reads all data of a sealed chunk and checks it; one that is not was checked when opened.

        Raises:
            ChunkError: some key has other values than were written.
        """
        if not self.sealed:
            return
        handle = self._open()
        for column, crc in zip(self.columns, self._checksums(handle), strict=True):
            data = bytearray(column.stride * self.capacity)
            self._fill(handle, memoryview(data), column.offset)
            if zlib.crc32(data) != crc:
                raise ChunkError(f"has damaged values of {column.name}")
        self.trusted[:] = True

    def read(self, row: int, count: int, outputs: Mapping[str, memoryview]) -> None:
        """Reads ``count`` rows from ``row`` into one writable byte buffer a key.

        Raises:
            ChunkError: the file has become shorter than it was.
            DamagedRows: some row has other values than were written.
        """
        handle = self._open()
        for name, _, _, offset, stride in self.columns:
            if stride:
                self._fill(handle, outputs[name][: count * stride], offset + row * stride)
        if not self.trusted[row : row + count].all():
            self._compare(handle, row, count, outputs)
            self.trusted[row : row + count] = True

    def delete(self) -> None:
        """Deletes the file; whoever still holds this object can go on reading."""
        self.hold()
        self.path.unlink(missing_ok=True)

    def hold(self) -> None:
        """Keeps the file open, before it gets another name or none."""
        self._handle = self._open()

    def _compare(
        self, handle: Handle, row: int, count: int, outputs: Mapping[str, memoryview]
    ) -> None:
        if self.sums_offset is None:
            try:
                self.verify()
            except ChunkError as error:
                raise DamagedRows(self, str(error)) from error
            return
        stored = memoryview(bytearray(4 * count))
        self._fill(handle, stored, self.sums_offset + 4 * row)
        for index, crc in enumerate(stored.cast("I")):
            found = 0
            for name, _, _, _, stride in self.columns:
                found = zlib.crc32(outputs[name][index * stride : (index + 1) * stride], found)
            if found != crc:
                raise DamagedRows(self, f"has damaged values in row {row + index}")

    def _open(self) -> Handle:
        if self._handle is not None:
            return self._handle
        try:
            return Handle(self.path)
        except FileNotFoundError:
            # Another thread deleted the file meanwhile and left its handle before it did.
            if self._handle is not None:
                return self._handle
            raise

    def _fill(self, handle: Handle, out: memoryview, offset: int) -> None:
        while len(out):
            count = os.preadv(handle.fd, [out], offset)
            if not count:
                raise ChunkError(f"{self.path} is shorter than when it was opened")
            out, offset = out[count:], offset + count

    def _checksums(self, handle: Handle) -> Iterator[int]:
        data = os.pread(handle.fd, 4 * len(self.columns), self.checksum_offset)
        return iter(np.frombuffer(data, "<u4").tolist())
