"""Remembers in the folder of a run what observations and actions its agent was made for."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from dreamerv2.common.envs import space_json
from dreamerv2.common.envs.spaces import ActSpec, ObsSpec
from dreamerv2.common.errors import UserError

NAME = "spaces.json"


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
        key: ObsSpec(tuple(spec["shape"]), np.dtype(spec["dtype"]))
        for key, spec in stored["observations"].items()
    }
    fields: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in stored["actions"].items()
    }
    return obs_space, ActSpec(**fields)


def _read(folder: str | os.PathLike[str], convert: Callable[[dict[str, Any]], Any]) -> Any:
    path = pathlib.Path(folder) / NAME
    if not path.exists():
        return None
    try:
        return convert(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is damaged ({error}); delete it and run the training command again, which "
            "writes it anew."
        ) from None
