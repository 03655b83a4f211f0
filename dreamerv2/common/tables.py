"""Tables of numbers as aligned text, Markdown, CSV, LaTeX or JSON."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from collections.abc import Sequence
from typing import Any

Value = float | int | str | None


@dataclasses.dataclass(frozen=True)
class Cell:
    """A value and how it is printed.

    Attributes:
      value: What is shown.
      digits: How many decimals of a float are printed.
      interval: What the value is known to, with the same decimals.
      key: What CSV and JSON have instead of the value, such as the name behind a label.
    """

    value: Value
    digits: int = 2
    interval: tuple[float, float] | None = None
    key: str | None = None

    def text(self) -> str:
        """As a person reads it; what is not known is a dash."""
        text = _round(self.value, self.digits)
        if self.interval:
            low, high = (_round(end, self.digits) for end in self.interval)
            text = f"{text} [{low}, {high}]"
        return text


@dataclasses.dataclass(frozen=True)
class Column:
    """A column: its name in CSV and JSON, its heading elsewhere."""

    name: str
    heading: str


@dataclasses.dataclass(frozen=True)
class Table:
    """A table; each row has a cell for each column, and notes go below."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = ()


def render(table: Table, form: str) -> str:
    """The table in a format of `FORMATS`, ending in a newline.

    Text, Markdown and LaTeX show rounded values and notes. CSV and JSON have every digit, and
    columns `name_low` and `name_high` where there are intervals; CSV has no place for notes.
    """
    return FORMATS[form](table)


def _text(table: Table) -> str:
    grid = _grid(table)
    widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
    right = _right(table)
    lines = [table.title, ""]
    for number, row in enumerate(grid):
        cells = [
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(row, widths, right, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
        if number == 0:
            lines.append("  ".join("-" * width for width in widths))
    if table.notes:
        lines += ["", *table.notes]
    return "\n".join(lines) + "\n"


def _markdown(table: Table) -> str:
    def escape(cell: str) -> str:
        return cell.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")

    grid = [[escape(cell) for cell in row] for row in _grid(table)]
    rule = ["---:" if is_right else "---" for is_right in _right(table)]
    rows = [f"| {' | '.join(row)} |" for row in [grid[0], rule, *grid[1:]]]
    notes = [f"\n{note}" for note in table.notes]
    return "\n".join([f"**{table.title}**", "", *rows, *notes]) + "\n"


def _latex(table: Table) -> str:
    grid = [[_escape_latex(cell) for cell in row] for row in _grid(table)]
    shape = "".join("r" if is_right else "l" for is_right in _right(table))
    rows = [f"  {' & '.join(row)} \\\\" for row in grid]
    notes = [f"% {note}" for note in table.notes]
    lines = [
        f"% {table.title}",
        "% Needs \\usepackage{booktabs}.",
        f"\\begin{{tabular}}{{{shape}}}",
        "  \\toprule",
        rows[0],
        "  \\midrule",
        *rows[1:],
        "  \\bottomrule",
        "\\end{tabular}",
        *notes,
    ]
    return "\n".join(lines) + "\n"


def _csv(table: Table) -> str:
    records = _records(table)
    stream = io.StringIO()
    names = list(dict.fromkeys(name for record in records for name in record))
    writer = csv.DictWriter(
        stream, names or [column.name for column in table.columns], lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(records)
    return stream.getvalue()


def _json(table: Table) -> str:
    content = {"title": table.title, "rows": _records(table), "notes": list(table.notes)}
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


FORMATS = {"text": _text, "markdown": _markdown, "csv": _csv, "latex": _latex, "json": _json}


def _grid(table: Table) -> list[list[str]]:
    """Headings and cells as texts."""
    headings = [column.heading for column in table.columns]
    return [headings, *([cell.text() for cell in row] for row in table.rows)]


def _right(table: Table) -> list[bool]:
    """Which columns are set flush right: those that hold no words."""
    return [
        not any(isinstance(row[index].value, str) for row in table.rows)
        for index in range(len(table.columns))
    ]


def _records(table: Table) -> list[dict[str, Any]]:
    """Rows with unrounded values by name; every row has the same names."""
    with_interval = [
        any(row[index].interval for row in table.rows) for index in range(len(table.columns))
    ]
    records = []
    for row in table.rows:
        record: dict[str, Any] = {}
        for column, cell, has in zip(table.columns, row, with_interval, strict=True):
            record[column.name] = _finite(cell.value if cell.key is None else cell.key)
            if has:
                low, high = cell.interval or (None, None)
                record[f"{column.name}_low"] = _finite(low)
                record[f"{column.name}_high"] = _finite(high)
        records.append(record)
    return records


def _finite(value: Value) -> Value:
    """The value, or None instead of NaN and infinity, which JSON lacks."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _round(value: Value, digits: int) -> str:
    """Text of a value; no minus before a zero, and a dash for what is not known."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, float):
        text = f"{value:.{digits}f}"
        return text.lstrip("-") if float(text) == 0 else text
    return str(value)


def _escape_latex(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {character: f"\\{character}" for character in "&%$#_{}"}
    # A cell that begins with a bracket would be read as an argument of the line break before it.
    text = "".join(special.get(character, character) for character in text)
    return f"{{{text}}}" if text.startswith("[") else text
