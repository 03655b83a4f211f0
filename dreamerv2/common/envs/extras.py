"""Environment libraries that are installed only by those who use them."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Any

from dreamerv2.common.errors import UserError

# The same as the extras of setup.py, so that an error can give the exact command.
REQUIREMENTS = {
    "dmc": ("dm-control>=1.0.50", "mujoco>=3.17,<4"),
    "crafter": ("crafter>=1.8.3",),
    "minigrid": ("minigrid>=3.0",),
}

# dm_control needs labmaze, which has no wheels beyond Python 3.12.
NEWEST_PYTHON = {"dmc": (3, 12)}


def command(extra: str) -> str:
    """The pip command that installs an extra, whether or not DreamerV2 itself is installed."""
    return "python -m pip install " + " ".join(f"'{text}'" for text in REQUIREMENTS[extra])


def require(module: str, extra: str, task: str) -> Any:
    """Import a module of a library that belongs to an extra.

    Args:
      module: Name of the module, such as `dm_control.suite`.
      extra: Key of `REQUIREMENTS`.
      task: Task name, for the error.

    Raises:
      UserError: If the library is not installed.
    """
    package = module.partition(".")[0]
    if _installed(package):
        return importlib.import_module(module)
    newest = NEWEST_PYTHON.get(extra)
    if newest and sys.version_info[:2] > newest:
        here, there = (".".join(map(str, v)) for v in (sys.version_info[:2], newest))
        raise UserError(
            f"the task {task!r} needs the package {package}, which does not support Python {here} "
            f"so far: use Python 3.10 to {there}"
        )
    raise UserError(f"the task {task!r} needs the package {package}: run {command(extra)}")


def _installed(package: str) -> bool:
    return package in sys.modules or importlib.util.find_spec(package) is not None
