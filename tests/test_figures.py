"""The paper's figures show the paper's numbers, and can be read."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from dreamerv2.common import figures, plot_panels
from dreamerv2.common import plot_style as ps
from dreamerv2.common.errors import UserError
from dreamerv2.common.score_data import Run, load


@pytest.fixture(scope="module")
def data():
    return load()


@pytest.fixture(scope="module")
def style(data):
    return ps.Style(colors=ps.choose_colors(data.methods, []))


def test_figure1_has_the_numbers_of_table1(data, style):
    drawn = figures.figure1(data, style, figures.Choice())
    printed = data.paper["table1"]["rows"]
    for entry in drawn.numbers:
        if entry["method"] in printed:
            assert round(entry["gamer_median"], 2) == printed[entry["method"]][0]
    assert {"dreamerv2", "rainbow", "simple"} <= {entry["method"] for entry in drawn.numbers}


def test_figure4_ends_at_the_numbers_of_table1(data, style):
    drawn = figures.figure4(data, style, figures.Choice())
    printed = data.paper["table1"]
    for entry in drawn.numbers:
        column = printed["columns"].index(entry["panel"])
        [line] = entry["lines"]
        assert round(line[-1], 2) == printed["rows"][entry["method"]][column]
    assert len(drawn.numbers) == 4 * 5 and len(drawn.figure.axes) == 4


def test_per_seed_protocol_changes_figure4(data, style):
    drawn = figures.figure4(data, style, figures.Choice(protocol="per-seed"))
    assert drawn.numbers[0]["panel"] == "gamer_median"
    assert round(drawn.numbers[0]["lines"][0][-1], 2) == 1.79  # As stated in docs/scores.md.


def test_e1_compares_the_scores_of_table_k1(data, style):
    drawn = figures.figure_e1(data, style, figures.Choice(baselines=["rainbow"]))
    [entry] = drawn.numbers
    columns = data.paper["k1"]["columns"]
    assert len(entry["differences"]) == 55
    for task, difference in entry["differences"].items():
        row = dict(zip(columns, data.paper["k1"]["rows"][task], strict=True))
        references = data.references[task]
        scale = references["gamer"] - references["random"]
        # Both printed scores are rounded to integers.
        assert abs(difference * scale - (row["dreamerv2"] - row["rainbow"])) <= 1.01


def test_f1_ends_at_table_k1(data, style):
    choice = figures.Choice(tasks=["pong", "alien"])
    drawn = figures.figure_f1(data, style, choice)
    printed = data.paper["k1"]
    for entry in drawn.numbers:
        if entry["panel"] in printed["rows"] and entry["method"] in printed["columns"]:
            row = printed["rows"][entry["panel"]]
            at = entry["frames"].index(199e6)
            assert round(entry["lines"][0][at]) == row[printed["columns"].index(entry["method"])]
    # Two games and four aggregates of them.
    assert len(drawn.figure.axes) == 6


@pytest.mark.parametrize(("name", "panels"), [("a2", 1), ("b2", 1), ("control", 22)])
def test_other_figures(data, style, name, panels):
    drawn = figures.FIGURES[name](data, style, figures.Choice())
    assert len(drawn.figure.axes) == panels
    assert len(drawn.figure.legends) == 1


def test_names_of_figures():
    assert figures.find("F.1") == figures.find("f1") == figures.find("Figure F.1") == ["f1"]
    assert figures.find("4") == figures.find("figure4") == ["figure4"]
    assert figures.find("all") == list(figures.FIGURES)
    with pytest.raises(UserError, match=r"f9.*did you mean f1"):
        figures.find("f9")


# Seeds to curves.


@pytest.mark.parametrize(
    ("how", "low", "middle", "high"),
    [
        ("std", 2 - np.sqrt(8 / 3), 2, 2 + np.sqrt(8 / 3)),
        ("std1", 2 - np.sqrt(8 / 3), 2, 2 + np.sqrt(8 / 3)),
        ("median", 1, 2, 3),
        ("per25", 1, 2, 3),
        ("per5", 0.2, 2, 3.8),
        ("per0", 0, 2, 4),
        ("minmax", 0, 2, 4),
    ],
)
def test_summaries_by_hand(how, low, middle, high):
    lines, lower, upper = plot_panels.summarize(np.array([[4.0], [0.0], [2.0]]), how)
    np.testing.assert_allclose([lower[0], lines[0, 0], upper[0]], [low, middle, high])


def test_summary_leaves_out_seeds_that_have_not_begun():
    rows = np.array([[np.nan, 1.0], [4.0, 3.0]])
    lines, low, high = plot_panels.summarize(rows, "std")
    assert lines.tolist() == [[4, 2]] and low.tolist() == [4, 1] and high.tolist() == [4, 3]
    assert plot_panels.summarize(rows, "none")[0] is rows


def test_a_run_that_ended_keeps_its_last_value():
    def make(seed, values):
        frames = np.arange(1.0, len(values) + 1)
        return Run("x", "x_y", "mine", seed, frames, np.array(values, float), "here")

    curve = plot_panels.task_curve([make(0, [2]), make(1, [4, 6, 8])], "std", "Mine")
    assert curve.frames.tolist() == [1, 2, 3]
    assert curve.lines.tolist() == [[3, 4, 5]]
    assert curve.seeds == 2


# Looks.


def test_colors_are_fixed_and_distinct(data):
    colors = ps.choose_colors(data.methods, ["a", "b"])
    assert colors["dreamerv2"] == ps.COLORS["dreamerv2"]
    assert set(data.methods) <= set(colors)
    assert ps.choose_colors(data.methods, ["b", "a"]) == colors
    assert not set(ps.PALETTES["contrast"]) & set(ps.COLORS.values())
    assert ps.choose_colors([], ["a"], ["red"])["a"] == "red"
    assert ps.choose_colors([], ["a"], chosen={"a": "green"})["a"] == "green"


@pytest.mark.parametrize(
    ("value", "largest", "text"),
    [
        (0, 2e8, "0"),
        (2e8, 2e8, "200M"),
        (5e5, 1e6, "0.5M"),
        (1000, 1000, "1000"),
        (1500, None, "1.5k"),
        (0.25, 1, "0.25"),
        (-20, 20, "\N{MINUS SIGN}20"),
    ],
)
def test_numbers_on_axes(value, largest, text):
    assert ps.compact(value, largest) == text


def test_tick_labels_do_not_overlap(data, style):
    choice = figures.Choice(tasks=["pong", "atlantis", "skiing", "qbert"])
    figure = figures.figure_f1(data, style, choice).figure
    figure.draw_without_rendering()
    for axes in figure.axes:
        for axis, first, last in ((axes.xaxis, "x0", "x1"), (axes.yaxis, "y0", "y1")):
            low, high = sorted(axis.get_view_interval())
            ticks = [t for t in axis.get_major_ticks() if low <= t.get_loc() <= high]
            boxes = sorted(
                (tick.label1.get_window_extent() for tick in ticks), key=lambda b: getattr(b, first)
            )
            assert len(boxes) >= 2
            for one, two in itertools.pairwise(boxes):
                assert getattr(one, last) < getattr(two, first)
