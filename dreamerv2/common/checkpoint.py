"""Saves variables and small states together, atomically, and restores the newest that is whole."""

from __future__ import annotations

import json
import logging
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from dreamerv2.common.errors import UserError

_log = logging.getLogger(__name__)

State = dict[str, Any]

_VARIABLE = "/.ATTRIBUTES/VARIABLE_VALUE"
_PYTHON = "/.ATTRIBUTES/py_state"


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
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        variables: Mapping[str, tf.Variable],
        states: Mapping[str, Saved],
        keep: int = 2,
    ) -> None:
        # A slash or a dot in a name would be escaped, which makes listings hard to read.
        self._variables = {name.replace("/", ":"): v for name, v in variables.items()}
        self._states = {name: _JSONState(saved) for name, saved in states.items()}
        self._checkpoint = tf.train.Checkpoint(variables=self._variables, states=self._states)
        self._directory = pathlib.Path(directory)
        self._keep = keep
        self._manager: tf.train.CheckpointManager | None = None

    def save(self) -> str:
        """Write a checkpoint and return its path.

        Raises:
            UserError: The folder cannot be written, for example because the disk is full.
        """
        try:
            return self._ready_manager().save()
        except (OSError, tf.errors.OpError) as error:
            message = str(error).strip().splitlines()[0]
            raise UserError(
                f"The checkpoint in {self._directory} could not be written ({message}); "
                "free space or make the folder writable, then run the same command again."
            ) from error

    def restore(self) -> bool:
        """Load the newest checkpoint that is whole.

        Returns:
            False where there is none at all.

        Raises:
            UserError: The checkpoint belongs to other networks, or all of them are damaged.
        """
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
            for state in self._states.values():
                state.apply()
            self._ready_manager()
            return True
        if paths:
            raise UserError(
                f"All checkpoints in {self._directory} are damaged; delete that folder to train "
                "from the replay with new networks."
            )
        return False

    def _ready_manager(self) -> tf.train.CheckpointManager:
        """Make TensorFlow's manager, which knows no checkpoints but those in its own list."""
        if self._manager is None:
            if not _listed(self._directory):
                self._write_list()
            self._manager = tf.train.CheckpointManager(
                self._checkpoint, str(self._directory), max_to_keep=self._keep
            )
        return self._manager

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
            name[len("variables/") : -len(_VARIABLE)]: tuple(shape)
            for name, shape in tf.train.list_variables(path)
            if name.startswith("variables/") and name.endswith(_VARIABLE)
        }
        ours = {name.replace(".", ".."): tuple(v.shape) for name, v in self._variables.items()}
        for name in [*ours, *stored]:
            if ours.get(name) != stored.get(name):
                raise UserError(
                    f"The checkpoint {path} does not fit this configuration: {name} has the shape "
                    f"{stored.get(name, 'of nothing')} there and {ours.get(name, 'of nothing')} "
                    "here; use the configuration that it was made with, or another logdir."
                )


def names(directory: str | os.PathLike[str]) -> list[str]:
    """Return the checkpoints in a folder, such as `ckpt-12`, the newest first.

    Where the file that lists them is missing or damaged, they are those whose files are there.
    """
    if listed := _listed(directory):
        return listed
    found = {
        int(path.stem.rpartition("-")[2]): path.stem
        for path in pathlib.Path(directory).glob("ckpt-*.index")
        if path.stem.rpartition("-")[2].isdecimal()
    }
    return [found[number] for number in sorted(found, reverse=True)]


def _listed(directory: str | os.PathLike[str]) -> list[str]:
    """Return the checkpoints in TensorFlow's list, the newest first."""
    try:
        state = tf.train.get_checkpoint_state(os.fspath(directory))
    except ValueError:  # The file is empty.
        return []
    paths = state.all_model_checkpoint_paths if state else []
    return [pathlib.PurePath(path).name for path in reversed(paths)]


def read(
    directory: str | os.PathLike[str],
    variables: Mapping[str, tf.Variable],
    candidates: Sequence[str],
) -> tuple[str, dict[str, State]]:
    """Load some of the variables of a checkpoint; unlike `Checkpoint` this never writes.

    Args:
        directory: Folder of the checkpoints.
        variables: What to load by name; changed only if all of them can be read.
        candidates: Names of checkpoints; the first that is whole is taken.

    Returns:
        The name of the checkpoint and the states in it by name.

    Raises:
        UserError: The checkpoint belongs to other networks, or all of them are damaged.
    """
    for name in candidates:
        path = os.path.join(directory, name)
        try:
            reader = tf.train.load_checkpoint(path)
            values = {key: _value(reader, path, key, v) for key, v in variables.items()}
            states = {
                key[len("states/") : -len(_PYTHON)]: json.loads(reader.get_tensor(key))
                for key in reader.get_variable_to_shape_map()
                if key.startswith("states/") and key.endswith(_PYTHON)
            }
        except (tf.errors.OpError, IndexError, ValueError, RuntimeError) as error:
            message = str(error).strip().splitlines()[0]
            _log.warning(f"The checkpoint {path} is damaged and passed over ({message}).")
            continue
        for key, variable in variables.items():
            variable.assign(values[key])
        return name, states
    raise UserError(
        f"The checkpoint{'s' * (len(candidates) > 1)} {', '.join(candidates)} in {directory} "
        "cannot be read; choose another one or train again."
    )


def _value(reader: Any, path: str, name: str, variable: tf.Variable) -> np.ndarray:
    key = "variables/" + name.replace("/", ":").replace(".", "..") + _VARIABLE
    shape = reader.get_variable_to_shape_map().get(key)
    if shape is None or tuple(shape) != tuple(variable.shape):
        there = "nothing" if shape is None else f"the shape {tuple(shape)}"
        raise UserError(
            f"The checkpoint {path} does not fit this configuration: {name} is {there} there and "
            f"has the shape {tuple(variable.shape)} here; use the configuration that it was made "
            "with."
        )
    return reader.get_tensor(key)
