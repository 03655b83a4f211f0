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

    # Joining many scalars at once costs less than those of each update; but each takes memory.
    _JOIN = 100

    def __init__(self) -> None:
        self._tables: list[tuple[list[str], list[tf.Tensor]]] = []
        self._rows: list[list[tf.Tensor]] = []  # Of the last table, not joined yet.

    def __len__(self) -> int:
        """Return the number of updates collected."""
        joined = sum(len(block) for _, blocks in self._tables for block in blocks)
        return joined + len(self._rows)

    def add(self, metrics: Mapping[str, tf.Tensor]) -> None:
        """Keep the scalars of one update."""
        names = list(metrics)
        if not self._tables or names != self._tables[-1][0]:
            self._join()
            self._tables.append((names, []))
        self._rows.append(list(metrics.values()))
        if len(self._rows) == self._JOIN:
            self._join()

    def _join(self) -> None:
        if self._rows:
            columns = [
                tf.cast(tf.stack(column), tf.float32) for column in zip(*self._rows, strict=True)
            ]
            self._tables[-1][1].append(tf.stack(columns, 1))
            self._rows = []

    def result(self) -> tuple[dict[str, float], dict[str, int]]:
        """Return what the updates since the last call gave, and forget it.

        Returns:
            The mean of each metric, and for those that were not finite in how many updates.
        """
        sums: dict[str, float] = {}
        counts: dict[str, int] = {}
        bad: dict[str, int] = {}
        self._join()
        for names, blocks in self._tables:
            table = tf.concat(blocks, 0).numpy()
            finite = np.isfinite(table)
            totals = np.where(finite, table, 0.0).sum(0, dtype=np.float64)
            for name, total, count in zip(names, totals, finite.sum(0), strict=True):
                sums[name] = sums.get(name, 0.0) + float(total)
                counts[name] = counts.get(name, 0) + int(count)
                if count < len(table):
                    bad[name] = bad.get(name, 0) + len(table) - int(count)
        self._tables = []
        return {name: sums[name] / n if n else float("nan") for name, n in counts.items()}, bad
