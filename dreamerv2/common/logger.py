"""Collects metrics and writes them to files, TensorBoard and the terminal."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Protocol

import numpy as np

from dreamerv2.common import video
from dreamerv2.common.errors import UserError
from dreamerv2.common.json_lines import JSONLines
from dreamerv2.common.terminal import Progress, Terminal

__all__ = ["JSONLines", "Logger", "Output", "Progress", "TensorBoard", "Terminal"]


class Output(Protocol):
    """Where a logger writes to."""

    def write(
        self,
        step: int,
        scalars: Mapping[str, float],
        images: Mapping[str, np.ndarray],
        videos: Mapping[str, np.ndarray],
    ) -> None:
        """Writes everything collected since the last write.

        Args:
          step: In environment frames.
          scalars: Metrics by name.
          images: (H, W, C) uint8 by name.
          videos: (T, H, W, C) uint8 by name.
        """

    def close(self) -> None:
        """Finishes; may be called again."""


class Logger:
    """Collects metrics between writes.

    Args:
      outputs: Where to write to. Closed together with the logger.
      step: Returns the current step in environment frames.
      clock: Returns the time in seconds.
    """

    def __init__(
        self,
        outputs: Iterable[Output],
        step: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._outputs = list(outputs)
        self._step = step
        self._clock = clock
        self._scalars: dict[str, list[float]] = {}
        self._images: dict[str, np.ndarray] = {}
        self._videos: dict[str, np.ndarray] = {}
        self._last_fps: tuple[int, float] | None = None

    def scalar(self, name: str, value: Any) -> None:
        """Adds a number; those added under one name until the next write are averaged.

        Args:
          name: Any but "step", which is what `metrics.jsonl` calls the step.
          value: A number, or an array or tensor that holds one.

        Raises:
          ValueError: The name is "step", or the value isn't one number.
        """
        if name == "step":
            raise ValueError("A metric can't be named 'step', which is the name of the step axis.")
        array = np.asarray(value)
        # Not a list of what is allowed: bfloat16, which NumPy doesn't know, converts as well.
        if array.ndim or array.dtype.kind in "OSUcmM":
            raise ValueError(
                f"Metric {name!r} is one number, not shape {array.shape} of {array.dtype}."
            )
        self._scalars.setdefault(name, []).append(float(array))

    def image(self, name: str, image: np.ndarray) -> None:
        """Adds an image (H, W, C) uint8; of those under one name the last is written."""
        self._images[name] = video.check(image, "HWC")

    def video(self, name: str, frames: np.ndarray) -> None:
        """Adds a video; of those under one name the last is written.

        Args:
          name: Name of the video.
          frames: (T, H, W, C) uint8, or (B, T, H, W, C), which is laid out side by side.
        """
        frames = np.asarray(frames)
        self._videos[name] = video.grid(frames) if frames.ndim == 5 else video.check(frames, "THWC")

    def add(self, metrics: Mapping[str, Any], prefix: str = "") -> None:
        """Adds scalars, images and videos, told apart by their rank: 0, 3, and 4 or 5.

        Args:
          metrics: Values by name.
          prefix: Put in front of every name, with an underscore between, unless empty.
        """
        for key, value in metrics.items():
            name = f"{prefix}_{key}" if prefix else key
            value = np.asarray(value)
            if value.ndim == 3:
                self.image(name, value)
            elif value.ndim in (4, 5):
                self.video(name, value)
            else:
                self.scalar(name, value)

    def write(self, fps: bool = False) -> None:
        """Writes what was added since the last write to every output; nothing if nothing was.

        Args:
          fps: Also write the metric "fps": environment frames per second since the last write
            that asked for it.
        """
        step = int(self._step())
        if fps:
            now = self._clock()
            if self._last_fps is not None and now > self._last_fps[1]:
                last_step, last_time = self._last_fps
                self.scalar("fps", (step - last_step) / (now - last_time))
            self._last_fps = (step, now)
        scalars = {name: sum(v) / len(v) for name, v in self._scalars.items()}
        images, videos = self._images, self._videos
        self._scalars, self._images, self._videos = {}, {}, {}
        if scalars or images or videos:
            for output in self._outputs:
                output.write(step, scalars, images, videos)

    def close(self) -> None:
        """Closes every output; what was added but not written is lost. May be called again."""
        for output in self._outputs:
            output.close()

    def __enter__(self) -> Logger:
        """Returns itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes."""
        self.close()


class TensorBoard:
    """Writes event files for TensorBoard; videos are shown as animated images.

    TensorFlow is imported, and the event file made, by the first write. After a resume the steps
    begin again at the checkpoint's, and TensorBoard itself hides the older points beyond it.

    Args:
      logdir: Folder of the event files.
      fps: Frames per second that videos are shown with.
    """

    def __init__(self, logdir: str | os.PathLike[str], fps: float = 20) -> None:
        self._logdir = os.fspath(logdir)
        self._fps = fps
        self._writer: Any = None

    def write(
        self,
        step: int,
        scalars: Mapping[str, float],
        images: Mapping[str, np.ndarray],
        videos: Mapping[str, np.ndarray],
    ) -> None:
        """Writes everything and flushes.

        Raises:
          UserError: The disk is full.
        """
        import tensorflow as tf

        with self._sentence():
            if self._writer is None:
                self._writer = tf.summary.create_file_writer(self._logdir)
            with tf.device("cpu"), self._writer.as_default():
                self._write(tf, step, scalars, images, videos)
            self._writer.flush()
        # Often it drops what it can't write, and what follows in that file is unreadable then.
        space = os.statvfs(self._logdir)
        if space.f_blocks and not space.f_bavail:  # Some file systems tell nothing at all.
            raise self._unwritable("the disk is full")

    def _write(
        self,
        tf: Any,
        step: int,
        scalars: Mapping[str, float],
        images: Mapping[str, np.ndarray],
        videos: Mapping[str, np.ndarray],
    ) -> None:
        # Arrays, because TensorFlow never forgets a Python number that it was given.
        at = np.array(step, np.int64)
        for name, value in scalars.items():
            tf.summary.scalar(f"scalars/{name}", np.array(value, np.float32), at)
        for name, image in images.items():
            tf.summary.image(f"images/{name}", image[None], at)
        for name, frames in videos.items():
            proto = tf.compat.v1.Summary()
            proto.value.add(
                tag=f"videos/{name}",
                image={
                    "height": frames.shape[1],
                    "width": frames.shape[2],
                    "colorspace": frames.shape[3],
                    "encoded_image_string": video.encode_gif(frames, self._fps),
                },
            )
            tf.summary.experimental.write_raw_pb(proto.SerializeToString(), at)

    @contextlib.contextmanager
    def _sentence(self) -> Iterator[None]:
        import tensorflow as tf

        try:
            yield
        except tf.errors.OpError as error:
            raise self._unwritable(str(error.message).strip().splitlines()[-1].strip()) from error

    def _unwritable(self, reason: str) -> UserError:
        return UserError(
            f"The event files of TensorBoard in {self._logdir} cannot be written ({reason}); free "
            "disk space or make the folder writable, then run the same command again."
        )

    def close(self) -> None:
        """Closes the event file; may be called again.

        Raises:
          UserError: The disk is full.
        """
        writer, self._writer = self._writer, None
        if writer is not None:
            with self._sentence():
                writer.close()
