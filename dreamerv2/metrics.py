"""Averages metrics of many updates without waiting for the device after each of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf


class MetricBuffer:
    """Collects scalars on the device; `result` fetches them all at once.

    Values that are not finite, such as the gradient norm of an update that loss scaling skipped,
    are left out of the mean; if no finite value is left, the result says so as NaN.
    """

    def __init__(self) -> None:
        self._names: list[str] = []
        self._rows: list[tf.Tensor] = []

    def __len__(self) -> int:
        """Return the number of updates collected."""
        return len(self._rows)

    def add(self, metrics: Mapping[str, tf.Tensor]) -> None:
        """Keep the scalars of one update; every call gives the same names."""
        names = list(metrics)
        if self._rows and names != self._names:
            raise ValueError(f"the metrics changed from {self._names} to {names}")
        self._names = names
        self._rows.append(tf.stack([tf.cast(metrics[name], tf.float32) for name in names]))

    def result(self) -> dict[str, float]:
        """Return the mean of each metric since the last call, and forget them."""
        if not self._rows:
            return {}
        table = tf.stack(self._rows).numpy()
        self._rows = []
        finite = np.isfinite(table)
        counts = finite.sum(0)
        sums = np.where(finite, table, 0.0).sum(0, dtype=np.float64)
        means = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
        return dict(zip(self._names, means.tolist(), strict=True))
