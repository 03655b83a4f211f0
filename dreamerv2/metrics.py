"""Averages metrics of many updates without waiting for the device after each of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf


class MetricBuffer:
    """Collects scalars on the device; `result` fetches them all at once.

    Values that are not finite, such as the gradient norm of an update that loss scaling skipped,
    are left out of the mean; if no finite value is left, the result says so as NaN. What is
    measured may change, as when exploration ends: each mean is over the updates that had it.
    """

    def __init__(self) -> None:
        self._tables: list[tuple[list[str], list[tf.Tensor]]] = []

    def __len__(self) -> int:
        """Return the number of updates collected."""
        return sum(len(rows) for _, rows in self._tables)

    def add(self, metrics: Mapping[str, tf.Tensor]) -> None:
        """Keep the scalars of one update."""
        names = list(metrics)
        if not self._tables or names != self._tables[-1][0]:
            self._tables.append((names, []))
        row = tf.stack([tf.cast(metrics[name], tf.float32) for name in names])
        self._tables[-1][1].append(row)

    def result(self) -> tuple[dict[str, float], dict[str, int]]:
        """Return what the updates since the last call gave, and forget it.

        Returns:
            The mean of each metric, and for those that were not finite in how many updates.
        """
        sums: dict[str, float] = {}
        counts: dict[str, int] = {}
        bad: dict[str, int] = {}
        for names, rows in self._tables:
            table = tf.stack(rows).numpy()
            finite = np.isfinite(table)
            totals = np.where(finite, table, 0.0).sum(0, dtype=np.float64)
            for name, total, count in zip(names, totals, finite.sum(0), strict=True):
                sums[name] = sums.get(name, 0.0) + float(total)
                counts[name] = counts.get(name, 0) + int(count)
                if count < len(rows):
                    bad[name] = bad.get(name, 0) + len(rows) - int(count)
        self._tables = []
        return {name: sums[name] / n if n else float("nan") for name, n in counts.items()}, bad
