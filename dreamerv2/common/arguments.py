"""Types of argparse arguments whose messages say what was expected."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable


def number(kind: Callable[[str], float], least: float) -> Callable[[str], float]:
    """Return a converter for numbers that are finite and not too small.

    Args:
        kind: `int` or `float`.
        least: The smallest number that is allowed.
    """

    def convert(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not least <= value < math.inf:
            what = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"{text!r} is not {what} of {least:g} or more")
        return value

    return convert
