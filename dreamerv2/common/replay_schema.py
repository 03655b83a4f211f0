"""Which keys a transition has, and whether its values fit what the replay stores."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dreamerv2.common.errors import UserError
from dreamerv2.common.replay_chunk import Schema

_ARRAYS = (np.ndarray, np.generic)


def stored(transition: Mapping[str, Any]) -> list[str]:
    """Keys of a transition that the replay keeps: all but ``log_*``."""
    return [key for key in transition if not key.startswith("log_")]


def convert(value: Any) -> np.ndarray:
    """Array of a value; float64, which Python floats are too, becomes float32."""
    array = np.asarray(value)
    return array.astype(np.float32) if array.dtype == np.float64 else array


def infer(transition: Mapping[str, Any]) -> Schema:
    """Dtype and shape of every key to be stored.

    Raises:
        ValueError: ``is_first`` or ``is_last`` is missing or no single bool.
        UserError: some value is neither a bool nor a number, so it can't be stored.
    """
    schema: Schema = {}
    for key in stored(transition):
        array = convert(transition[key])
        if array.dtype.kind not in "biuf":
            raise UserError(
                f"The observation key {key!r} has values of type {array.dtype}, which the replay "
                f"can't store; give it numbers, or rename it to log_{key} to leave it out."
            )
        schema[key] = (array.dtype, array.shape)
    for key in ("is_first", "is_last"):
        if schema.get(key) != (np.dtype(bool), ()):
            raise ValueError(f"a transition needs the bool {key}, got {schema.get(key)}")
    return schema


def check_same(schema: Schema, transition: Mapping[str, Any], path: Path) -> None:
    """Compares a transition with what the files hold.

    Raises:
        UserError: a key is new, missing, or has another dtype or shape than in ``path``.
    """
    new = infer(transition)
    for key in sorted(new.keys() | schema.keys()):
        if new.get(key) != schema.get(key):
            raise UserError(
                f"The replay key {key!r} is {_describe(schema.get(key))} in {path} but "
                f"{_describe(new.get(key))} in this run; choose another logdir or delete the "
                f"folder {path.parent}."
            )


def _describe(entry: tuple[np.dtype, tuple[int, ...]] | None) -> str:
    return f"{entry[0]} of shape {entry[1]}" if entry else "missing"


class Checker:
    """Checks transitions against a schema, the one of the first transition if there is none.

    ``path`` is a file that has the schema, for messages.
    """

    def __init__(self, schema: Schema, path: Path) -> None:
        self.schema = schema
        self.path = path
        self._keys: set[str] = set()  # Of the last transition, log_* included.

    def __call__(self, transition: Mapping[str, Any]) -> Mapping[str, Any]:
        """Returns the values to store, arrays or NumPy scalars of the right dtype.

        Raises:
            UserError: see `check_same` and `infer`.
        """
        if not self.schema:
            self.schema = infer(transition)
        if transition.keys() != self._keys:
            if set(stored(transition)) != self.schema.keys():
                check_same(self.schema, transition, self.path)
            self._keys = set(transition)
        converted = {}
        for key, (dtype, shape) in self.schema.items():
            value = transition[key]
            if not isinstance(value, _ARRAYS) or value.dtype != dtype:
                value = converted[key] = convert(value)
            if value.dtype != dtype or value.shape != shape:
                check_same(self.schema, transition, self.path)
        return {**transition, **converted} if converted else transition
