"""Pictures and videos from arrays: GIF and PNG without ffmpeg, grids and strips.

All functions take uint8 arrays with 1 (grayscale) or 3 (RGB) channels in the last place and raise
`ValueError` for anything else.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence

import numpy as np
from PIL import Image

PALETTE_SIZE = 256
# Every browser shows frames that are to last less than 20 ms for 100 ms instead.
MAX_GIF_FPS = 50


def encode_gif(frames: np.ndarray, fps: float = 20) -> bytes:
    """Encodes a video as an endlessly repeating GIF.

    All frames share one palette, so that colors don't flicker. Grayscale videos and videos of at
    most 256 colors in all are stored exactly; others get the 256 colors of a median cut over the
    whole video.

    Args:
      frames: (T, H, W, C) uint8.
      fps: Frames per second, at most 50. GIF counts in hundredths of a second, to which the
        duration of a frame is rounded.

    Returns:
      The bytes of the file.
    """
    frames = check(frames, "THWC")
    if not 0 < fps <= MAX_GIF_FPS:
        raise ValueError(f"GIFs play at more than 0 and at most {MAX_GIF_FPS} fps, not at {fps}.")
    images = _to_palette(frames)
    buffer = io.BytesIO()
    images[0].save(
        buffer,
        format="GIF",
        save_all=True,
        append_images=images[1:],
        duration=10 * round(100 / fps),
        loop=0,
    )
    return buffer.getvalue()


def encode_png(image: np.ndarray) -> bytes:
    """Encodes an image (H, W, C) uint8 as the bytes of a PNG file."""
    image = check(image, "HWC")
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(buffer, format="PNG")
    return buffer.getvalue()


def save_gif(path: str | os.PathLike[str], frames: np.ndarray, fps: float = 20) -> None:
    """Writes a video (T, H, W, C) uint8 to a GIF file; see `encode_gif`."""
    data = encode_gif(frames, fps)
    with open(path, "wb") as file:
        file.write(data)


def save_png(path: str | os.PathLike[str], image: np.ndarray) -> None:
    """Writes an image (H, W, C) uint8 to a PNG file."""
    data = encode_png(image)
    with open(path, "wb") as file:
        file.write(data)


def grid(videos: np.ndarray, columns: int | None = None) -> np.ndarray:
    """Lays out a batch of videos as one.

    Args:
      videos: (B, T, H, W, C) uint8.
      columns: Videos side by side in one row; all B by default. Places left over in the last row
        are black.

    Returns:
      (T, rows * H, columns * W, C) uint8.
    """
    videos = check(videos, "BTHWC")
    batch, length, height, width, channels = videos.shape
    columns = batch if columns is None else columns
    if not 1 <= columns <= batch:
        raise ValueError(f"A grid of {batch} videos has 1 to {batch} columns, not {columns}.")
    rows = -(-batch // columns)
    filler = np.zeros((rows * columns - batch, *videos.shape[1:]), np.uint8)
    cells = np.concatenate([videos, filler]).reshape(rows, columns, *videos.shape[1:])
    cells = cells.transpose(2, 0, 3, 1, 4, 5)  # T, rows, H, columns, W, C
    return cells.reshape(length, rows * height, columns * width, channels)


def strip(rows: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
    """Lays out videos as one picture in which time goes from left to right.

    Args:
      rows: R videos of equal shape (T, H, W, C) uint8, from top to bottom; for example the truth,
        the model's prediction, and the error between the two.

    Returns:
      (R * H, T * W, C) uint8.
    """
    shapes = {np.shape(row) for row in rows}
    if len(shapes) > 1:
        raise ValueError(f"The rows of a strip have one shape, not {sorted(shapes)}.")
    videos = check(np.asarray(rows), "RTHWC")
    count, length, height, width, channels = videos.shape
    return videos.transpose(0, 2, 1, 3, 4).reshape(count * height, length * width, channels)


def upscale(images: np.ndarray, factor: int) -> np.ndarray:
    """Repeats every pixel `factor` times in both directions.

    Args:
      images: (..., H, W, C) uint8.
      factor: Integer of 1 or more.

    Returns:
      (..., factor * H, factor * W, C) uint8.
    """
    if int(factor) != factor or factor < 1:
        raise ValueError(f"Images are upscaled by integers of 1 or more, not by {factor}.")
    images = check(images, "...HWC")
    return images.repeat(int(factor), axis=-3).repeat(int(factor), axis=-2)


def check(array: np.ndarray, axes: str) -> np.ndarray:
    """Returns an array that is uint8, not empty, of the given axes, with 1 or 3 channels.

    Args:
      array: Images or videos.
      axes: A letter for each axis, such as "THWC"; "..." in front allows any further axes.

    Raises:
      ValueError: The array is something else.
    """
    array = np.asarray(array)
    names = axes.replace(".", "")
    form = "(" + ", ".join(["..."] * ("." in axes) + list(names)) + ")"
    ranks_agree = array.ndim >= len(names) if "." in axes else array.ndim == len(names)
    if not ranks_agree or array.shape[-1] not in (1, 3):
        raise ValueError(f"Expected shape {form} with 1 or 3 channels C, got {array.shape}.")
    if array.dtype != np.uint8:
        raise ValueError(f"Expected pixels of dtype uint8, got {array.dtype}.")
    if not array.size:
        raise ValueError(f"Expected at least one pixel, got shape {array.shape}.")
    return array


def _to_palette(frames: np.ndarray) -> list[Image.Image]:
    """Turns a video (T, H, W, C) into images of mode L or P that share their colors."""
    if frames.shape[-1] == 1:
        return [Image.fromarray(frame[..., 0]) for frame in frames]
    codes = frames.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    colors = np.unique(codes)
    if len(colors) <= PALETTE_SIZE:
        indices = np.searchsorted(colors, codes).astype(np.uint8)
        palette = (colors[:, None] >> np.array([16, 8, 0], np.uint32)).astype(np.uint8)
        images = [Image.fromarray(index) for index in indices]
        for image in images:
            image.putpalette(palette.tobytes())
        return images
    # The median cut sees all frames, stacked into one tall picture.
    height, width = frames.shape[1:3]
    stacked = Image.fromarray(np.ascontiguousarray(frames).reshape(-1, width, 3))
    stacked = stacked.quantize(
        PALETTE_SIZE, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE
    )
    return [stacked.crop((0, top, width, top + height)) for top in range(0, stacked.height, height)]
