"""Writes down the observation space of an environment, so that it can be known without it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

# Numbers in one space.
MOST = 1 << 26


def to_json(space: Any) -> dict[str, Any] | None:
    """Describe a Gymnasium space for JSON; bounds of boxes are left out.

    Args:
      space: Box, Discrete, MultiDiscrete, MultiBinary or a Dict of those.

    Returns:
      The description, or None for any other space.
    """
    from gymnasium import spaces

    if isinstance(space, spaces.Dict):
        inner = {key: to_json(sub) for key, sub in space.spaces.items()}
        return None if None in inner.values() else {"type": "Dict", "spaces": inner}
    if isinstance(space, spaces.Box):
        return {"type": "Box", "shape": list(space.shape), "dtype": str(space.dtype)}
    if isinstance(space, spaces.Discrete):
        return {"type": "Discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete):
        return {
            "type": "MultiDiscrete",
            "nvec": space.nvec.tolist(),
            "start": space.start.tolist(),
        }
    if isinstance(space, spaces.MultiBinary):
        return {"type": "MultiBinary", "shape": list(space.shape)}
    return None


def from_json(stored: dict[str, Any]) -> Any:
    """Rebuild the space that `to_json` described; boxes are as wide as their type allows.

    Raises:
      KeyError: If something is missing in the description.
      ValueError: If the description names no space.
    """
    from gymnasium import spaces

    kind = stored["type"]
    if kind == "Dict":
        # As pairs: a dict would be sorted.
        return spaces.Dict([(key, from_json(sub)) for key, sub in stored["spaces"].items()])
    if kind == "Box":
        dtype = np.dtype(stored["dtype"])
        low: Any = -np.inf
        high: Any = np.inf
        if dtype.kind in "iu":
            low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        elif dtype.kind == "b":
            low, high = 0, 1
        if dtype.kind not in "biuf" or math.prod(stored["shape"]) > MOST:
            raise ValueError(f"a box of {dtype} of the shape {stored['shape']}")
        return spaces.Box(low, high, tuple(stored["shape"]), dtype.type)
    if kind == "Discrete":
        return spaces.Discrete(stored["n"], start=stored["start"])
    if kind == "MultiDiscrete":
        return spaces.MultiDiscrete(np.array(stored["nvec"]), start=np.array(stored["start"]))
    if kind == "MultiBinary":
        if math.prod(stored["shape"]) > MOST:
            raise ValueError(f"bits of the shape {stored['shape']}")
        return spaces.MultiBinary(stored["shape"])
    raise ValueError(f"{kind!r} is no space")
