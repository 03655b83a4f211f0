"""Layout of strips and videos, pixel by pixel; curves with the numbers they were given."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from dreamerv2 import dream_figures
from dreamerv2.common import plot_style
from dreamerv2.dream_errors import Curve
from dreamerv2.dream_figures import choose_columns


@pytest.mark.parametrize(
    ("context", "length", "expected"),
    [
        (5, 50, [0, 4, 5, 10, 15, 20, 25, 30, 35, 40, 45, 49]),
        (5, 11, [0, 4, 5, 6, 7, 8, 9, 10]),
        (5, 6, [0, 4, 5]),
        (1, 3, [0, 1, 2]),
        (1, 26, [0, 1, 5, 10, 15, 20, 25]),
        (5, 505, [0, 4, 5, 100, 200, 300, 400, 500, 504]),
    ],
)
def test_columns(context, length, expected):
    assert choose_columns(context, length) == expected


def test_columns_are_never_too_many():
    for context in (1, 2, 5, 7, 50):
        for length in range(context + 1, context + 300):
            columns = choose_columns(context, length)
            assert len(columns) <= 12
            assert columns == sorted(set(columns))
            assert {0, context - 1, context, length - 1} <= set(columns)


def test_error_is_grey_where_model_and_truth_agree():
    truth = np.array([0, 255, 0, 255, 100], np.uint8)
    model = np.array([0, 255, 255, 0, 110], np.uint8)
    assert dream_figures.show_error(truth, model).tolist() == [128, 128, 255, 0, 132]


def code(picture):
    """One number for each RGB pixel."""
    return picture.astype(np.int32) @ np.array([1, 256, 65536], np.int32)


@pytest.mark.parametrize(
    ("shape", "factor"), [((64, 64, 1), 2), ((20, 32, 3), 4), ((9, 300, 4), 1)]
)
def test_strip_shows_every_pixel_exactly(tmp_path, shape, factor):
    rng = np.random.default_rng(0)
    truth, model = rng.integers(0, 256, (2, 2, 9, *shape), dtype=np.uint8)
    figure, dpi = dream_figures.strip(truth, model, 3)
    assert figure.get_figwidth() <= 6.75
    (path,) = plot_style.save(figure, tmp_path / "strip", ["png"], dpi)
    picture = code(np.asarray(Image.open(path).convert("RGB")))
    columns = choose_columns(3, 9)
    assert columns == [0, 2, 3, 4, 5, 6, 7, 8]
    tiles = []
    for n in range(2):
        shown = truth[n], model[n]
        for row in [*shown, dream_figures.show_error(*shown)]:
            tiles.append([dream_figures.visible(row[t]) for t in columns])
    height, width = shape[0] * factor, shape[1] * factor
    corners = []
    for tile in (tile for row in tiles for tile in row):
        big = code(np.broadcast_to(tile, (*shape[:2], 3)).repeat(factor, 0).repeat(factor, 1))
        # Few places have the right pixels in all four corners.
        places = np.ones([n - m + 1 for n, m in zip(picture.shape, big.shape, strict=True)], bool)
        for y, x in np.ndindex(2, 2):
            y, x = y * (height - 1), x * (width - 1)
            part = picture[y : y + places.shape[0], x : x + places.shape[1]]
            places &= part == big[y, x]
        corners += [
            (y, x)
            for y, x in np.argwhere(places).tolist()
            if np.array_equal(picture[y : y + height, x : x + width], big)
        ]
    assert len(corners) == 6 * len(columns)
    ys, xs = (sorted(set(axis)) for axis in zip(*corners, strict=True))
    assert corners == [(y, x) for y in ys for x in xs]
    gaps = np.diff(xs) - width
    assert gaps[1] > gaps[0], "the context is set apart"
    assert len(set(np.delete(gaps, 1))) == 1


def test_video():
    rng = np.random.default_rng(0)
    truth, model = rng.integers(0, 256, (2, 3, 4, 5, 6, 1), dtype=np.uint8)
    frames = dream_figures.video(truth, model)
    assert frames.shape == (4, 3 * 5 + 2, 3 * 6 + 2 * 2, 1)
    for n in range(3):
        x = slice(8 * n, 8 * n + 6)
        np.testing.assert_array_equal(frames[:, 0:5, x], truth[n])
        np.testing.assert_array_equal(frames[:, 6:11, x], model[n])
        np.testing.assert_array_equal(
            frames[:, 12:17, x], dream_figures.show_error(truth[n], model[n])
        )
    assert not frames[:, 5].any()
    assert not frames[:, :, 6:8].any()


def test_error_figure_draws_from_the_last_observation_on():
    mean = np.array([9.0, 1.0, 2.0, 3.0])
    curve = Curve(mean, mean - 0.5, mean + 0.5)
    last = Curve(np.array([5.0, 0.0, 4.0, 6.0]), *[mean] * 2)
    panels = [dream_figures.Panel(str(i), "y", {"model": curve, "last": last}) for i in range(4)]
    figure = dream_figures.errors(panels, context=2)
    assert [axes.get_title() for axes in figure.axes] == ["0", "1", "2", "3"]
    axes = figure.axes[0]
    lines = {tuple(line.get_xdata()): tuple(line.get_ydata()) for line in axes.get_lines()}
    assert lines == {(0, 1, 2): (1, 2, 3), (1, 2): (4, 6)}
    assert axes.get_xlim() == (0, 2)
    assert axes.get_ylim()[0] == 0
    assert axes.get_ylim()[1] > 6
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["imagined", "last step repeated", "95% confidence"]


def test_timeline_shows_what_varies_most_relative_to_its_scale():
    truth = np.zeros((2, 6, 20), np.float32)
    scale = np.ones(20)
    varying = [1, 3, 4, 8, 9, 11, 15, 19]
    truth[:, ::2, varying] = 1
    truth[:, ::2, 0], scale[0] = 50, 1000
    figure = dream_figures.timeline("position", truth, truth + 0.5, 2, scale)
    assert len(figure.axes) == 2 * dream_figures.MOST_DIMENSIONS
    labels = [axes.get_ylabel() for axes in figure.axes[::2]]
    assert labels == [f"position[{dim}]" for dim in varying]
    shown, predicted = (line.get_ydata() for line in figure.axes[0].get_lines())
    assert list(shown) == [1, 0, 1, 0, 1, 0]
    assert list(predicted) == [1.5, 0.5, 1.5, 0.5, 1.5, 0.5]
