"""Reads YAML: plain values only, nothing that would make objects or call functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ruamel.yaml

from dreamerv2.common.errors import UserError

# Raised by the reader for values that only look like what they are marked as.
_MALFORMED = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


def parse_yaml(text: str, kind: str, name: str) -> Any:
    """Parses text that must be a YAML mapping.

    Args:
      text: The YAML.
      kind: `safe` for plain values, `rt` to keep comments and positions as well.
      name: What to call the text in messages.

    Raises:
      UserError: If the text is malformed or no mapping.
    """
    try:
        values = ruamel.yaml.YAML(typ=kind, pure=True).load(text)
    except (ruamel.yaml.YAMLError, *_MALFORMED) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise UserError(f"{name} is not valid YAML{where}: {problem!s:.200}") from None
    if not isinstance(values, Mapping):
        raise UserError(f"{name} must hold a mapping of names to values")
    return values
