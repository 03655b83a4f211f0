from __future__ import annotations

import logging
import pathlib
import threading
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from dreamerv2.common.checkpoint import Checkpoint, Saved, _copy, names, read
from dreamerv2.common.errors import UserError


class Holder:
    """A variable and a state, as a run has many of them."""

    def __init__(self, directory: pathlib.Path, size: int = 3, keep: int = 2) -> None:
        self.variable = tf.Variable(tf.zeros(size))
        self.state = {"step": 0}
        names = {"weights/a.b": self.variable}
        saved = Saved(lambda: self.state, self.state.update)
        self.checkpoint = Checkpoint(directory, names, {"progress": saved}, keep)

    def save(self, value: float) -> str:
        self.variable.assign(tf.fill(self.variable.shape, value))
        self.state["step"] = int(value)
        return self.checkpoint.save()

    def values(self) -> tuple[float, int]:
        return float(self.variable.numpy()[0]), self.state["step"]


def place(data: bytes) -> int:
    """Return where the variable of a `Holder` is in its file; other things stand around it."""
    return max(data.find(np.full(3, value, np.float32).tobytes()) for value in (1, 2))


def flip(path: str) -> None:
    file = pathlib.Path(path + ".data-00000-of-00001")
    data = bytearray(file.read_bytes())
    data[place(data)] ^= 0x01
    file.write_bytes(data)


def test_restores_variables_and_states_of_the_newest(tmp_path: pathlib.Path) -> None:
    holder = Holder(tmp_path)
    assert not holder.checkpoint.restore()
    holder.save(1.0)
    holder.save(2.0)
    other = Holder(tmp_path)
    assert other.checkpoint.restore()
    assert other.values() == (2.0, 2)
    np.testing.assert_array_equal(other.variable.numpy(), 2.0)


def test_numbering_goes_on_and_old_ones_are_deleted(tmp_path: pathlib.Path) -> None:
    Holder(tmp_path).save(1.0)
    holder = Holder(tmp_path)
    holder.checkpoint.restore()
    paths = [holder.save(float(value)) for value in (2, 3)]
    assert len(set(paths)) == 2
    assert len(list(tmp_path.glob("*.index"))) == 2
    assert Holder(tmp_path).checkpoint.restore()


def cut(path: str) -> None:
    file = pathlib.Path(path + ".data-00000-of-00001")
    data = file.read_bytes()
    file.write_bytes(data[: place(data) + 5])


def cut_index(path: str) -> None:
    file = pathlib.Path(path + ".index")
    file.write_bytes(file.read_bytes()[:40])


def lose_data(path: str) -> None:
    pathlib.Path(path + ".data-00000-of-00001").unlink()


def lose_index(path: str) -> None:
    pathlib.Path(path + ".index").unlink()


DAMAGES = pytest.mark.parametrize("damage", [flip, cut, cut_index, lose_data, lose_index])


@DAMAGES
def test_passes_over_a_damaged_one(
    tmp_path: pathlib.Path,
    damage: Callable[[str], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    holder = Holder(tmp_path)
    holder.save(1.0)
    newest = holder.save(2.0)
    damage(newest)
    other = Holder(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert other.checkpoint.restore()
    assert other.values() == (1.0, 1)
    assert "damaged and passed over" in caplog.text


def test_says_so_if_all_are_damaged(tmp_path: pathlib.Path) -> None:
    holder = Holder(tmp_path)
    for value in (1.0, 2.0):
        flip(holder.save(value))
    with pytest.raises(UserError, match="All checkpoints"):
        Holder(tmp_path).checkpoint.restore()


def test_other_shapes_are_refused_by_name(tmp_path: pathlib.Path) -> None:
    Holder(tmp_path).save(1.0)
    other = Holder(tmp_path, size=4)
    with pytest.raises(UserError, match=r"weights:a.*\(3,\) there and \(4,\) here"):
        other.checkpoint.restore()
    assert other.values() == (0.0, 0)


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="could not be written"):
        Holder(tmp_path / "file" / "below").save(1.0)


@DAMAGES
def test_reads_without_writing_and_passes_over_a_damaged_one(
    tmp_path: pathlib.Path, damage: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    holder = Holder(tmp_path)
    holder.save(1.0)
    newest = holder.save(2.0)
    variable = tf.Variable(tf.zeros(3))
    assert names(tmp_path) == ["ckpt-2", "ckpt-1"]
    found = read(tmp_path, {"weights/a.b": variable}, names(tmp_path))
    assert found == ("ckpt-2", {"progress": {"step": 2}})
    np.testing.assert_array_equal(variable.numpy(), 2.0)
    assert "damaged" not in caplog.text
    damage(newest)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    found = read(tmp_path, {"weights/a.b": variable}, names(tmp_path))
    assert found == ("ckpt-1", {"progress": {"step": 1}})
    np.testing.assert_array_equal(variable.numpy(), 1.0)
    assert "ckpt-2 is damaged and passed over" in caplog.text
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_reading_says_so_if_all_are_damaged_and_changes_nothing(tmp_path: pathlib.Path) -> None:
    holder = Holder(tmp_path)
    for value in (1.0, 2.0):
        flip(holder.save(value))
    variable = tf.Variable(tf.zeros(3))
    with pytest.raises(UserError, match=r"ckpt-2, ckpt-1 in .* cannot be read; "):
        read(tmp_path, {"weights/a.b": variable}, names(tmp_path))
    np.testing.assert_array_equal(variable.numpy(), 0.0)


@pytest.mark.parametrize("name", ["weights/other", "weights/a.b"])
def test_reading_other_networks_is_refused_by_name(tmp_path: pathlib.Path, name: str) -> None:
    Holder(tmp_path).save(1.0)
    with pytest.raises(UserError, match=f"does not fit this configuration: {name} is "):
        read(tmp_path, {name: tf.Variable(tf.zeros(4))}, names(tmp_path))


@pytest.mark.parametrize("text", [None, "", "model_checkp", "\x00\xff"])
def test_finds_checkpoints_whose_list_is_lost(tmp_path: pathlib.Path, text: str | None) -> None:
    holder = Holder(tmp_path)
    for value in range(1, 12):
        holder.save(float(value))
    (tmp_path / "checkpoint").unlink()
    if text is not None:
        (tmp_path / "checkpoint").write_text(text)
    assert names(tmp_path) == ["ckpt-11", "ckpt-10"]
    other = Holder(tmp_path)
    assert other.checkpoint.restore()
    assert other.values() == (11.0, 11)
    assert other.save(12.0).endswith("ckpt-12")
    assert names(tmp_path) == ["ckpt-12", "ckpt-11"]
    assert len(list(tmp_path.glob("*.index"))) == 2


def test_there_may_be_none(tmp_path: pathlib.Path) -> None:
    assert names(tmp_path) == names(tmp_path / "nowhere") == []


def test_what_is_written_is_what_was_there_when_it_began(tmp_path: pathlib.Path) -> None:
    holder = Holder(tmp_path)
    begun, go_on = threading.Event(), threading.Event()

    def before() -> None:
        begun.set()
        go_on.wait()

    holder.checkpoint = Checkpoint(
        tmp_path,
        {"weights/a.b": holder.variable},
        {"progress": Saved(lambda: holder.state, holder.state.update)},
        before=before,
    )
    holder.variable.assign(tf.ones(3))
    holder.state["step"] = 1
    holder.checkpoint.start()
    assert begun.wait(10)
    holder.variable.assign_add(tf.ones(3))
    holder.state["step"] = 2
    assert not names(tmp_path)
    holder.checkpoint.check()
    go_on.set()
    holder.checkpoint.wait()
    other = Holder(tmp_path)
    assert other.checkpoint.restore()
    assert other.values() == (1.0, 1)
    holder.checkpoint.start()
    assert holder.checkpoint.restore()
    assert holder.values() == (2.0, 2)


def test_failures_in_the_thread_are_one_sentence_at_the_next_call(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("")
    holder = Holder(tmp_path / "file" / "below")
    holder.checkpoint.start()
    with pytest.raises(UserError, match=r"could not be written \(.*run the same command again\.$"):
        holder.checkpoint.start()
    holder.checkpoint.wait()


def test_the_copy_is_not_the_memory_of_the_variable(tmp_path: pathlib.Path) -> None:
    # Updates in place, as those of optimizers and random generators, must not reach the copy.
    generator = tf.random.Generator.from_seed(0, "philox")
    variable = tf.Variable(tf.zeros(1000))
    held = [_copy(generator.state), _copy(variable)]
    before = [value.numpy() for value in held]
    generator.uniform([7])
    tf.raw_ops.ResourceApplyGradientDescent(
        var=variable.handle, alpha=1.0, delta=tf.ones(1000), use_locking=True
    )
    for value, same in zip(held, before, strict=True):
        np.testing.assert_array_equal(value.numpy(), same)


def test_what_was_never_completed_is_removed(tmp_path: pathlib.Path) -> None:
    holder = Holder(tmp_path)
    holder.save(1.0)
    files = {path.name for path in tmp_path.iterdir()}
    for name in ("ckpt-2.index", "ckpt-2.data-00000-of-00001", "checkpoint.tmp1f", "ckpt-12.index"):
        (tmp_path / name).write_text("half")
    (tmp_path / "ckpt-1.data-00000-of-00001.tempstate77").write_text("half")
    (tmp_path / "ckpt-2_temp").mkdir()
    (tmp_path / "ckpt-2_temp" / "part-00000-of-00001.index").write_text("half")
    (tmp_path / "notes.txt").write_text("mine")
    other = Holder(tmp_path)
    assert other.checkpoint.restore()
    assert {path.name for path in tmp_path.iterdir()} == files | {"notes.txt"}
    assert other.save(2.0).endswith("ckpt-2")
    assert Holder(tmp_path).checkpoint.restore()


@pytest.mark.parametrize("suffix", [".index", ".data-00000-of-00001"])
def test_any_damaged_byte_is_found_or_harmless(tmp_path: pathlib.Path, suffix: str) -> None:
    holder = Holder(tmp_path)
    holder.save(1.0)
    path = pathlib.Path(holder.save(2.0) + suffix)
    whole = path.read_bytes()
    found = set()
    for offset in range(0, len(whole), 11):
        damaged = bytearray(whole)
        damaged[offset] ^= 1 << (offset % 8)
        path.write_bytes(damaged)
        other = Holder(tmp_path)
        assert other.checkpoint.restore()
        assert other.values() in ((1.0, 1), (2.0, 2)), offset
        found.add(other.values())
    assert (1.0, 1) in found
