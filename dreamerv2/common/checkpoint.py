"""Saves variables and small states together, atomically, and restores the newest that is whole.

Training goes on while a checkpoint is written: `Checkpoint.start` copies all values to the memory
of the host at once, which takes a fraction of a second, and a thread writes the copy.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import pathlib
import re
import shutil
from collections.abc import Callable, Mapping

import tensorflow as tf

from dreamerv2.common.background import Background
from dreamerv2.common.checkpoint_reader import VARIABLE, State, listed, names, read
from dreamerv2.common.errors import UserError

__all__ = ["Checkpoint", "Saved", "names", "read"]

_log = logging.getLogger(__name__)


class Saved:
    """Something with a JSON-able state: two functions, one that gives and one that takes it."""

    def __init__(self, save: Callable[[], State], restore: Callable[[State], None]) -> None:
        self.save = save
        self.restore = restore


class _JSONState(tf.train.experimental.PythonState):
    """Lets a checkpoint hold a JSON document beside its tensors."""

    def __init__(self, saved: Saved) -> None:
        self._saved = saved
        self.loaded: State | None = None

    def serialize(self) -> bytes:
        return json.dumps(self._saved.save()).encode()

    def frozen(self) -> _JSONState:
        """Return a copy of the state as it is now."""
        state = json.loads(self.serialize())
        return _JSONState(Saved(lambda: state, lambda _: None))

    def deserialize(self, string_value: bytes) -> None:
        # Applied only once the whole checkpoint has been read without an error.
        self.loaded = json.loads(string_value)

    def apply(self) -> None:
        assert self.loaded is not None
        self._saved.restore(self.loaded)


class Checkpoint:
    """Keeps the last few checkpoints of a run in one folder.

    Variables and states are written to new files; only when these are complete does the file
    `checkpoint`, replaced in one step, name them as the newest. TensorFlow verifies checksums when
    it reads: a damaged checkpoint is passed over for the one before it.

    Args:
        directory: Folder for the files; created by the first save.
        variables: What to save by name.
        states: Further states by name.
        keep: Number of checkpoints to keep.
        before: Called in the thread that writes, before it does; for example to bring files to
            the disk that a checkpoint refers to.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        variables: Mapping[str, tf.Variable],
        states: Mapping[str, Saved],
        keep: int = 2,
        before: Callable[[], None] | None = None,
    ) -> None:
        # A slash or a dot in a name would be escaped, which makes listings hard to read.
        self._variables = {name.replace("/", ":"): v for name, v in variables.items()}
        self._states = {name: _JSONState(saved) for name, saved in states.items()}
        self._checkpoint = tf.train.Checkpoint(variables=self._variables, states=self._states)
        self._directory = pathlib.Path(directory)
        self._keep = keep
        self._before = before
        self._writing = Background("checkpoint")
        self._path = ""

    def save(self) -> str:
        """Write a checkpoint and return its path, once it is complete.

        Raises:
            UserError: The folder cannot be written, for example because the disk is full.
        """
        self.start()
        self.wait()
        return self._path

    def start(self) -> None:
        """Copy everything and write the copy in a thread; first wait for the one before.

        Raises:
            UserError: The one before could not be written.
        """
        self._writing.wait()
        values = {name: _copy(variable) for name, variable in self._variables.items()}
        states = {name: state.frozen() for name, state in self._states.items()}
        number = int(self._checkpoint.save_counter)
        self._checkpoint.save_counter.assign_add(1)
        self._writing.start(lambda: self._write(values, states, number))

    def check(self) -> None:
        """Raise the error of a checkpoint that could not be written; never waits.

        Raises:
            UserError: The folder cannot be written.
        """
        self._writing.check()

    def wait(self) -> None:
        """Wait until the checkpoint that is being written, if any, is complete.

        Raises:
            UserError: It could not be written.
        """
        self._writing.wait()

    def _write(
        self, values: dict[str, tf.Tensor], states: dict[str, _JSONState], number: int
    ) -> None:
        try:
            if self._before:
                self._before()
            with tf.device("CPU:0"):
                variables = {name: tf.Variable(values.pop(name)) for name in list(values)}
                copy = tf.train.Checkpoint(variables=variables, states=states)
                copy.save_counter.assign(number)
            if not listed(self._directory):
                self._write_list()
            # TensorFlow's manager knows no checkpoints but those in the list.
            manager = tf.train.CheckpointManager(copy, str(self._directory), self._keep)
            self._path = manager.save()
        except (OSError, tf.errors.OpError) as error:
            self._remove_unlisted()  # What is half written only takes the space that is missing.
            raise UserError(
                f"The checkpoint in {self._directory} could not be written ({_reason(error)}); "
                "free space or make the folder writable, then run the same command again."
            ) from error

    def restore(self) -> bool:
        """Load the newest checkpoint that is whole.

        Returns:
            False where there is none at all.

        Raises:
            UserError: The checkpoint belongs to other networks, or all of them are damaged.
        """
        self.wait()
        self._remove_unlisted()
        paths = [str(self._directory / name) for name in names(self._directory)]
        for path in paths:
            try:
                self._check_shapes(path)
                self._checkpoint.restore(path).assert_existing_objects_matched()
            except (tf.errors.OpError, IndexError, ValueError, RuntimeError) as error:
                # A damaged file is any of these, depending on where the damage is.
                message = str(error).strip().splitlines()[0]
                _log.warning(f"The checkpoint {path} is damaged and passed over ({message}).")
                continue
            try:
                for state in self._states.values():
                    state.apply()
            except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
                raise UserError(
                    f"The checkpoint {path} holds counters that cannot be used ({error!r:.200}); "
                    "it was not written by this program: choose another logdir."
                ) from error
            return True
        if paths:
            raise UserError(
                f"All checkpoints in {self._directory} are damaged; delete that folder to train "
                "from the replay with new networks."
            )
        return False

    def _remove_unlisted(self) -> None:
        """Delete files of checkpoints that were never completed, or about to be deleted."""
        keep = [f"{name}." for name in names(self._directory)]
        for path in self._directory.glob("c*"):
            ours = re.match(r"ckpt-\d+[._]|checkpoint\.?tmp", path.name)
            if ours and not path.name.startswith(tuple(keep)):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        for path in self._directory.glob("ckpt-*.tempstate*"):
            path.unlink()

    def _write_list(self) -> None:
        """Replace a list that was lost or damaged by one of the checkpoints that are there."""
        found = names(self._directory)[::-1]
        if not found:
            (self._directory / "checkpoint").unlink(missing_ok=True)
            return
        lines = [f'model_checkpoint_path: "{found[-1]}"']
        lines += [f'all_model_checkpoint_paths: "{name}"' for name in found]
        for name in found:
            time = (self._directory / f"{name}.index").stat().st_mtime
            lines.append(f"all_model_checkpoint_timestamps: {time}")
        temporary = self._directory / "checkpoint.tmp"
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
        os.replace(temporary, self._directory / "checkpoint")

    def _check_shapes(self, path: str) -> None:
        """Compare the variables in the file with ours, to name the first that differs."""
        stored = {
            name[len("variables/") : -len(VARIABLE)]: tuple(shape)
            for name, shape in tf.train.list_variables(path)
            if name.startswith("variables/") and name.endswith(VARIABLE)
        }
        ours = {name.replace(".", ".."): tuple(v.shape) for name, v in self._variables.items()}
        for name in [*ours, *stored]:
            if ours.get(name) != stored.get(name):
                raise UserError(
                    f"The checkpoint {path} does not fit this configuration: {name} has the shape "
                    f"{stored.get(name, 'of nothing')} there and {ours.get(name, 'of nothing')} "
                    "here; use the configuration that it was made with, or another logdir."
                )


def _reason(error: Exception) -> str:
    """Return what an error says, without TensorFlow's names of operations and other files."""
    message = str(error).strip().splitlines()[0]
    full = os.strerror(errno.ENOSPC)
    return full if full in message else re.sub(r"\{\{.*?\}\} *| *\[Op:.*?\]", "", message)


def _copy(variable: tf.Variable) -> tf.Tensor:
    """Return the value in host memory of its own: what is read shares that of the variable."""
    with tf.device("CPU:0"):
        return tf.raw_ops.DeepCopy(x=variable.read_value())
