"""Writes text beneath the frames of a video, and enlarges small frames so that it can be read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dreamerv2.common.video import check, upscale

# Pixels that the larger side of a picture is enlarged to, at least nearly.
READABLE = 320
_FONT_SIZE = 15
_LINE_HEIGHT = 20
_MARGIN = 6
_WHITE, _GREY, _BLACK = 255, 96, 0


def overlay(
    frames: np.ndarray, lines: Sequence[str] | Sequence[Sequence[str]], size: int = READABLE
) -> np.ndarray:
    """Adds a black band with white text beneath every frame, so that nothing of it is hidden.

    Args:
      frames: (T, H, W, C) uint8 with 1 or 3 channels.
      lines: Lines of text, the same for all frames; or for each of the T frames a list of lines.
        What is too wide for the picture is cut off with an ellipsis.
      size: Frames are enlarged by the largest whole number that keeps both sides within this
        many pixels; larger frames stay as they are.

    Returns:
      (T, H', W', C) uint8, with H' and W' even, as videos need it.

    Raises:
      ValueError: The frames are no video, or there is not one list of lines for each of them.
    """
    frames = check(frames, "THWC")
    same = [line for line in lines if isinstance(line, str)]
    texts = [same] * len(frames) if len(same) == len(lines) else [list(line) for line in lines]
    if len(texts) != len(frames):
        raise ValueError(f"There are {len(texts)} lists of lines for {len(frames)} frames.")
    frames = upscale(frames, max(1, size // max(frames.shape[1:3])))
    count = max(len(text) for text in texts)
    length, height, width, channels = frames.shape
    band = _LINE_HEIGHT * count + 2 * _MARGIN if count else 0
    result = np.zeros((length, height + band + (height + band) % 2, width + width % 2, channels))
    result = result.astype(np.uint8)
    result[:, :height, :width] = frames
    if count:
        font = ImageFont.load_default(_FONT_SIZE)
        for frame, text in zip(result, texts, strict=True):
            frame[height : height + band] = _band(text, frame.shape[1], band, font)
    return result


def _band(
    lines: Sequence[str],
    width: int,
    height: int,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> np.ndarray:
    """Draws lines of text; (height, width, 1) uint8."""
    image = Image.new("L", (width, height), _BLACK)
    draw = ImageDraw.Draw(image)
    draw.line([(0, 0), (width, 0)], fill=_GREY)  # Many pictures are as black as the band.
    for row, line in enumerate(lines):
        text = line
        while text and draw.textlength(text, font) > width - 2 * _MARGIN:
            text = text[:-1] if text == line else text[:-2]
            text += "…"
        draw.text((_MARGIN, _MARGIN + row * _LINE_HEIGHT), text, fill=_WHITE, font=font)
    return np.asarray(image)[..., None]
