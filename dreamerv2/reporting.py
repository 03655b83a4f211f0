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
from dreamerv2.health import Health
from dreamerv2.metrics import MetricBuffer
from dreamerv2.progress import Progress

# Metrics listed in a notice.
_NAMED = 6


class Reporter:
    """Collects what is to be logged and writes it to file, TensorBoard and terminal.

    Args:
        config: Of the run.
        logdir: Folder of the run. Metrics in it that are later than the progress are dropped:
            they are about to be written again.
        terminal: Shows a line per write.
        progress: Says at which frame the run is.
        health: Is told of every update.
        outputs: Further outputs.
    """

    def __init__(
        self,
        config: Config,
        logdir: pathlib.Path,
        terminal: Terminal,
        progress: Progress,
        health: Health,
        outputs: Sequence[Output] = (),
    ) -> None:
        self._config, self._progress, self._health = config, progress, health
        self._terminal = terminal
        lines = JSONLines(logdir)
        lines.truncate_after(progress.frames)
        self.logger = Logger(
            [lines, TensorBoard(logdir), terminal, *outputs], lambda: progress.frames
        )
        self._metrics = MetricBuffer()
        self._episode: Episode = {}
        self._written = progress.frames  # Of the newest line on updates.

    def update(self, metrics: Mapping[str, tf.Tensor]) -> None:
        """Keep the metrics of one update, without waiting for the device."""
        self._metrics.add(metrics)
        self._health.update(metrics)

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
        """Write the metrics of the updates since the last time; nothing if nothing happened since.

        Args:
            replay: Statistics of the replay.

        Raises:
            TrainingDiverged: For long no update could be applied.
        """
        updates = len(self._metrics)
        if not updates and self._progress.frames == self._written:
            return
        self._written = self._progress.frames
        metrics, bad = self._metrics.result()
        self.logger.add(metrics)
        self.logger.scalar("updates_not_finite", max(bad.values(), default=0))
        self.logger.add(self._progress.successes.metrics("train"))
        self.logger.scalar("updates", self._progress.updates)
        for key in ("total_episodes", "loaded_steps", "loaded_episodes"):
            self.logger.scalar(f"replay_{key}", replay[key])
        self.logger.write(fps=True)
        if self._config.precision == 16:  # Loss scaling tries how far it can go.
            bad = {name: n for name, n in bad.items() if not name.endswith("_grad_norm")}
        if bad:
            listed = ", ".join(f"{name} ({n})" for name, n in list(bad.items())[:_NAMED])
            more = ", ..." if len(bad) > _NAMED else ""
            self._terminal.print(
                f"Values that are not finite in the last {updates:,} updates: {listed}{more}."
            )
        self._health.check(self._progress.frames)
