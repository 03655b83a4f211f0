"""Writes values of a configuration as people would."""

from __future__ import annotations

import decimal
import numbers
from typing import Any

_LONGEST = 100
_MOST = 8


def show(value: Any, quote: bool = False) -> str:
    """Writes a value as people would in a configuration file: 2e6, 1e-4, 0.1, [64, 64].

    Args:
      value: A value of a configuration.
      quote: Put text into quotes, so that a message shows where it ends.
    """
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(show(item, quote) for item in value) + "]"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        plain = repr(value)
        if value == 0 or 1e-2 <= abs(value) < 1e5 or not abs(value) < 1e15:
            return plain
        short = f"{decimal.Decimal(plain).normalize():e}".replace("e+", "e")
        return short if len(short) < len(plain) else plain
    return repr(value) if quote or value == "" else str(value)


def brief(value: Any) -> str:
    """Writes any value for a message: texts in quotes, whatever is large or nested in short."""
    if isinstance(value, (list, tuple)):
        if not all(isinstance(item, (str, numbers.Real)) for item in value):
            return "a nested list"
        items = [brief(item) for item in value[:_MOST]]
        return f"[{', '.join(items + ['...'] * (len(value) > _MOST))}]"
    if isinstance(value, str) and len(value) > _LONGEST:
        return repr(value[:_LONGEST] + "...")
    if isinstance(value, (str, numbers.Real)) or value is None:
        try:
            return show(value, quote=True)
        except ValueError:  # Python writes no integers of more than some thousand digits.
            return "a very long number"
    return f"a {type(value).__name__}"
