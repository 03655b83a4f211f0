"""Finds and reads checkpoints without writing anything."""

from __future__ import annotations

import json
import logging
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from dreamerv2.common.errors import UserError

_log = logging.getLogger(__name__)

State = dict[str, Any]

VARIABLE = "/.ATTRIBUTES/VARIABLE_VALUE"
_PYTHON = "/.ATTRIBUTES/py_state"


def names(directory: str | os.PathLike[str]) -> list[str]:
    """Return the checkpoints in a folder, such as `ckpt-12`, the newest first.

    Where the file that lists them is missing or damaged, they are those whose files are there.
    """
    if found := listed(directory):
        return found
    numbers = {
        int(path.stem.rpartition("-")[2]): path.stem
        for path in pathlib.Path(directory).glob("ckpt-*.index")
        if path.stem.rpartition("-")[2].isdecimal()
    }
    return [numbers[number] for number in sorted(numbers, reverse=True)]


def listed(directory: str | os.PathLike[str]) -> list[str]:
    """Return the checkpoints in TensorFlow's list, the newest first."""
    folder = pathlib.PurePath(directory)
    try:
        state = tf.train.get_checkpoint_state(os.fspath(directory))
    except ValueError:  # The file is empty, or no text.
        return []
    paths = [pathlib.PurePath(path) for path in (state.all_model_checkpoint_paths if state else [])]
    # TensorFlow would delete what the list names once it is too old, wherever it is.
    if any(p.parent != folder or not re.fullmatch(r"ckpt-\d+", p.name) for p in paths):
        return []
    return [path.name for path in reversed(paths)]


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
    key = "variables/" + name.replace("/", ":").replace(".", "..") + VARIABLE
    shape = reader.get_variable_to_shape_map().get(key)
    if shape is None or tuple(shape) != tuple(variable.shape):
        there = "nothing" if shape is None else f"the shape {tuple(shape)}"
        raise UserError(
            f"The checkpoint {path} does not fit this configuration: {name} is {there} there and "
            f"has the shape {tuple(variable.shape)} here; use the configuration that it was made "
            "with."
        )
    return reader.get_tensor(key)
