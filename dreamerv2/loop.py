"""The training loop: collect, learn, evaluate, log, save; the same for command line and API."""

from __future__ import annotations

import contextlib
import pathlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from dreamerv2.agent import Agent
from dreamerv2.common.checkpoint import Checkpoint, Saved
from dreamerv2.common.clock import Every
from dreamerv2.common.config import Config
from dreamerv2.common.driver import Driver, RandomPolicy
from dreamerv2.common.envs.vector import Batch, VecEnv
from dreamerv2.common.errors import UserError
from dreamerv2.common.logger import JSONLines, Logger, TensorBoard, Terminal
from dreamerv2.common.prefetch import Prefetcher
from dreamerv2.common.replay import Replay
from dreamerv2.common.signals import Interrupt
from dreamerv2.device import SpeedNote, describe_device
from dreamerv2.evaluation import (
    VIDEO_LENGTH,
    Episode,
    Stopped,
    episode_metrics,
    evaluate,
    kept_keys,
    video_keys,
)
from dreamerv2.logdir import Logdir, derive_seed
from dreamerv2.metrics import MetricBuffer
from dreamerv2.spaces_file import save_spaces

MakeEnv = Callable[[str, int], VecEnv]

# Purposes of random numbers, for `derive_seed`.
_ENV, _REPLAY, _RANDOM, _EVAL = range(4)


class TrainingDiverged(RuntimeError):
    """No update could be applied for a whole logging interval."""


def run(config: Config, make_env: MakeEnv) -> None:
    """Train until `config.steps` agent steps, or until a signal asks to stop.

    A folder that holds an earlier part of the run is continued.

    Args:
        config: All settings.
        make_env: Returns the environments for "train" or "eval", given a seed.

    Raises:
        UserError: The settings or the folder cannot be used; nothing has been written then.
        TrainingDiverged: The gradients stay not finite; the last checkpoint is intact.
    """
    with contextlib.ExitStack() as stack:
        interrupt = stack.enter_context(Interrupt())
        terminal = stack.enter_context(Terminal())
        # Everything that can refuse the settings comes before the folder is touched.
        _check_prefill(config)
        with make_env("train", derive_seed(config.seed, _ENV)) as env:
            agent = Agent(config, env.obs_space, env.act_space, config.seed)
        logdir = stack.enter_context(Logdir(config))
        terminal.print(describe_device(config.precision, agent.jit))
        training = Training(config, agent, make_env, logdir.path, terminal, interrupt)
        with contextlib.closing(training):
            # Not earlier: what is in the folder may not fit this configuration.
            config.save(logdir.path / "config.yaml")
            save_spaces(logdir.path, env.obs_space, env.act_space)
            training.run()


def _check_prefill(config: Config) -> None:
    needed = config.dataset.length * config.envs
    if config.prefill < needed:
        raise UserError(
            f"prefill is {config.prefill}, but sequences of dataset.length {config.dataset.length} "
            f"from {config.envs} environments need {needed} agent steps; use at least that many."
        )


class Training:
    """One run: its parts, what is saved of them, and the order in which they act."""

    def __init__(
        self,
        config: Config,
        agent: Agent,
        make_env: MakeEnv,
        logdir: pathlib.Path,
        terminal: Terminal,
        interrupt: Interrupt,
    ) -> None:
        self._config, self._agent, self._make_env = config, agent, make_env
        self._terminal, self._interrupt = terminal, interrupt
        self._replay = Replay(
            logdir / "replay",
            length=config.dataset.length,
            seed=derive_seed(config.seed, _REPLAY),
            **config.replay,
        )
        self._batches = Prefetcher(self._replay, config.dataset.batch)
        self._updates = 0
        self._due = 0
        self._best: dict[str, float] = {}
        self._should_train = Every(config.train_every)
        self._should_log = Every(config.log_every)
        self._should_eval = Every(config.eval_every if config.eval_eps else 0)
        self._should_save = Every(config.save_every)
        self._checkpoint = Checkpoint(
            logdir / "checkpoint",
            agent.variables(),
            {
                "progress": Saved(self._state, self._restore),
                "replay": Saved(self._replay.state, self._replay.restore),
                "batches": Saved(self._batches.state, self._batches.restore),
            },
            keep=config.save_keep,
        )
        self._resumed = self._checkpoint.restore()
        # The replay outlives a kill, the checkpoint is older: what was collected since counts,
        # and the updates that belong to it are made up for.
        self._steps = self._replay.stats["total_steps"]
        self._env = make_env("train", derive_seed(config.seed, _ENV, self._steps))
        self._driver = Driver(
            self._env,
            on_transition=self._replay.add,
            on_episode=self._on_train_episode,
            keep=kept_keys(config),
            video=video_keys(config),
            video_length=VIDEO_LENGTH,
        )
        self._train_videos: Episode = {}
        self._metrics = MetricBuffer()
        lines = JSONLines(logdir)
        lines.truncate_after(self._frames)
        self._logger = Logger([lines, TensorBoard(logdir), terminal], lambda: self._frames)
        for notice in self._replay.notices:
            terminal.print(notice)

    @property
    def _frames(self) -> int:
        return self._steps * self._config.action_repeat

    def _stopping(self) -> bool:
        return self._interrupt.requested is not None

    def run(self) -> None:
        """Do everything that is left of the run, then save."""
        if self._resumed and self._steps >= self._config.steps:
            self._terminal.print(f"The run is complete at {self._frames:,} frames.")
            return
        if self._steps:
            self._terminal.print(
                f"Resuming at {self._frames:,} frames after {self._updates:,} updates."
            )
        self._prefill()
        if not self._resumed:
            self._due += self._config.pretrain
        self._learn()
        self._collect_and_learn()
        if self._config.eval_eps:
            self._should_eval(self._steps)  # A longer run is not to repeat this evaluation.
            self._evaluate()
        self._log()
        self._save()
        if self._stopping():
            self._terminal.print(
                f"Stopped at {self._frames:,} frames and saved; run the same command to continue."
            )

    def _prefill(self) -> None:
        """Act randomly until the replay holds `prefill` agent steps."""
        total = self._config.prefill
        if self._steps >= total:
            return
        random = RandomPolicy(
            self._env.act_space,
            self._env.num,
            derive_seed(self._config.seed, _RANDOM, self._steps),
        )
        with self._terminal.progress("Prefill", total, start=self._steps) as progress:
            while self._steps < total and not self._stopping():
                self._steps += self._driver(random, steps=1)
                progress.update(self._steps)

    def _collect_and_learn(self) -> None:
        """Alternate between acting and updates until the end of the run."""
        config = self._config
        total = config.steps * config.action_repeat
        before, note = self._updates, SpeedNote()
        self._should_save(time.monotonic())
        with self._terminal.progress("Train", total, "frames", self._frames) as progress:
            while self._steps < config.steps and not self._stopping():
                if self._should_eval(self._steps):
                    self._evaluate()
                self._steps += self._driver(self._policy, steps=1)
                self._due += self._should_train.count(self._steps) * config.train_steps
                self._learn()
                if self._should_log(self._steps):
                    self._log()
                if self._should_save(time.monotonic()):
                    self._save()
                progress.update(self._frames)
                left = config.steps - self._steps
                if text := note(self._updates - before, self._steps, left, config.action_repeat):
                    self._terminal.print(text)

    def _policy(self, batch: Batch, state: Any) -> tuple[np.ndarray, Any]:
        action, state = self._agent.policy(batch, state, mode="train")
        return action.numpy(), state

    def _learn(self) -> None:
        """Make the updates that are due."""
        while self._due > 0 and not self._stopping():
            _, metrics = self._agent.train(next(self._batches), self._steps)
            self._metrics.add(metrics)
            self._updates += 1
            self._due -= 1

    def _evaluate(self) -> None:
        """Play `eval_eps` episodes on fresh environments; log them and open-loop predictions."""
        config = self._config
        seed = derive_seed(config.seed, _EVAL, self._steps)
        try:
            with self._make_env("eval", seed) as env:
                episodes = evaluate(
                    self._agent,
                    env,
                    config.eval_eps,
                    seed,
                    keep=kept_keys(config),
                    video=video_keys(config),
                    stop=self._stopping,
                )
        except Stopped:
            return
        for episode in episodes:
            self._logger.add(episode_metrics(config, episode, "eval"))
        score = float(np.mean([episode["reward"].sum() for episode in episodes]))
        if score > self._best.get("return", -np.inf):
            self._best = {"return": score, "step": self._frames}
        self._logger.scalar("eval_best_return", self._best["return"])
        self._add_videos("eval", episodes[0])
        self._add_videos("train", self._train_videos)
        for key, videos in self._agent.report(self._replay.sample(6)).items():
            self._logger.video(f"openl_{key}", videos.numpy())
        self._logger.write()

    def _on_train_episode(self, episode: Episode, worker: int) -> None:
        self._logger.add(episode_metrics(self._config, episode, "train"))
        self._train_videos = episode

    def _add_videos(self, mode: str, episode: Episode) -> None:
        for key in self._config.log_keys_video:
            if key in episode and episode[key].ndim == 4:
                self._logger.video(f"{mode}_policy_{key}", episode[key])

    def _log(self) -> None:
        """Write the metrics of the updates since the last time.

        Raises:
            TrainingDiverged: Not one of them could be applied.
        """
        updates = len(self._metrics)
        metrics = self._metrics.result()
        stats = self._replay.stats
        self._logger.add(metrics)
        self._logger.scalar("updates", self._updates)
        for key in ("total_episodes", "loaded_steps", "loaded_episodes"):
            self._logger.scalar(f"replay_{key}", stats[key])
        self._logger.write(fps=True)
        bad = [key for key in ("model", "actor", "critic") if metrics.get(f"{key}_skipped") == 1]
        if bad and updates > 100:
            raise TrainingDiverged(
                f"none of the last {updates} updates up to frame {self._frames:,} could be "
                f"applied, because the gradients of {', '.join(bad)} are not finite; the last "
                "checkpoint is kept: lower the learning rate or raise the precision."
            )

    def _save(self) -> None:
        self._replay.flush()
        self._checkpoint.save()

    def _state(self) -> dict[str, Any]:
        """Return what a checkpoint holds besides weights, replay and prefetched batches."""
        return {
            "steps": self._steps,
            "updates": self._updates,
            "due": self._due,
            "best": self._best,
            "train": self._should_train.state(),
            "log": self._should_log.state(),
            "eval": self._should_eval.state(),
        }

    def _restore(self, state: dict[str, Any]) -> None:
        self._updates = state["updates"]
        self._due = state["due"]
        self._best = state["best"]
        self._should_train.restore(state["train"])
        self._should_log.restore(state["log"])
        self._should_eval.restore(state["eval"])

    def close(self) -> None:
        """Close environments, files and threads."""
        self._batches.close()
        self._env.close()
        self._logger.close()
        self._replay.close()
