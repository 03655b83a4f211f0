"""Translates observations as an environment gives them, one or many, for the networks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from dreamerv2.common.envs.observations import Leaf, obs_leaves
from dreamerv2.common.envs.spaces import ObsSpec
from dreamerv2.common.errors import UserError


def guess_space(obs_space: Mapping[str, ObsSpec]) -> Any:
    """Return a Gymnasium space whose translation is `obs_space`.

    It stands in where the environment's own space is not known: its images have the size that
    the networks see.
    """
    from gymnasium import spaces

    boxes = [
        (key, spaces.Box(0, 255, spec.shape, np.uint8))
        if spec.is_image
        else (key, spaces.Box(-np.inf, np.inf, spec.shape, np.float32))
        for key, spec in obs_space.items()
    ]
    if [key for key, _ in boxes] in (["image"], ["vector"]):
        return boxes[0][1]
    return spaces.Dict(boxes)


class RawObservations:
    """Translates observations of one environment the way training does.

    Whether one observation or many are given shows in their shapes: those of the space, or these
    with further dimensions in front. Numbers of dimensions differ, so nothing is ambiguous.

    Args:
        space: Gymnasium observation space of the environment.
        size: Height and width of images for the networks.
        keys: Names of the observations that are needed, as the networks know them; others may
            be missing.
    """

    def __init__(self, space: Any, size: tuple[int, int], keys: Iterable[str]) -> None:
        needed = set(keys)
        self._leaves = [leaf for leaf in obs_leaves(space, size, "loaded") if leaf.key in needed]

    def __call__(
        self, obs: Any, leading: tuple[int, ...]
    ) -> tuple[dict[str, np.ndarray], tuple[int, ...]]:
        """Translate one or many observations.

        Args:
            obs: An array, or a dict of arrays as the space is.
            leading: Allowed numbers of dimensions in front of those of the space: ``(0, 1)``
                for none or environments N, ``(1, 2)`` for time T or sequences ``(B, T)``.

        Returns:
            The arrays by name, each of shape ``(N, ...)`` with all leading dimensions merged, and
            the leading dimensions.

        Raises:
            UserError: A key is missing, or a shape, a type or a value is not possible.
        """
        if isinstance(obs, tuple) and len(obs) == 2 and isinstance(obs[1], dict):
            raise UserError(
                "the observation is a tuple of two, as env.reset() returns it; write "
                "`obs, info = env.reset()` and pass obs."
            )
        result: dict[str, np.ndarray] = {}
        dims: dict[str, tuple[int, ...]] = {}
        for leaf in self._leaves:
            value = _find(leaf, obs)
            extra = value.ndim - len(leaf.shape)
            if extra not in leading or value.shape[max(extra, 0) :] != leaf.shape or not value.size:
                names = ("T", "BT") if 2 in leading else ("", "N")
                shapes = [str((*front, *leaf.shape)).replace("'", "") for front in names]
                raise UserError(
                    f"the observation {leaf.key!r} has the shape {value.shape}; it must be "
                    f"{' or '.join(shapes)}."
                )
            dims[leaf.key] = value.shape[:extra]
            result[leaf.key] = _convert(leaf, value.reshape((-1, *leaf.shape)))
        if len(set(dims.values())) > 1:
            raise UserError(
                f"the observations differ in their numbers ({dims}); stack equally many of each."
            )
        return result, next(iter(dims.values()))


def _find(leaf: Leaf, obs: Any) -> np.ndarray:
    where = obs
    path = leaf.path or ((leaf.key,) if isinstance(obs, Mapping) else ())
    for part in path:
        if not isinstance(where, Mapping) or part not in where:
            found = ", ".join(map(str, where)) if isinstance(where, Mapping) else "no dict"
            raise UserError(
                f"the observation lacks {'.'.join(path)!r} (there is {found}); pass it as the "
                "environment gives it."
            )
        where = where[part]
    return np.asarray(where)


def _convert(leaf: Leaf, values: np.ndarray) -> np.ndarray:
    if leaf.spec.is_image and values.dtype.kind not in "iu":
        raise UserError(
            f"the image {leaf.key!r} is of the type {values.dtype}; pass uint8 from 0 to 255, as "
            "the environment gives it."
        )
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise UserError(
            f"the observation {leaf.key!r} holds a value that is not finite; mend it before acting."
        )
    return np.stack([leaf.convert(value) for value in values])
