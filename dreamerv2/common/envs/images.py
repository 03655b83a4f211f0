"""Resizing of images, `uint8` and channel-last."""

from __future__ import annotations

import numpy as np


def channel_first(shape: tuple[int, ...]) -> bool:
    """Whether a shape looks like `(C, H, W)`: few channels before two larger dimensions."""
    return len(shape) == 3 and shape[0] <= 4 and shape[1] > 4 and shape[2] > 4


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize an image.

    Shrinking averages over areas; an image that only grows repeats its pixels, so that edges
    stay crisp.

    Args:
      image: `(H, W, C)` or `(H, W)` uint8.
      size: New height and width.

    Returns:
      `(*size, C)` uint8, a copy; C is 1 for an image without channels.
    """
    if image.ndim == 2:
        image = image[..., None]
    image = np.array(image, np.uint8, order="C")
    if image.shape[:2] == tuple(size):
        return image
    import cv2

    grows = size[0] >= image.shape[0] and size[1] >= image.shape[1]
    mode = cv2.INTER_NEAREST if grows else cv2.INTER_AREA
    # OpenCV averages at most four channels at a time.
    parts = [np.ascontiguousarray(image[..., i : i + 4]) for i in range(0, image.shape[2], 4)]
    parts = [cv2.resize(part, (size[1], size[0]), interpolation=mode) for part in parts]
    return np.concatenate([part.reshape((*size, -1)) for part in parts], -1).astype(np.uint8)
