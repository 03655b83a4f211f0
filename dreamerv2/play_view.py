"""What a page shows of one step of a game, and how it is written for the page."""

from __future__ import annotations

import base64
import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from dreamerv2.common import video

# Elements of a vector observation that a page draws.
SHOWN = 12


@dataclasses.dataclass(frozen=True)
class View:
    """One side of the game, the dream or the real environment, after a step.

    Attributes:
        observation: Images ``(H, W, C)`` uint8 and vectors ``(n,)`` float32 by key.
        reward: As the world model learns it, that is, transformed by `clip_rewards`.
        discount: Predicted or actual discount factor of this step.
        value: Of the critic, at the latent state of this side.
        score: Sum of the rewards since the episode began, for the real environment those of the
            environment itself.
        over: Whether the episode ends here; in the dream, whether the model says so.
    """

    observation: Mapping[str, np.ndarray]
    reward: float
    discount: float
    value: float
    score: float
    over: bool


@dataclasses.dataclass(frozen=True)
class Frame:
    """A step of the game.

    Attributes:
        step: Steps since the dream began.
        dream: What the model imagines.
        real: The environment beside it.
        action: The action ``(A,)`` that led here; None at the start.
        choice: What the agent would do next.
        note: Something worth saying, such as where the dream began.
    """

    step: int
    dream: View
    real: View | None = None
    action: np.ndarray | None = None
    choice: np.ndarray | None = None
    note: str = ""


def encode(frame: Frame) -> dict[str, Any]:
    """Write a frame as a JSON object; images are data URLs, what is not finite is null."""
    message: dict[str, Any] = {
        "step": frame.step,
        "note": frame.note,
        "dream": _encode_view(frame.dream),
    }
    if frame.real is not None:
        message["real"] = _encode_view(frame.real)
    return message


def _encode_view(view: View) -> dict[str, Any]:
    images, vectors = {}, {}
    for key, value in view.observation.items():
        if value.ndim == 3:
            images[key] = "data:image/png;base64," + base64.b64encode(
                video.encode_png(_to_colors(value))
            ).decode("ascii")
        else:
            vectors[key] = [_number(item) for item in value[:SHOWN].tolist()]
    return {
        "images": images,
        "vectors": vectors,
        "reward": _number(view.reward),
        "discount": _number(view.discount),
        "value": _number(view.value),
        "score": _number(view.score),
        "over": view.over,
    }


def _to_colors(image: np.ndarray) -> np.ndarray:
    """Return an image of 1 or 3 channels; others lose or gain some."""
    channels = image.shape[-1]
    if channels in (1, 3):
        return image
    return np.concatenate([image, np.zeros_like(image)], -1)[..., :3]


def _number(value: float) -> float | None:
    return round(float(value), 5) if math.isfinite(value) else None
