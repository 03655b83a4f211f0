import csv
import io
import json

import pytest

from dreamerv2.common.tables import FORMATS, Cell, Column, Table, render

TABLE = Table(
    "A title",
    [Column("name", "Name"), Column("score", "A Score"), Column("count", "Count")],
    [
        [Cell("Some & name", key="some"), Cell(1.005, 1, (-0.04, 22.25)), Cell(3)],
        [Cell("x|y_z"), Cell(float("nan"), 1), Cell(None)],
    ],
    ["A note with 5 %."],
)


def test_text():
    assert render(TABLE, "text") == (
        "A title\n"
        "\n"
        "Name                 A Score  Count\n"
        "-----------  ---------------  -----\n"
        "Some & name  1.0 [0.0, 22.2]      3\n"
        "x|y_z                      -      -\n"
        "\n"
        "A note with 5 %.\n"
    )


def test_markdown():
    assert render(TABLE, "markdown") == (
        "**A title**\n"
        "\n"
        "| Name | A Score | Count |\n"
        "| --- | ---: | ---: |\n"
        "| Some & name | 1.0 [0.0, 22.2] | 3 |\n"
        "| x\\|y_z | - | - |\n"
        "\n"
        "A note with 5 %.\n"
    )


def test_latex():
    assert render(TABLE, "latex") == (
        "% A title\n"
        "% Needs \\usepackage{booktabs}.\n"
        "\\begin{tabular}{lrr}\n"
        "  \\toprule\n"
        "  Name & A Score & Count \\\\\n"
        "  \\midrule\n"
        "  Some \\& name & 1.0 [0.0, 22.2] & 3 \\\\\n"
        "  x|y\\_z & - & - \\\\\n"
        "  \\bottomrule\n"
        "\\end{tabular}\n"
        "% A note with 5 %.\n"
    )


def test_latex_escapes():
    table = Table("", [Column("a", "#")], [[Cell("[x] \\{~^$")]])
    text = render(table, "latex")
    assert "  \\# \\\\\n" in text
    assert "  {[x] \\textbackslash{}\\{\\textasciitilde{}\\textasciicircum{}\\$} \\\\\n" in text


def test_csv_has_every_digit():
    rows = list(csv.DictReader(io.StringIO(render(TABLE, "csv"))))
    assert rows == [
        {"name": "some", "score": "1.005", "score_low": "-0.04", "score_high": "22.25",
         "count": "3"},
        {"name": "x|y_z", "score": "", "score_low": "", "score_high": "", "count": ""},
    ]  # fmt: skip


def test_json_has_every_digit():
    content = json.loads(render(TABLE, "json"))
    assert content == {
        "title": "A title",
        "rows": [
            {"name": "some", "score": 1.005, "score_low": -0.04, "score_high": 22.25, "count": 3},
            {"name": "x|y_z", "score": None, "score_low": None, "score_high": None, "count": None},
        ],
        "notes": ["A note with 5 %."],
    }


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [(-0.4, 0, "0"), (-0.004, 2, "0.00"), (-0.5, 1, "-0.5"), (2.146, 2, "2.15"), (3, 2, "3"),
     ("n", 2, "n"), (None, 2, "-"), (float("inf"), 1, "inf")],
)  # fmt: skip
def test_rounding(value, digits, text):
    assert Cell(value, digits).text() == text


@pytest.mark.parametrize("form", FORMATS)
def test_empty_table(form):
    text = render(Table("Title", [Column("a", "A"), Column("b", "B")], []), form)
    assert text.endswith("\n")
