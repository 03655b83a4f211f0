"""The chunk format, by an independent reader, and what happens when it is damaged or disk ends."""

from __future__ import annotations

import errno
import json
import os
import struct
import zlib

import numpy as np
import pytest

from dreamerv2.common.errors import UserError
from dreamerv2.common.replay_chunk import Chunk, ChunkError
from dreamerv2.common.replay_writer import Writer, create

SCHEMA = {
    "image": (np.dtype("u1"), (8, 8, 3)),
    "vector": (np.dtype("<f4"), (5,)),
    "empty": (np.dtype("<f4"), (0,)),
    "reward": (np.dtype("<f4"), ()),
    "is_first": (np.dtype("?"), ()),
    "count": (np.dtype("<i8"), ()),
}


def make(directory, rows, capacity=20, schema=SCHEMA, sequence=4):
    chunk = create(
        directory,
        schema,
        stream=3,
        sequence=sequence,
        first=80,
        capacity=capacity,
        order=1234,
        totals={3: (80, 70, 10), 12: (5, 4, 1)},
    )
    writer = Writer(chunk)
    random = np.random.default_rng(0)
    data = [
        {
            k: random.integers(0, 2, s).astype(d) if s else d.type(i % 2)
            for k, (d, s) in schema.items()
        }
        for i in range(rows)
    ]
    for row in data:
        writer.append(row)
    if rows == capacity:
        writer.seal()
    stacked = {
        k: np.array([row[k] for row in data], d).reshape(rows, *s) for k, (d, s) in schema.items()
    }
    return chunk, stacked


def read(chunk, row, count):
    outputs = {k: np.empty((count, *s), d) for k, (d, s) in chunk.schema.items()}
    chunk.read(row, count, {k: memoryview(v.reshape(-1).view("u1")) for k, v in outputs.items()})
    return outputs


@pytest.mark.parametrize("rows", [0, 1, 7, 20])
def test_what_is_written_is_read_also_after_loading(tmp_path, rows):
    written, data = make(tmp_path, rows)
    loaded, small = Chunk.load(tmp_path / "0003-00000004.chunk")
    assert (loaded.rows, loaded.sealed) == (rows, rows == 20)
    assert (loaded.stream, loaded.sequence, loaded.first, loaded.end) == (3, 4, 80, 80 + rows)
    assert (loaded.order, loaded.totals) == (1234, {3: (80, 70, 10), 12: (5, 4, 1)})
    assert loaded.schema == SCHEMA
    assert small.keys() == {"is_first", "reward", "count", "empty"}
    for key, values in small.items():
        np.testing.assert_array_equal(values, data[key])
    for chunk in (written, loaded):
        for start in range(rows):
            for key, values in read(chunk, start, rows - start).items():
                np.testing.assert_array_equal(values, data[key][start:])
        chunk.verify()


def test_format_as_documented(tmp_path):
    chunk, data = make(tmp_path, 20)
    content = chunk.path.read_bytes()
    magic, version, header, length, checksum = struct.unpack_from("<8sIIII", content)
    assert (magic, version, header % 4096) == (b"\x89REPLAY\n", 2, 0)
    assert struct.unpack_from("<QI", content, 24) == (20, 1)
    text = content[64 : 64 + length]
    assert zlib.crc32(text) == checksum
    meta = json.loads(text)
    assert (meta["stream"], meta["sequence"], meta["first"], meta["capacity"]) == (3, 4, 80, 20)
    checksums = struct.unpack_from(f"<{len(SCHEMA)}I", content, header - 4 * len(SCHEMA))
    sums = struct.unpack_from("<20I", content, header - 4 * len(SCHEMA) - 4 * 20)
    names = [key["name"] for key in meta["keys"]]
    for row, crc in enumerate(sums):
        assert zlib.crc32(b"".join(data[name][row].tobytes() for name in names)) == crc
    end = header
    for key, crc in zip(meta["keys"], checksums, strict=True):
        shape = (20, *key["shape"])
        start = header + key["offset"]
        assert start >= end and start % 64 == 0
        array = np.frombuffer(content, key["dtype"], int(np.prod(shape)), start).reshape(shape)
        np.testing.assert_array_equal(array, data[key["name"]])
        assert zlib.crc32(array.tobytes()) == crc
        end = start + array.nbytes
    assert end == len(content)


def test_rows_are_visible_to_other_readers_at_once(tmp_path):
    chunk = create(
        tmp_path, SCHEMA, stream=0, sequence=0, first=0, capacity=4, order=0, totals={0: (0, 0, 0)}
    )
    writer = Writer(chunk)
    row = {k: np.ones(s, d) for k, (d, s) in SCHEMA.items()}
    for number in range(1, 5):
        writer.append(row)
        other, small = Chunk.load(chunk.path)
        assert other.rows == number and small["is_first"].all()


def test_deleted_chunk_stays_readable_while_held(tmp_path):
    chunk, data = make(tmp_path, 20)
    chunk.delete()
    assert not list(tmp_path.iterdir())
    np.testing.assert_array_equal(read(chunk, 5, 10)["image"], data["image"][5:15])


@pytest.mark.parametrize("offset", range(0, 64, 3))
def test_any_damaged_byte_of_the_fixed_header_is_found_or_harmless(tmp_path, offset):
    chunk, _ = make(tmp_path, 20)
    content = bytearray(chunk.path.read_bytes())
    content[offset] ^= 0x5A
    chunk.path.write_bytes(content)
    if offset >= 36:  # Reserved.
        assert Chunk.load(chunk.path)[0].rows == 20
    else:
        with pytest.raises(ChunkError):
            Chunk.load(chunk.path)


def test_damage_is_described(tmp_path):
    chunk, _ = make(tmp_path, 20)
    whole = chunk.path.read_bytes()
    for size, reason in [
        (0, "no replay chunk"),
        (4096, "truncated"),
        (len(whole) - 1, "truncated"),
    ]:
        chunk.path.write_bytes(whole[:size])
        with pytest.raises(ChunkError, match=reason):
            Chunk.load(chunk.path)
    other = tmp_path / Chunk.name(3, 5)
    other.write_bytes(whole)
    with pytest.raises(ChunkError, match=r"was written as 0003-00000004\.chunk"):
        Chunk.load(other)
    for column in chunk.columns:
        if not column.stride:
            continue
        content = bytearray(whole)
        content[column.offset + column.stride * 20 - 1] ^= 1
        chunk.path.write_bytes(content)
        with pytest.raises(ChunkError, match=f"damaged values of {column.name}"):
            Chunk.load(chunk.path)[0].verify()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_is_a_sentence_and_leaves_nothing(tmp_path, monkeypatch, code):
    def full(fd, offset, size):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UserError, match=r"cannot grow by .* MB .*lower replay\.capacity"):
        make(tmp_path, 1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("missing", [True, False])
def test_space_is_taken_without_fallocate_too(tmp_path, monkeypatch, missing):
    def refused(fd, offset, size):
        raise OSError(errno.EOPNOTSUPP, "no")

    if missing:
        monkeypatch.delattr(os, "posix_fallocate")
    else:
        monkeypatch.setattr(os, "posix_fallocate", refused)
    chunk, data = make(tmp_path, 20)
    status = chunk.path.stat()
    assert status.st_blocks * 512 >= status.st_size
    np.testing.assert_array_equal(read(chunk, 0, 20)["vector"], data["vector"])


def test_space_is_taken_when_the_file_is_created(tmp_path):
    status = make(tmp_path, 0, capacity=2000)[0].path.stat()
    assert status.st_blocks * 512 >= status.st_size


def test_many_keys_need_a_longer_header(tmp_path):
    schema = {f"key_{i}": (np.dtype("<f4"), ()) for i in range(400)}
    chunk, data = make(tmp_path, 20, schema=schema)
    loaded, small = Chunk.load(chunk.path)
    assert len(small) == 400
    loaded.verify()
    np.testing.assert_array_equal(small["key_7"], data["key_7"])
