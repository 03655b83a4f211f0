"""Creating chunk files of the replay and appending to them; the format is in replay_chunk.py."""

from __future__ import annotations

import errno
import json
import math
import mmap
import os
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dreamerv2.common.errors import UserError, no_space
from dreamerv2.common.replay_chunk import (
    FIXED,
    JSON_OFFSET,
    MAGIC,
    PAGE,
    PROGRESS_OFFSET,
    VERSION,
    Chunk,
    Handle,
    Schema,
    layout,
)


def create(
    directory: Path,
    schema: Schema,
    *,
    stream: int,
    sequence: int,
    first: int,
    capacity: int,
    order: int,
    totals: Mapping[int, tuple[int, ...]],
) -> Chunk:
    """Writes an empty chunk with all its space allocated.

    Raises:
        UserError: the disk, or the user's quota, is full.
    """
    columns, size = layout(schema, capacity, 0)
    meta = {
        "stream": stream,
        "sequence": sequence,
        "first": first,
        "capacity": capacity,
        "order": order,
        "totals": {str(k): list(v) for k, v in totals.items()},
        "keys": [
            {"name": c.name, "dtype": c.dtype.str, "shape": c.shape, "offset": c.offset}
            for c in columns
        ],
    }
    text = json.dumps(meta).encode()
    header = -(-(JSON_OFFSET + len(text) + 4 * (len(columns) + capacity)) // PAGE) * PAGE
    fixed = FIXED.pack(MAGIC, VERSION, header, len(text), zlib.crc32(text))
    path = directory / Chunk.name(stream, sequence)
    # The name appears with the rename only, so every *.chunk file has a whole header.
    temporary = path.with_suffix(".tmp")
    fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        _allocate(fd, size + header)
        os.pwrite(fd, fixed + bytes(JSON_OFFSET - len(fixed)) + text, 0)
        os.rename(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if no_space(error):
            raise UserError(
                f"The replay in {directory} cannot grow by {(size + header) / 1e6:.1f} MB "
                f"({error.strerror}); free disk space or lower replay.capacity."
            ) from error
        raise
    finally:
        os.close(fd)
    return Chunk(path, meta, header)


class Writer:
    """Appends rows to a chunk through a shared memory map of the whole file."""

    def __init__(self, chunk: Chunk) -> None:
        self.chunk = chunk
        handle = Handle(chunk.path, os.O_RDWR)
        self._map = mmap.mmap(handle.fd, chunk.size)
        self._progress = np.frombuffer(self._map, "<u8", 1, PROGRESS_OFFSET)
        self._arrays = {
            c.name: np.frombuffer(
                self._map, c.dtype, chunk.capacity * math.prod(c.shape), c.offset
            ).reshape(chunk.capacity, *c.shape)
            for c in chunk.columns
        }
        data = memoryview(self._map)
        parts = [(data[c.offset :], c.stride) for c in chunk.columns]
        self._columns = [*zip(self._arrays.items(), parts, strict=True)]
        sums = chunk.sums_offset
        self._sums = None if sums is None else np.frombuffer(self._map, "<u4", chunk.capacity, sums)

    def append(self, values: Mapping[str, Any]) -> None:
        """Writes one row, already checked against the schema, and its checksum, then counts it."""
        row, crc = self.chunk.rows, 0
        for (name, array), (data, stride) in self._columns:
            array[row] = values[name]
            crc = zlib.crc32(data[row * stride : (row + 1) * stride], crc)
        if self._sums is not None:
            self._sums[row] = crc
        self.chunk.trusted[row] = True
        self._progress[0] = row + 1
        self.chunk.rows = row + 1

    def seal(self) -> None:
        """Stores the checksums of a full chunk, then the flag that makes them count."""
        checksums = [zlib.crc32(array.tobytes()) for array in self._arrays.values()]
        offset = self.chunk.checksum_offset
        self._map[offset : offset + 4 * len(checksums)] = np.array(checksums, "<u4").tobytes()
        self._map[PROGRESS_OFFSET + 8 : PROGRESS_OFFSET + 12] = struct.pack("<I", 1)
        self.chunk.sealed = True

    def flush(self) -> None:
        """Waits until the data is on the disk."""
        self._map.flush()


def _allocate(fd: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(fd, 0, size)
            return
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                raise
    # Systems without it, and file systems that refuse it: zeros take the space as surely.
    zeros = bytes(1 << 20)
    for start in range(0, size, len(zeros)):
        os.pwrite(fd, zeros[: size - start], start)
