"""How far predictions are from the truth, step by step, and from which level on that is bad."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from dreamerv2.common.plot_style import numbers
from dreamerv2.common.stats import interval

# What is compared with the truth, and what it is called in figures.
NAMES = {
    "model": "imagined",
    "reconstruction": "every step observed",
    "last": "last step repeated",
    "mean": "mean of all steps",
}
CONFIDENCE = 0.95
RESAMPLES = 1000
# Of fewer episodes, resamples are too alike to say anything.
MIN_GROUPS = 5


@dataclasses.dataclass(frozen=True)
class Curve:
    """A mean over windows for each step, ``(T,)``, and the ends of its confidence interval."""

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


class Measure:
    """Squared errors of one key, against the level of trivial predictions.

    The errors of step t compare the prediction for step t with the truth at step t, averaged over
    pixels or dimensions. Pixels are in [0, 1]; dimensions of vectors are divided by their standard
    deviation over all windows and steps, so that predicting the mean has the error 1; rewards are
    as they are.

    Args:
        truth: All windows ``(W, T, ...)``: uint8 pixels, vectors ``(W, T, n)`` or rewards
            ``(W, T)``.
        context: Steps before the prediction starts.
        step_means: Predict the mean of each step where the mean is predicted, not that of all.
    """

    def __init__(self, truth: np.ndarray, context: int, step_means: bool = False) -> None:
        self._context = context
        self._ratio = 255.0 if truth.dtype == np.uint8 else 1.0
        axes = (0,) if step_means else (0, 1)
        self.mean = truth.mean(axes, dtype=np.float64) / self._ratio
        self.scale = np.ones(truth.shape[2:])
        if truth.ndim == 3:
            std = truth.std((0, 1), dtype=np.float64)
            self.scale = np.where(std > 1e-6, std, 1.0)
        self._parts: dict[str, list[np.ndarray]] = {}

    def add(self, truth: np.ndarray, model: np.ndarray, reconstruction: np.ndarray) -> None:
        """Compare some windows, each array ``(B, T, ...)``; predictions of pixels in [0, 1]."""
        truth = truth.astype(np.float32) / np.float32(self._ratio)
        others = {
            "model": model,
            "reconstruction": reconstruction,
            "last": truth[:, self._context - 1 : self._context],
            "mean": self.mean.astype(np.float32),
        }
        if truth.ndim == 2:
            del others["last"]  # The last reward says nothing of the next ones.
        scale = self.scale.astype(np.float32)
        for name, other in others.items():
            error = np.square((other - truth) / scale)
            error = error.reshape(*truth.shape[:2], -1).mean(-1, dtype=np.float64)
            self._parts.setdefault(name, []).append(error)

    def errors(self) -> dict[str, np.ndarray]:
        """Return the errors so far, ``(W, T)`` by name; see `NAMES`."""
        return {name: np.concatenate(parts) for name, parts in self._parts.items()}


def sums(rewards: np.ndarray, context: int) -> np.ndarray:
    """Return the sum of the rewards ``(W, T)`` since the context ended; zero before."""
    later = np.arange(rewards.shape[1]) >= context
    return np.cumsum(np.where(later, rewards, 0), 1)


def curves(errors: Mapping[str, np.ndarray], groups: np.ndarray, seed: int) -> dict[str, Curve]:
    """Average errors ``(W, T)`` over windows, with bootstrap confidence intervals.

    Windows of one episode are alike, so whole episodes are resampled; where there are fewer than
    `MIN_GROUPS`, windows are, and the intervals are too narrow.

    Args:
        errors: By name.
        groups: ``(W,)``, equal for windows of the same episode.
        seed: Of the resamples.
    """
    _, index = np.unique(groups, return_inverse=True)
    if index.max() + 1 < MIN_GROUPS:
        index = np.arange(len(groups))
    count = int(index.max()) + 1
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(count, np.full(count, 1 / count), RESAMPLES).astype(np.float64)
    member = (index == np.arange(count)[:, None]).astype(np.float64)  # (G, W)
    sizes = weights @ member.sum(1)
    result = {}
    for name, values in errors.items():
        means = (weights @ (member @ values)) / sizes[:, None]  # (R, T)
        low, high = interval(means.T, CONFIDENCE)
        result[name] = Curve(values.mean(0), low, high)
    return result


def describe(curves: Mapping[str, Curve], context: int) -> dict[str, Any]:
    """Return curves for JSON: from the last step of the context (horizon 0) on."""
    return {
        name: {
            field.name: numbers(getattr(curve, field.name)[context - 1 :])
            for field in dataclasses.fields(curve)
        }
        for name, curve in curves.items()
    }
