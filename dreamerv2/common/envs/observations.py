"""Translates Gymnasium observations to a flat dict of images and vectors."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from dreamerv2.common.envs import images
from dreamerv2.common.envs.spaces import (
    RESERVED,
    ActSpec,
    EnvError,
    ObsSpec,
    act_spec,
    check_size,
)
from dreamerv2.common.errors import UserError


@dataclasses.dataclass(frozen=True)
class Leaf:
    """One array inside an observation: where it is, what it is called, how it is converted."""

    path: tuple[Any, ...]
    key: str
    shape: tuple[int, ...]
    dtype: np.dtype
    spec: ObsSpec
    convert: Callable[[np.ndarray], np.ndarray]

    def __call__(self, observation: Any) -> np.ndarray:
        """Take this leaf out of an observation and convert it to `spec`.

        Raises:
          EnvError: If it is not there, or not of the shape or type that the space promises.
        """
        for part in self.path:
            try:
                observation = observation[part]
            except (KeyError, IndexError, TypeError):
                raise EnvError(
                    f"the observation lacks {part!r} although its space has it"
                ) from None
        value = np.asarray(observation)
        if value.shape != self.shape:
            raise EnvError(
                f"the observation {self.key!r} has the shape {value.shape} although its space "
                f"says {self.shape}"
            )
        if value.dtype != self.dtype:
            self._check_type(value)
        return self.convert(value)

    def _check_type(self, value: np.ndarray) -> None:
        """Let pass what can be converted without changing its meaning."""
        there = value.dtype.kind
        if there not in "biuf" or (there == "f" and self.dtype.kind != "f"):
            mend = ": return `(255 * image).astype(np.uint8)`" if self.spec.is_image else ""
            raise EnvError(
                f"the observation {self.key!r} is {value.dtype} although its space says "
                f"{self.dtype}{mend}"
            )
        if self.dtype == np.uint8 and value.size and not 0 <= value.min() <= value.max() <= 255:
            raise EnvError(
                f"the observation {self.key!r} holds {value.min()} to {value.max()} although its "
                "space says uint8: clip it to 0 to 255"
            )


def obs_leaves(space: Any, size: tuple[int, int], name: str) -> list[Leaf]:
    """Translate a Gymnasium observation space into named arrays.

    A Box of `uint8` with rank 2 or 3 is an image, resized to `size`. Other boxes are flattened
    to `float32` vectors; those of `uint8` are divided by 255. Discrete and MultiDiscrete become
    (concatenated) one-hot vectors and MultiBinary a vector. A single space is called `image` or
    `vector`; the keys of nested Dicts are joined by underscores, and characters that are unusual
    in names become underscores.

    Args:
      space: Gymnasium observation space.
      size: Height and width of images.
      name: Task name, for the errors.

    Raises:
      UserError: If the space contains something else, a channel-first image, or a reserved or
        duplicate key.
    """
    leaves: list[Leaf] = []
    for path, sub in _walk(space):
        leaf = _leaf(path, sub, size, name)
        if leaf.key in RESERVED:
            raise UserError(
                f"the environment {name!r} has an observation key {leaf.key!r}, which is reserved "
                f"({', '.join(RESERVED)}): rename it in a wrapper"
            )
        if leaf.key in [other.key for other in leaves]:
            raise UserError(
                f"the environment {name!r} has two observations called {leaf.key!r} once nested "
                "names are joined by underscores: rename one of them in a wrapper"
            )
        leaves.append(leaf)
    if not leaves:
        raise UserError(f"the environment {name!r} has no observations: add a Box to its Dict")
    return leaves


def _walk(space: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    from gymnasium import spaces

    if isinstance(space, spaces.Dict):
        for key, sub in space.spaces.items():
            yield from _walk(sub, (*path, key))
    else:
        yield path, space


def _leaf(path: tuple[Any, ...], space: Any, size: tuple[int, int], name: str) -> Leaf:
    from gymnasium import spaces

    def leaf(default: str, shape: tuple[int, ...], dtype: Any, convert: Any) -> Leaf:
        key = "_".join(re.sub(r"[^\w.-]", "_", str(part)) for part in path) or default
        return Leaf(
            path, key, space.shape, np.dtype(space.dtype), ObsSpec(shape, np.dtype(dtype)), convert
        )

    if isinstance(space, spaces.Box):
        if space.dtype == np.uint8 and len(space.shape) in (2, 3):
            if images.channel_first(space.shape):
                raise UserError(
                    f"the environment {name!r} has channel-first images of the shape "
                    f"{space.shape}: wrap it so that images have the shape (height, width, "
                    "channels)"
                )
            channels = 1 if len(space.shape) == 2 else space.shape[2]
            check_size(min(space.shape), space, name)
            return leaf("image", (*size, channels), np.uint8, lambda x: images.resize(x, size))
        scalar = bool(path) and str(path[0]).startswith("log_") and space.shape == ()
        length = () if scalar else (int(np.prod(space.shape)),)
        check_size(int(np.prod(length)), space, name)
        scale = 1 / 255 if space.dtype == np.uint8 else 1.0
        return leaf("vector", length, np.float32, lambda x: _floats(x, scale, length))
    if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)):
        spec = act_spec(space, name)
        return leaf("vector", (spec.dim,), np.float32, lambda x: _one_hot(x, spec))
    if isinstance(space, spaces.MultiBinary):
        length = (int(np.prod(space.shape)),)
        check_size(length[0], space, name)
        return leaf("vector", length, np.float32, lambda x: _floats(x, 1.0, length))
    raise UserError(
        f"the environment {name!r} has the observation space {str(space)[:200]}, which is not "
        "supported: wrap the environment so that it gives Box, Discrete, MultiDiscrete, "
        "MultiBinary or a Dict of those"
    )


def _floats(value: np.ndarray, scale: float, length: tuple[int, ...]) -> np.ndarray:
    with np.errstate(over="ignore"):  # Becomes infinite, which is refused with a better message.
        return (value.astype(np.float32) * np.float32(scale)).reshape(length)


def _one_hot(value: np.ndarray, spec: ActSpec) -> np.ndarray:
    index = value.reshape(-1) - np.asarray(spec.start)
    if not ((index >= 0) & (index < np.asarray(spec.sizes))).all():
        raise EnvError(f"an observation is {value.tolist()}, which its space does not allow")
    return spec.from_env(value[None])[0]
