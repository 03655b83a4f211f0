"""Remembers in the folder of a run what observations and actions its agent was made for."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from dreamerv2.common.envs.spaces import ActSpec, ObsSpec
from dreamerv2.common.errors import UserError

NAME = "spaces.json"


def save_spaces(
    folder: str | os.PathLike[str], obs_space: Mapping[str, ObsSpec], act_space: ActSpec
) -> None:
    """Write `spaces.json`; the file is complete or as before, never half written."""
    observations = {
        key: {"shape": list(spec.shape), "dtype": str(spec.dtype)}
        for key, spec in obs_space.items()
    }
    text = json.dumps(
        {"observations": observations, "actions": dataclasses.asdict(act_space)}, indent=1
    )
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
    path = pathlib.Path(folder) / NAME
    if not path.exists():
        return None
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        obs_space = {
            key: ObsSpec(tuple(spec["shape"]), np.dtype(spec["dtype"]))
            for key, spec in stored["observations"].items()
        }
        fields: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in stored["actions"].items()
        }
        return obs_space, ActSpec(**fields)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is damaged ({error}); delete it and run the training command again, which "
            "writes it anew."
        ) from None
