"""Names of metrics that the documentation explains."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterable

PAGE = pathlib.Path(__file__).resolve().parents[1] / "docs" / "metrics.md"


def documented() -> list[str]:
    """Every name in the first column of the page's tables; `*` stands for any text."""
    rows = re.findall(r"^\| (`[^|]*) \|", PAGE.read_text(), re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`([\w*]+)`", row)]


def unexplained(names: Iterable[str]) -> set[str]:
    """Those of the names that the page does not have."""
    patterns = [name.replace("*", ".+") for name in documented()]
    known = re.compile("|".join(patterns))
    return {name for name in names if name != "step" and not known.fullmatch(name)}
