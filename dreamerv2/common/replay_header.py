"""What the header of a replay file may say; files may come from anybody."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

# Far above what is written, far below what would hurt.
MOST_ROWS = 1 << 20
MOST_KEYS = 1 << 12
ROW_BYTES = 1 << 26
HEADER_BYTES = 1 << 24
_LARGEST = 1 << 53


def check_header(meta: Any) -> None:
    """Look at all that is used of a header.

    Raises:
        ValueError: Something is missing, of a wrong type, or of an absurd size.
        KeyError: Something is missing.
        TypeError: Something is of a wrong type.
    """
    for name in ("stream", "sequence", "first", "order"):
        _number(meta[name], 0, _LARGEST)
    _number(meta["capacity"], 1, MOST_ROWS)
    if not isinstance(meta["totals"], dict) or str(meta["stream"]) not in meta["totals"]:
        raise ValueError
    for stream, totals in meta["totals"].items():
        _number(int(stream), 0, _LARGEST)
        if len(totals) != 3:
            raise ValueError
        for total in totals:
            _number(total, 0, _LARGEST)
    _number(len(meta["keys"]), 1, MOST_KEYS)
    names, size = set(), 0
    for key in meta["keys"]:
        if not isinstance(key["name"], str) or not isinstance(key["dtype"], str):
            raise ValueError
        dtype = np.dtype(key["dtype"])
        for length in key["shape"]:
            _number(length, 0, ROW_BYTES)
        if dtype.kind not in "biuf" or len(key["shape"]) > 16:
            raise ValueError
        names.add(key["name"])
        size += dtype.itemsize * math.prod(key["shape"])
    if len(names) < len(meta["keys"]) or size > ROW_BYTES:
        raise ValueError


def _number(value: Any, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise ValueError
