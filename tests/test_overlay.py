from __future__ import annotations

import numpy as np
import pytest

from dreamerv2.common.overlay import overlay


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_enlarges_small_frames_exactly_and_writes_beneath_them(channels: int) -> None:
    frames = noise(2, 64, 64, channels)
    result = overlay(frames, ["return 1.0", "action LEFT"])
    assert result.dtype == np.uint8 and result.shape[-1] == channels
    np.testing.assert_array_equal(result[:, :320:5, :320:5], frames)
    np.testing.assert_array_equal(result[:, 4:320:5, 2:320:5], frames)
    band = result[:, 320:]
    assert (band == 255).any() and (band == 0).mean() > 0.8
    assert (band[:, 0] == 96).all()
    upper, lower = band[0, 1:26], band[0, 26:]
    assert (upper > 0).any() and (lower > 0).any()


def test_leaves_large_frames_and_makes_sides_even() -> None:
    frames = noise(1, 331, 401, 3)
    result = overlay(frames, ["text"])
    np.testing.assert_array_equal(result[:, :331, :401], frames)
    assert result.shape[1] % 2 == 0 and result.shape[2] == 402


def test_each_frame_can_have_its_own_text() -> None:
    frames = np.zeros((3, 64, 64, 1), np.uint8)
    result = overlay(frames, [["1"], ["2"], ["1"]])
    np.testing.assert_array_equal(result[0], result[2])
    assert (result[0] != result[1]).any()
    same = overlay(frames, ["1"])
    np.testing.assert_array_equal(same[1], result[0])


def test_text_that_is_too_wide_stays_inside() -> None:
    frames = np.zeros((1, 64, 64, 1), np.uint8)
    result = overlay(frames, ["return 1 " * 30])
    assert (result[0, 322:, :300] > 0).any()
    assert not result[0, 322:, 314:].any()


def test_without_text_only_the_size_changes() -> None:
    assert overlay(np.zeros((2, 64, 64, 3), np.uint8), []).shape == (2, 320, 320, 3)


def test_refuses_a_wrong_number_of_texts() -> None:
    with pytest.raises(ValueError, match="2 lists of lines for 3 frames"):
        overlay(np.zeros((3, 8, 8, 1), np.uint8), [["a"], ["b"]])
