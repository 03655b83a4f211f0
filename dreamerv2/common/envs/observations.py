"""Translates Gymnasium observations to a flat dict of images and vectors."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from dreamerv2.common.envs import images
from dreamerv2.common.envs.spaces import RESERVED, EnvError, ObsSpec, act_spec
from dreamerv2.common.errors import UserError


@dataclasses.dataclass(frozen=True)
class Leaf:
    """One array inside an observation: where it is, what it is called, how it is converted."""

    path: tuple[str, ...]
    key: str
    shape: tuple[int, ...]
    spec: ObsSpec
    convert: Callable[[np.ndarray], np.ndarray]

    def __call__(self, observation: Any) -> np.ndarray:
        """Take this leaf out of an observation and convert it to `spec`.

        Raises:
          EnvError: If the shape is not the one that the space promises.
        """
        for part in self.path:
            observation = observation[part]
        value = np.asarray(observation)
        if value.shape != self.shape:
            raise EnvError(
                f"the observation {self.key!r} has the shape {value.shape} although its space "
                f"says {self.shape}"
            )
        return self.convert(value)


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


def _walk(space: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    from gymnasium import spaces

    if isinstance(space, spaces.Dict):
        for key, sub in space.spaces.items():
            yield from _walk(sub, (*path, key))
    else:
        yield path, space


def _leaf(path: tuple[str, ...], space: Any, size: tuple[int, int], name: str) -> Leaf:
    from gymnasium import spaces

    def leaf(default: str, shape: tuple[int, ...], dtype: Any, convert: Any) -> Leaf:
        key = "_".join(re.sub(r"[^\w.-]", "_", part) for part in path) or default
        return Leaf(path, key, space.shape, ObsSpec(shape, np.dtype(dtype)), convert)

    if isinstance(space, spaces.Box):
        if space.dtype == np.uint8 and len(space.shape) in (2, 3):
            if images.channel_first(space.shape):
                raise UserError(
                    f"the environment {name!r} has channel-first images of the shape "
                    f"{space.shape}: wrap it so that images have the shape (height, width, "
                    "channels)"
                )
            channels = 1 if len(space.shape) == 2 else space.shape[2]
            return leaf("image", (*size, channels), np.uint8, lambda x: images.resize(x, size))
        scalar = bool(path) and path[0].startswith("log_") and space.shape == ()
        length = () if scalar else (int(np.prod(space.shape)),)
        scale = 1 / 255 if space.dtype == np.uint8 else 1.0
        return leaf(
            "vector",
            length,
            np.float32,
            lambda x: (x.astype(np.float32) * np.float32(scale)).reshape(length),
        )
    if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)):
        spec = act_spec(space, name)
        return leaf("vector", (spec.dim,), np.float32, lambda x: spec.from_env(x[None])[0])
    if isinstance(space, spaces.MultiBinary):
        length = (int(np.prod(space.shape)),)
        return leaf("vector", length, np.float32, lambda x: x.astype(np.float32).reshape(length))
    raise UserError(
        f"the environment {name!r} has the observation space {space}, which is not supported: "
        "wrap the environment so that it gives Box, Discrete, MultiDiscrete, MultiBinary or a "
        "Dict of those"
    )
