from __future__ import annotations

import fractions
import pathlib

import av
import numpy as np
import pytest

from dreamerv2.common.errors import UserError
from dreamerv2.common.video_mp4 import MP4Writer, save_mp4


def smooth(length: int = 12, height: int = 64, width: int = 48, channels: int = 3) -> np.ndarray:
    """A moving gradient."""
    t, y, x = np.meshgrid(np.arange(length), np.arange(height), np.arange(width), indexing="ij")
    return np.stack([3 * y, 4 * x, 8 * t + 2 * y][:channels], -1).astype(np.uint8)


def read(path: pathlib.Path) -> tuple[np.ndarray, av.VideoStream]:
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(stream)]
        return np.stack(frames), stream


def test_is_h264_that_browsers_play(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "video.mp4"
    save_mp4(path, smooth(), fps=15)
    _, stream = read(path)
    assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
    assert stream.average_rate == fractions.Fraction(15)
    data = path.read_bytes()
    assert data[4:8] == b"ftyp"
    assert data.index(b"moov") < data.index(b"mdat")  # Plays before all of it has loaded.


@pytest.mark.parametrize("channels", [1, 3])
def test_keeps_every_frame_nearly_as_it_is(tmp_path: pathlib.Path, channels: int) -> None:
    frames = smooth(channels=channels)
    save_mp4(tmp_path / "video.mp4", frames)
    decoded, _ = read(tmp_path / "video.mp4")
    wanted = np.repeat(frames, 3, -1) if channels == 1 else frames
    assert decoded.shape == wanted.shape
    assert np.abs(decoded.astype(float) - wanted).mean() < 2


def test_pads_odd_sizes_with_the_edge(tmp_path: pathlib.Path) -> None:
    frames = smooth(height=63, width=47)
    save_mp4(tmp_path / "video.mp4", frames)
    decoded, _ = read(tmp_path / "video.mp4")
    assert decoded.shape == (12, 64, 48, 3)
    assert np.abs(decoded[:, :63, :47].astype(float) - frames).mean() < 2
    assert np.abs(decoded[:, 63, :47].astype(float) - frames[:, 62]).mean() < 4


def test_pieces_make_the_same_file_as_the_whole(tmp_path: pathlib.Path) -> None:
    frames = smooth()
    save_mp4(tmp_path / "whole.mp4", frames)
    save_mp4(tmp_path / "pieces.mp4", (frames[start : start + 5] for start in range(0, 12, 5)))
    assert (tmp_path / "whole.mp4").read_bytes() == (tmp_path / "pieces.mp4").read_bytes()


def test_appears_only_when_it_is_complete(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "video.mp4"
    with pytest.raises(ZeroDivisionError), MP4Writer(path) as writer:
        writer.append(smooth())
        assert not path.exists()
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_refuses_what_is_no_video(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "video.mp4"
    with pytest.raises(ValueError, match="at least one frame"):
        MP4Writer(path).close()
    with pytest.raises(ValueError, match="0 fps"):
        save_mp4(path, smooth(), fps=0)
    with pytest.raises(ValueError, match="uint8"):
        save_mp4(path, smooth().astype(float))
    with pytest.raises(ValueError, match="one shape"):
        save_mp4(path, [smooth(), smooth(height=32)])
    with pytest.raises(UserError, match=r"nowhere.*folder"):
        save_mp4(tmp_path / "nowhere" / "video.mp4", smooth())
    assert not list(tmp_path.iterdir())
