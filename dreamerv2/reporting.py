"""Writes down what a run does: metrics of updates, episodes, evaluations, and videos."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from dreamerv2.common.config import Config
from dreamerv2.common.logger import JSONLines, Logger, Output, TensorBoard, Terminal
from dreamerv2.common.successes import Successes
from dreamerv2.evaluation import Episode, episode_metrics
from dreamerv2.metrics import MetricBuffer
from dreamerv2.progress import Progress


class TrainingDiverged(RuntimeError):
    """No update could be applied for a whole logging interval."""


class Reporter:
    """Collects what is to be logged and writes it to file, TensorBoard and terminal.

    Args:
        config: Of the run.
        logdir: Folder of the run. Metrics in it that are later than the progress are dropped:
            they are about to be written again.
        terminal: Shows a line per write.
        progress: Says at which frame the run is.
        outputs: Further outputs.
    """

    def __init__(
        self,
        config: Config,
        logdir: pathlib.Path,
        terminal: Terminal,
        progress: Progress,
        outputs: Sequence[Output] = (),
    ) -> None:
        self._config, self._progress = config, progress
        lines = JSONLines(logdir)
        lines.truncate_after(progress.frames)
        self.logger = Logger(
            [lines, TensorBoard(logdir), terminal, *outputs], lambda: progress.frames
        )
        self._metrics = MetricBuffer()
        self._episode: Episode = {}

    def update(self, metrics: Mapping[str, tf.Tensor]) -> None:
        """Keep the metrics of one update, without waiting for the device."""
        self._metrics.add(metrics)

    def episode(self, episode: Episode) -> None:
        """Add the metrics of a training episode."""
        self.logger.add(episode_metrics(self._config, episode, "train"))
        self._progress.successes.add(episode)
        self._episode = episode

    def evaluation(self, episodes: Sequence[Episode], videos: Mapping[str, tf.Tensor]) -> None:
        """Add the metrics of an evaluation, its videos, and open-loop predictions.

        Args:
            episodes: What was played.
            videos: Open-loop predictions of each image.
        """
        successes = Successes(self._config.log_keys_success)
        for episode in episodes:
            self.logger.add(episode_metrics(self._config, episode, "eval"))
            successes.add(episode)
        self.logger.add(successes.metrics("eval"))
        score = float(np.mean([episode["reward"].sum() for episode in episodes]))
        best = self._progress.best
        if score > best.get("return", -np.inf):
            best.update({"return": score, "step": self._progress.frames})
        self.logger.scalar("eval_best_return", best["return"])
        self._add_videos("eval", episodes[0])
        self._add_videos("train", self._episode)
        for key, video in videos.items():
            self.logger.video(f"openl_{key}", video.numpy())

    def _add_videos(self, mode: str, episode: Episode) -> None:
        for key in self._config.log_keys_video:
            if key in episode and episode[key].ndim == 4:
                self.logger.video(f"{mode}_policy_{key}", episode[key])

    def write_updates(self, replay: Mapping[str, int]) -> None:
        """Write the metrics of the updates since the last time.

        Args:
            replay: Statistics of the replay.

        Raises:
            TrainingDiverged: Not one of the updates could be applied.
        """
        updates = len(self._metrics)
        metrics = self._metrics.result()
        self.logger.add(metrics)
        self.logger.add(self._progress.successes.metrics("train"))
        self.logger.scalar("updates", self._progress.updates)
        for key in ("total_episodes", "loaded_steps", "loaded_episodes"):
            self.logger.scalar(f"replay_{key}", replay[key])
        self.logger.write(fps=True)
        skipped = {k.removesuffix("_skipped"): v for k, v in metrics.items() if "_skipped" in k}
        bad = [name for name, share in skipped.items() if share == 1]
        if bad and updates > 100:
            raise TrainingDiverged(
                f"none of the last {updates} updates up to frame {self._progress.frames:,} could "
                f"be applied, because the gradients of {', '.join(bad)} are not finite; the last "
                "checkpoint is kept: lower the learning rate or raise the precision."
            )
