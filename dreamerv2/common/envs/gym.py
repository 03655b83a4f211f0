"""Any environment that is registered with Gymnasium, and environments of the user's own."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable
from typing import Any

import gymnasium

from dreamerv2.common.errors import UserError


def constructor(env_id: str) -> Callable[[], gymnasium.Env]:
    """Find a registered environment, as `gymnasium.make` names it (`module:id` works too).

    Args:
      env_id: Such as `CartPole-v1`.

    Returns:
      A function that makes the environment. It carries the registration with it, so that worker
      processes need not repeat the user's `gymnasium.register`.

    Raises:
      UserError: If the id is unknown or its module cannot be imported.
    """
    module, colon, plain_id = env_id.rpartition(":")
    if colon:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise UserError(
                f"the task 'gym_{env_id}' names the module {module!r}, which cannot be imported "
                f"({error}): install it or run where it can be found"
            ) from error
    try:
        spec = gymnasium.spec(plain_id)
    except gymnasium.error.Error as error:
        raise UserError(_unknown(env_id)) from error
    return lambda: _make(spec)


def _make(spec: Any) -> gymnasium.Env:
    try:
        return gymnasium.make(spec)
    except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"the task 'gym_{spec.id}' needs a package that is not installed ({reason}): install "
            "it and run again"
        ) from error


def _unknown(env_id: str) -> str:
    ids = list(gymnasium.registry)
    lower = {name.lower(): name for name in ids}
    near = [
        f"gym_{lower[name]}" for name in difflib.get_close_matches(env_id.lower(), lower, 3, 0.5)
    ]
    if env_id.startswith("ALE/"):
        return f"the task 'gym_{env_id}' is an Atari game: use the suite atari, as atari_pong"
    mend = f"did you mean {' or '.join(near)}?" if near else "register it with Gymnasium first"
    return f"the task 'gym_{env_id}' is not registered with Gymnasium: {mend}"
