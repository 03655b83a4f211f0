from __future__ import annotations

import logging
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from dreamerv2.common.checkpoint import Checkpoint, Saved
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


def damage(path: str) -> None:
    file = pathlib.Path(path + ".data-00000-of-00001")
    data = bytearray(file.read_bytes())
    data[3] ^= 0xFF
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


@pytest.mark.parametrize("cut", [False, True])
def test_passes_over_a_damaged_one(
    tmp_path: pathlib.Path, cut: bool, caplog: pytest.LogCaptureFixture
) -> None:
    holder = Holder(tmp_path)
    holder.save(1.0)
    newest = holder.save(2.0)
    if cut:
        pathlib.Path(newest + ".data-00000-of-00001").write_bytes(b"")
    else:
        damage(newest)
    other = Holder(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert other.checkpoint.restore()
    assert other.values() == (1.0, 1)
    assert "damaged and passed over" in caplog.text


def test_says_so_if_all_are_damaged(tmp_path: pathlib.Path) -> None:
    holder = Holder(tmp_path)
    for value in (1.0, 2.0):
        damage(holder.save(value))
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
