"""MP4 files from arrays: H.264 that every browser plays, without an ffmpeg on the system."""

from __future__ import annotations

import contextlib
import fractions
import os
import pathlib
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any

import numpy as np

from dreamerv2.common.errors import UserError
from dreamerv2.common.video import check

# Constant quality of x264: 0 is lossless, 18 is hard to tell from it, 23 is its default.
QUALITY = 18


class MP4Writer:
    """Writes a video frame by frame, so that its length costs no memory; a context manager.

    H.264 halves the resolution of colors and therefore needs even heights and widths: an odd one
    is padded by repeating the last row or column. The file appears under its name when it is
    complete; an exception inside the `with` block leaves nothing behind.

    Args:
      path: The file; its folder must exist.
      fps: Frames per second, above 0.

    Raises:
      UserError: The folder can't be written to.
    """

    def __init__(self, path: str | os.PathLike[str], fps: float = 20) -> None:
        if not fps > 0:
            raise ValueError(f"A video plays at more than 0 fps, not at {fps}.")
        self._path = pathlib.Path(path)
        self._part = self._path.with_name(f".{self._path.name}.{os.getpid()}.part")
        self._fps = fractions.Fraction(fps).limit_denominator(1000)
        self._file: Any = None
        self._stream: Any = None
        self._shape: tuple[int, ...] = ()

    def append(self, frames: np.ndarray) -> None:
        """Adds frames (T, H, W, C) uint8 with 1 or 3 channels, all of one shape (H, W, C)."""
        frames = check(frames, "THWC")
        if self._file is None:
            self._open(frames.shape[1:])
        if frames.shape[1:] != self._shape:
            raise ValueError(
                f"All frames of a video have one shape, here {self._shape}, not {frames.shape[1:]}."
            )
        from av import VideoFrame

        height, width, channels = self._shape
        odd = (0, 0), (0, height % 2), (0, width % 2), (0, 0)
        frames = np.pad(frames, odd, mode="edge") if height % 2 or width % 2 else frames
        if channels == 1:
            frames = np.repeat(frames, 3, -1)
        with self._explained():
            for frame in frames:
                picture = VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
                self._file.mux(self._stream.encode(picture))

    def close(self) -> None:
        """Completes the file; may be called again.

        Raises:
          ValueError: There was no frame.
        """
        if self._file is None:
            if not self._shape:
                raise ValueError("A video has at least one frame.")
            return
        with self._explained():
            self._file.mux(self._stream.encode())
            self._file.close()
            self._file = None
            os.replace(self._part, self._path)

    def discard(self) -> None:
        """Gives up an incomplete file."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._part.unlink(missing_ok=True)

    def _open(self, shape: tuple[int, ...]) -> None:
        import av

        height, width, _ = shape
        with self._explained():
            self._part.touch()  # PyAV would find out only at the first frame.
            # The index goes to the front, so that a page can play before it has loaded everything.
            options = {"movflags": "+faststart"}
            self._file = av.open(str(self._part), "w", format="mp4", options=options)
        stream = self._file.add_stream("libx264", rate=self._fps)
        stream.width, stream.height = width + width % 2, height + height % 2
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": str(QUALITY), "preset": "veryfast", "threads": "1"}
        self._stream, self._shape = stream, shape

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Says in one sentence that the file could not be written."""
        try:
            yield
        except OSError as error:
            raise UserError(
                f"the video {os.fspath(self._path)!r} can't be written ({error.strerror}); free "
                "space, or name a folder that you may write to."
            ) from error

    def __enter__(self) -> MP4Writer:
        """Returns itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Completes the file, or gives it up after an exception."""
        if error is None:
            self.close()
        else:
            self.discard()


def save_mp4(
    path: str | os.PathLike[str], frames: np.ndarray | Iterable[np.ndarray], fps: float = 20
) -> None:
    """Writes a video to an MP4 file.

    Args:
      path: The file; its folder must exist.
      frames: (T, H, W, C) uint8 with 1 or 3 channels, or an iterable of such pieces.
      fps: Frames per second.

    Raises:
      UserError: The folder can't be written to.
    """
    with MP4Writer(path, fps) as writer:
        for piece in [frames] if isinstance(frames, np.ndarray) else frames:
            writer.append(piece)
