"""Remembers in the folder of a run what observations and actions its agent was made for."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from dreamerv2.common.envs import space_json
from dreamerv2.common.envs.spaces import LONGEST, ActSpec, ObsSpec
from dreamerv2.common.errors import UserError
from dreamerv2.common.files import read_text

NAME = "spaces.json"

_DTYPES = {"uint8": np.uint8, "float32": np.float32}
_MOST = 1 << 26  # Numbers in one observation.
_WRONG = (
    UserError, ArithmeticError, AssertionError, AttributeError, LookupError, RecursionError,
    TypeError, ValueError,
)  # fmt: skip


def save_spaces(
    folder: str | os.PathLike[str],
    obs_space: Mapping[str, ObsSpec],
    act_space: ActSpec,
    env_space: Any = None,
) -> None:
    """Write `spaces.json`; the file is complete or as before, never half written.

    Args:
        folder: Of the run.
        obs_space: What the agent observes.
        act_space: How it acts.
        env_space: Gymnasium observation space that `obs_space` is the translation of, if any.
    """
    observations = {
        key: {"shape": list(spec.shape), "dtype": str(spec.dtype)}
        for key, spec in obs_space.items()
    }
    stored: dict[str, Any] = {
        "observations": observations,
        "actions": dataclasses.asdict(act_space),
    }
    if env_space is not None:
        stored["environment"] = space_json.to_json(env_space)
    text = json.dumps(stored, indent=1)
    path = pathlib.Path(folder) / NAME
    temporary = path.with_name(f".{NAME}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text + "\n", encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load_spaces(folder: str | os.PathLike[str]) -> tuple[dict[str, ObsSpec], ActSpec] | None:
    """Read `spaces.json`; None where there is none, as in runs of earlier versions.

    Raises:
        UserError: The file does not hold what `save_spaces` writes.
    """
    return _read(folder, _specs)


def load_env_space(folder: str | os.PathLike[str]) -> Any:
    """Read the Gymnasium observation space of a run's environment; None if it is not known.

    Raises:
        UserError: The file does not hold what `save_spaces` writes.
    """

    def rebuild(stored: dict[str, Any]) -> Any:
        kept = stored.get("environment")
        return None if kept is None else space_json.from_json(kept)

    return _read(folder, rebuild)


def _specs(stored: dict[str, Any]) -> tuple[dict[str, ObsSpec], ActSpec]:
    obs_space = {
        key: ObsSpec(_sizes(spec["shape"]), np.dtype(_DTYPES[spec["dtype"]]))
        for key, spec in stored["observations"].items()
    }
    for key, spec in obs_space.items():
        if (len(spec.shape) == 3) != spec.is_image or math.prod(spec.shape) > _MOST:
            raise ValueError(f"{key} is {spec.dtype} of the shape {spec.shape}")
    fields: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in stored["actions"].items()
    }
    act_space = ActSpec(**fields)
    parts = _sizes(act_space.sizes)
    if not parts or sum(parts) > LONGEST or not isinstance(act_space.dtype, str):
        raise ValueError(f"actions of the sizes {parts[:10]}")
    # Whether bounds, starts and shape fit to the sizes shows in use.
    act_space.to_env(act_space.sample(np.random.default_rng(0), 1))
    return obs_space, act_space


def _sizes(values: Any) -> tuple[int, ...]:
    """Return lengths of axes or parts, which must be whole numbers above 0."""
    if any(type(value) is not int or value < 1 for value in values):
        raise ValueError(f"the sizes {list(values)[:10]}")
    return tuple(values)


def _read(folder: str | os.PathLike[str], convert: Callable[[dict[str, Any]], Any]) -> Any:
    path = pathlib.Path(folder) / NAME
    if not path.exists():
        return None
    try:
        return convert(json.loads(read_text(path)))
    except _WRONG as error:
        raise UserError(
            f"{path} is damaged ({error!s:.200}); delete it and run the training command again, "
            "which writes it anew."
        ) from None
