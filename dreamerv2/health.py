"""Watches whether updates can be applied, so that a spoiled state never replaces a good one."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

# So many updates in a row that cannot be applied end a run. Loss scaling needs at most 24, from
# its largest scale to its smallest.
PATIENCE = 100
RECOVERING = 25

_SKIPPED = "_skipped"


class TrainingDiverged(RuntimeError):
    """For many updates in a row none could be applied."""


class Health:
    """Counts the last updates in a row that were skipped because a gradient was not finite.

    The counts stay on the device until somebody asks, and are added up now and then only.

    Args:
        variables: What a checkpoint saves.
        scaling: Losses are scaled, so that a few skipped updates are normal.
    """

    def __init__(self, variables: Mapping[str, tf.Variable], scaling: bool) -> None:
        self._floats = [v for v in variables.values() if v.dtype.is_floating]
        self._tolerated = RECOVERING if scaling else 0
        self._names: list[str] = []
        self._streaks = tf.zeros([0])
        self._recent: list[list[tf.Tensor]] = []  # Whether skipped, by update; not counted yet.

    def update(self, metrics: Mapping[str, tf.Tensor]) -> None:
        """Take note of the metrics `<optimizer>_skipped` of an update."""
        names = [name for name in metrics if name.endswith(_SKIPPED)]
        if names != self._names:
            self._names, self._streaks, self._recent = names, tf.zeros([len(names)]), []
        self._recent.append([metrics[name] for name in names])
        if len(self._recent) == PATIENCE:
            self._count()

    def _count(self) -> None:
        if self._names and self._recent:
            columns = [tf.cast(tf.stack(c), tf.float32) for c in zip(*self._recent, strict=True)]
            table = tf.stack(columns, 1)
            last = tf.reduce_sum(tf.math.cumprod(table[::-1]), 0)
            whole = tf.reduce_all(table > 0, 0)
            self._streaks = tf.where(whole, self._streaks, 0.0) + last
        self._recent = []

    def check(self, frames: int) -> None:
        """End the run if it cannot recover.

        Args:
            frames: Environment frames so far, for the message.

        Raises:
            TrainingDiverged: No update of some optimizer was applied for a long time.
        """
        streaks = self._skipped(PATIENCE - 1)
        if streaks:
            raise TrainingDiverged(
                f"none of the last {max(streaks.values())} updates up to frame {frames:,} could "
                f"be applied, because the gradients of {', '.join(streaks)} are not finite; the "
                "last checkpoint is kept: lower the learning rate or raise the precision."
            )

    def trouble(self) -> str:
        """Say why the present state should not be saved; empty if nothing is wrong with it."""
        streaks = self._skipped(self._tolerated)
        if streaks:
            return f"the gradients of {', '.join(streaks)} are not finite"
        checks = [tf.reduce_all(tf.math.is_finite(tf.cast(v, v.dtype))) for v in self._floats]
        if checks and not bool(tf.reduce_all(tf.stack(checks))):
            return "there are weights that are not finite"
        return ""

    def _skipped(self, tolerated: int) -> dict[str, int]:
        """Return the counts that are larger, by the name of the optimizer."""
        self._count()
        counts = zip(self._names, self._streaks.numpy().tolist(), strict=True)
        return {name.removesuffix(_SKIPPED): int(n) for name, n in counts if n > tolerated}
