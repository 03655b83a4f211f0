import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamerv2.common import series


@pytest.fixture
def read(tmp_path):
    def function(*lines, metric="r", end="\n", **kwargs):
        path = tmp_path / "metrics.jsonl"
        text = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        path.write_bytes(("\n".join(text) + end).encode("utf-8", "surrogateescape"))
        return series.read(path, metric, **kwargs)

    return function


def points(result):
    return list(zip(result.steps.tolist(), result.values.tolist(), strict=True))


def test_reads_the_lines_that_have_the_metric(read):
    result = read({"step": 1, "r": 2}, {"step": 2, "x": 5}, {"step": 3, "x": 1, "r": -0.5})
    assert points(result) == [(1, 2), (3, -0.5)]
    assert (result.lines, result.broken, result.replaced, result.missing) == (3, 0, 0, 0)
    assert result.steps.dtype == result.values.dtype == np.float64


def test_metric_names_are_not_mixed_up(read):
    result = read({"step": 1, "r2": 2}, {"step": 2, "ar": 5}, {"step": 3, "note": "r", "x": 1})
    assert points(result) == []
    assert result.broken == 0


@pytest.mark.parametrize(
    "line",
    [
        '{"step": 2, "r": 1',
        '{"step": 2, "r"',
        '{"step": 2, ',
        '{"ste',
        '{"step": 2, "x{"step": 3, "r": 4}',
        "[2, 3]",
        '"r"',
        "null",
        "\0\0\0\0",
        '{"r": 4}',
        '{"step": "2", "r": 4}',
        '{"step": null, "r": 4}',
        '{"step": true, "r": 4}',
        '{"step": NaN, "r": 4}',
        '{"step": 2, "r": "high"}',
        '{"step": 2, "r": true}',
        '{"step": 2, "r": [1]}',
        '{"step": 2, "x": 1},',
        "\udcff\udcfe",
        '{"step": 2, "r": 1} trailing',
        '{"step": 2, "r": 1}, {"step": 3, "r": 1}',
        "[" * 100_000 + '"r"',
    ],
)
def test_broken_lines_are_skipped_and_counted(read, line):
    result = read({"step": 1, "r": 1}, line, {"step": 5, "r": 5}, {"step": 6, "x": 5})
    assert points(result) == [(1, 1), (5, 5)]
    assert (result.lines, result.broken) == (4, 1)


def test_lines_that_are_only_wrong_together_are_told_apart(read):
    # Joined by commas they are one valid array.
    result = read('{"step": 1, "r": "a}', '{b", "r": 3}', {"step": 5, "r": 5})
    assert points(result) == [(5, 5)]
    assert result.broken == 2


def test_half_a_line_at_the_end(read):
    result = read({"step": 1, "r": 1}, '{"step": 2, "r": 1.2', end="")
    assert points(result) == [(1, 1)]
    assert result.broken == 1


def test_null_and_infinite_values_are_missing(read):
    values = ["null", "NaN", "Infinity", "-Infinity", "7"]
    lines = [f'{{"step": {step}, "r": {value}}}' for step, value in enumerate(values, 1)]
    result = read(*lines)
    assert points(result) == [(5, 7)]
    assert (result.missing, result.broken) == (4, 0)


def test_after_a_resume_the_later_line_wins(read):
    first = [{"step": step, "r": step} for step in (10, 20, 30, 40)]
    second = [{"step": step, "r": -step} for step in (25, 30, 35)]
    result = read(*first, *second)
    assert points(result) == [(10, 10), (20, 20), (25, -25), (30, -30), (35, -35)]
    assert result.replaced == 2


def test_a_line_without_the_metric_shows_the_resume_as_well(read):
    result = read({"step": 10, "r": 1}, {"step": 20, "r": 2}, {"step": 15, "x": 0})
    assert points(result) == [(10, 1)]
    assert result.replaced == 1


def test_two_lines_of_one_step(read):
    result = read({"step": 10, "r": 1}, {"step": 10, "x": 2}, {"step": 20, "x": 2},
                  {"step": 20, "r": 3}, {"step": 20, "r": 4})  # fmt: skip
    assert points(result) == [(10, 1), (20, 4)]
    assert result.replaced == 1


def test_lists_the_metrics_if_the_asked_one_is_not_there(read):
    assert read({"step": 1, "b": 1}, "broken", {"step": 2, "a": 1}).names == ("a", "b")
    assert read({"step": 1, "r": 1}).names == ()


def test_other_axis_and_spelling(read):
    result = read('{"r":1,"time":5,"step":1}', ' {"time": 6.5, "x": 0} \r', '{"time":7e0,"r":2}',
                  "", xaxis="time")  # fmt: skip
    assert points(result) == [(5, 1), (7, 2)]
    assert (result.lines, result.broken) == (3, 0)


def test_empty_file(read):
    result = read(end="")
    assert points(result) == []
    assert (result.lines, result.broken, result.names) == (0, 0, ())


@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.sampled_from([None, "absent", 1.5, math.nan, 2, "broken"])),
        max_size=12,
    )
)
def test_equals_a_slow_reader(tmp_path_factory, lines):
    path = tmp_path_factory.mktemp("series") / "metrics.jsonl"
    expected, broken = {}, 0
    with path.open("w") as file:
        for step, value in lines:
            if value == "broken":
                file.write(f'{{"step": {step}, "r": 1\n')
                broken += 1
                continue
            record = {"step": step} if value == "absent" else {"step": step, "r": value}
            file.write(json.dumps(record) + "\n")
            has = value != "absent"
            expected = {s: v for s, v in expected.items() if s < step or (s == step and not has)}
            if has and value is not None and not math.isnan(value):
                expected[step] = value
    result = series.read(path, "r")
    assert points(result) == sorted(expected.items())
    assert (result.lines, result.broken) == (len(lines), broken)
