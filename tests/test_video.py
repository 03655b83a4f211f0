import io

import numpy as np
import pytest
from PIL import Image, ImageSequence

from dreamerv2.common import video


def decode(data: bytes) -> tuple[np.ndarray, list[int]]:
    """The RGB frames of a GIF and their durations in milliseconds."""
    with Image.open(io.BytesIO(data)) as image:
        frames, durations = [], []
        for frame in ImageSequence.Iterator(image):
            frames.append(np.asarray(frame.convert("RGB")))
            durations.append(frame.info["duration"])
    return np.stack(frames), durations


def smooth(length=5, height=24, width=20):
    """A moving gradient with far more than 256 colors."""
    t, y, x = np.meshgrid(np.arange(length), np.arange(height), np.arange(width), indexing="ij")
    return np.stack([10 * y, 12 * x, 40 * t + y], -1).astype(np.uint8)


class TestGif:
    def test_stores_grayscale_exactly(self):
        frames = np.random.default_rng(0).integers(0, 256, (6, 16, 12, 1), np.uint8)
        decoded, _ = decode(video.encode_gif(frames))
        np.testing.assert_array_equal(decoded, np.repeat(frames, 3, -1))

    @pytest.mark.parametrize("colors", [1, 2, 7, 256])
    def test_stores_few_colors_exactly(self, colors):
        rng = np.random.default_rng(1)
        palette = rng.integers(0, 256, (colors, 3), np.uint8)
        frames = palette[rng.integers(0, colors, (4, 32, 16))]
        frames[:, 0, 0] = np.arange(4)[:, None] if colors == 7 else frames[:, 0, 0]
        decoded, _ = decode(video.encode_gif(frames))
        if colors == 1:  # Equal frames are stored once.
            frames = frames[:1]
        np.testing.assert_array_equal(decoded, frames)

    def test_approximates_many_colors(self):
        frames = smooth()
        decoded, _ = decode(video.encode_gif(frames))
        assert decoded.shape == frames.shape
        error = np.abs(decoded.astype(float) - frames)
        assert error.mean() < 12
        assert error.max() < 64

    def test_shares_the_palette_so_that_a_still_part_does_not_flicker(self):
        frames = smooth()
        frames[:, :12] = frames[0, :12]
        decoded, _ = decode(video.encode_gif(frames))
        for frame in decoded:
            np.testing.assert_array_equal(frame[:12], decoded[0, :12])

    def test_repeats_endlessly_at_the_given_rate(self):
        data = video.encode_gif(smooth(), fps=10)
        assert decode(data)[1] == [100] * 5
        with Image.open(io.BytesIO(data)) as image:
            assert image.info["loop"] == 0

    def test_keeps_the_time_of_frames_that_are_equal(self):
        frames = smooth()
        frames[2] = frames[1]
        assert sum(decode(video.encode_gif(frames, fps=20))[1]) == 5 * 50

    def test_single_frame(self):
        frames = smooth(1)
        assert decode(video.encode_gif(frames))[0].shape == frames.shape

    def test_saves_to_a_file(self, tmp_path):
        video.save_gif(tmp_path / "video.gif", smooth(), fps=20)
        assert (tmp_path / "video.gif").read_bytes() == video.encode_gif(smooth(), fps=20)

    @pytest.mark.parametrize("fps", [0, -1, 51])
    def test_refuses_rates_that_browsers_do_not_play(self, fps):
        with pytest.raises(ValueError, match=f"not at {fps}"):
            video.encode_gif(smooth(), fps)

    @pytest.mark.parametrize(
        ("frames", "message"),
        [
            (np.zeros((2, 4, 4), np.uint8), r"\(T, H, W, C\).*got \(2, 4, 4\)"),
            (np.zeros((2, 4, 4, 2), np.uint8), "1 or 3 channels"),
            (np.zeros((2, 4, 4, 3), np.float32), "uint8, got float32"),
            (np.zeros((0, 4, 4, 3), np.uint8), "at least one pixel"),
            (np.zeros((1, 2, 4, 4, 3), np.uint8), r"\(T, H, W, C\)"),
        ],
    )
    def test_refuses_what_is_no_video(self, frames, message):
        with pytest.raises(ValueError, match=message):
            video.encode_gif(frames)


class TestPng:
    @pytest.mark.parametrize("channels", [1, 3])
    def test_stores_exactly(self, tmp_path, channels):
        image = np.random.default_rng(0).integers(0, 256, (8, 6, channels), np.uint8)
        video.save_png(tmp_path / "image.png", image)
        with Image.open(tmp_path / "image.png") as file:
            decoded = np.asarray(file)
        np.testing.assert_array_equal(decoded.reshape(image.shape), image)

    def test_refuses_what_is_no_image(self):
        with pytest.raises(ValueError, match=r"\(H, W, C\)"):
            video.encode_png(np.zeros((2, 4, 4, 3), np.uint8))


class TestGrid:
    def test_lays_out_side_by_side(self):
        videos = np.random.default_rng(0).integers(0, 256, (3, 2, 4, 5, 3), np.uint8)
        result = video.grid(videos)
        assert result.shape == (2, 4, 15, 3)
        for index in range(3):
            np.testing.assert_array_equal(result[:, :, 5 * index : 5 * index + 5], videos[index])

    def test_wraps_into_rows_and_fills_with_black(self):
        videos = np.random.default_rng(0).integers(1, 256, (5, 2, 4, 5, 1), np.uint8)
        result = video.grid(videos, columns=3)
        assert result.shape == (2, 8, 15, 1)
        np.testing.assert_array_equal(result[:, 4:, 5:10], videos[4])
        assert (result[:, 4:, 10:] == 0).all()
        assert (result[:, :, :10] != 0).all()

    @pytest.mark.parametrize("columns", [0, 4])
    def test_refuses_impossible_columns(self, columns):
        with pytest.raises(ValueError, match="1 to 3 columns"):
            video.grid(np.zeros((3, 2, 4, 4, 1), np.uint8), columns)


class TestStrip:
    def test_time_goes_right_and_rows_go_down(self):
        rows = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 6, 3), np.uint8)
        for argument in (rows, list(rows)):
            result = video.strip(argument)
            assert result.shape == (15, 24, 3)
            for row in range(3):
                for time in range(4):
                    cell = result[5 * row : 5 * row + 5, 6 * time : 6 * time + 6]
                    np.testing.assert_array_equal(cell, rows[row, time])

    def test_refuses_rows_of_different_shapes(self):
        rows = [np.zeros((4, 5, 6, 3), np.uint8), np.zeros((3, 5, 6, 3), np.uint8)]
        with pytest.raises(ValueError, match="one shape"):
            video.strip(rows)


class TestUpscale:
    def test_repeats_pixels(self):
        image = np.array([[[1], [2]], [[3], [4]]], np.uint8)
        expected = [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
        np.testing.assert_array_equal(video.upscale(image, 2)[..., 0], expected)

    def test_keeps_leading_axes(self):
        videos = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 5, 3), np.uint8)
        result = video.upscale(videos, 3)
        assert result.shape == (2, 3, 12, 15, 3)
        np.testing.assert_array_equal(result[..., 1::3, 2::3, :], videos)

    @pytest.mark.parametrize("factor", [0, 1.5, -2])
    def test_refuses_other_factors(self, factor):
        with pytest.raises(ValueError, match="integers of 1 or more"):
            video.upscale(np.zeros((4, 4, 3), np.uint8), factor)
