"""The training loop: collect, learn, evaluate, log, save; the same for command line and API."""

from __future__ import annotations

import contextlib
import pathlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from dreamerv2.agent import Agent
from dreamerv2.callbacks import Callbacks, Hooks, LogHook
from dreamerv2.common.checkpoint import Checkpoint, Saved
from dreamerv2.common.config import Config
from dreamerv2.common.driver import Driver, RandomPolicy
from dreamerv2.common.envs.vector import Batch, VecEnv
from dreamerv2.common.logger import Terminal
from dreamerv2.common.prefetch import Prefetcher
from dreamerv2.common.replay import Replay
from dreamerv2.common.signals import Interrupt
from dreamerv2.device import SpeedNote, describe_device
from dreamerv2.evaluation import (
    VIDEO_LENGTH,
    Episode,
    Stopped,
    evaluate,
    evaluation_seed,
    kept_keys,
    video_keys,
)
from dreamerv2.health import Health, TrainingDiverged
from dreamerv2.logdir import Logdir, derive_seed
from dreamerv2.progress import Progress, check_prefill
from dreamerv2.reporting import Reporter
from dreamerv2.rescue import rescue
from dreamerv2.spaces_file import save_spaces

__all__ = ["MakeEnv", "Training", "TrainingDiverged", "run"]

MakeEnv = Callable[[str, int], VecEnv]

# Purposes of random numbers, for `derive_seed`.
_ENV, _REPLAY, _RANDOM = range(3)


def run(
    config: Config, make_env: MakeEnv, callbacks: Callbacks = (), shared_env: bool = False
) -> None:
    """Train until `config.steps` agent steps, or until a signal or a callback asks to stop.

    A folder that holds an earlier part of the run is continued.

    Args:
        config: All settings.
        make_env: Returns the environments for "train" or "eval", given a seed.
        callbacks: See `dreamerv2.callbacks`.
        shared_env: Both modes use the same environment, so that an evaluation cuts off the
            training episode.

    Raises:
        UserError: The settings or the folder cannot be used; nothing has been written then.
        TrainingDiverged: The gradients stay not finite; the last checkpoint is intact.
        EnvError: An environment failed; the run has been saved.
    """
    hooks = Hooks(callbacks)
    with contextlib.ExitStack() as stack:
        interrupt = stack.enter_context(Interrupt())
        terminal = stack.enter_context(Terminal())
        # Everything that can refuse the settings comes before the folder is touched.
        check_prefill(config)
        with make_env("train", derive_seed(config.seed, _ENV)) as env:
            agent = Agent(config, env.obs_space, env.act_space, config.seed)
        logdir = stack.enter_context(Logdir(config, (env.obs_space, env.act_space)))
        terminal.print(describe_device(config.precision, agent.jit))
        if logdir.notice:
            terminal.print(logdir.notice)
        training = Training(
            config, agent, make_env, shared_env, logdir.path, terminal, interrupt, hooks
        )
        with contextlib.closing(training):
            # Not earlier: what is in the folder may not fit this configuration.
            config.save(logdir.path / "config.yaml")
            save_spaces(logdir.path, env.obs_space, env.act_space, env.env_space)
            try:
                training.run()
            except Exception as error:
                rescue(error, training, hooks.failed, terminal.print)


class Training:
    """One run: its parts, what is saved of them, and the order in which they act."""

    def __init__(
        self,
        config: Config,
        agent: Agent,
        make_env: MakeEnv,
        shared_env: bool,
        logdir: pathlib.Path,
        terminal: Terminal,
        interrupt: Interrupt,
        hooks: Hooks,
    ) -> None:
        self.config, self.agent, self.logdir = config, agent, logdir
        self._make_env, self._shared_env = make_env, shared_env
        self._terminal, self._interrupt, self._hooks = terminal, interrupt, hooks
        self._replay = Replay(
            logdir / "replay",
            length=config.dataset.length,
            seed=derive_seed(config.seed, _REPLAY),
            **config.replay,
        )
        self._batches = Prefetcher(self._replay, config.dataset.batch)
        self._progress = Progress(config)
        self._checkpoint = Checkpoint(
            logdir / "checkpoint",
            agent.variables(),
            {
                "progress": Saved(self._progress.state, self._progress.restore),
                "replay": Saved(self._replay.state, self._replay.restore),
                "batches": Saved(self._batches.state, self._batches.restore),
            },
            keep=config.save_keep,
            before=self._replay.flush,
        )
        self._resumed = self._checkpoint.restore()
        # The replay outlives a kill, the checkpoint is older: what was collected since counts,
        # and the updates that belong to it are made up for.
        self._progress.steps = self._replay.stats["total_steps"]
        self._env = make_env("train", derive_seed(config.seed, _ENV, self.steps))
        self._driver = Driver(
            self._env,
            on_transition=self._replay.add,
            on_episode=self._on_episode,
            keep=kept_keys(config),
            video=video_keys(config),
            video_length=VIDEO_LENGTH,
        )
        outputs = [LogHook(hooks, self)] if "on_log" in hooks else []
        self._health = Health(agent.variables(), scaling=config.precision == 16)
        self._reporter = Reporter(config, logdir, terminal, self._progress, self._health, outputs)
        for notice in self._replay.notices:
            terminal.print(notice)

    @property
    def steps(self) -> int:
        """Agent steps so far."""
        return self._progress.steps

    @property
    def frames(self) -> int:
        """Environment frames so far."""
        return self._progress.frames

    @property
    def updates(self) -> int:
        """Updates so far."""
        return self._progress.updates

    def log(self, name: str, value: float) -> None:
        """Add a number to the next line of metrics."""
        self._reporter.logger.scalar(name, value)

    def save(self) -> None:
        """Write a checkpoint and wait until it is complete, unless the state is spoiled."""
        if trouble := self._health.trouble():
            self._terminal.print(f"Kept the last checkpoint: at {self.frames:,} frames {trouble}.")
        else:
            self._checkpoint.save()

    def stopping(self) -> bool:
        """Return whether the run was asked to stop."""
        return self._interrupt.requested is not None or self._hooks.stopped

    def run(self) -> None:
        """Do everything that is left of the run, then save."""
        if self._resumed and self.steps >= self.config.steps:
            self._terminal.print(f"The run is complete at {self.frames:,} frames.")
            return
        if self.steps:
            self._terminal.print(
                f"Resuming at {self.frames:,} frames after {self.updates:,} updates."
            )
        self._hooks("on_start", self)
        self._prefill()
        self._pretrain()
        self._collect_and_learn()
        if self.config.eval_eps:
            self._progress.should_eval(self.steps)  # A longer run is not to repeat this evaluation.
            self._evaluate()
        self._reporter.write_updates(self._replay.stats)
        self._hooks("on_end", self)
        self.save()
        if self.stopping():
            self._terminal.print(
                f"Stopped at {self.frames:,} frames and saved; run the same command to continue."
            )

    def _prefill(self) -> None:
        """Act randomly until the replay holds `prefill` agent steps."""
        total = self.config.prefill
        if self.steps >= total:
            return
        random = RandomPolicy(
            self._env.act_space,
            self._env.num,
            derive_seed(self.config.seed, _RANDOM, self.steps),
        )
        with self._terminal.progress("Prefill", total, start=self.steps) as progress:
            while self.steps < total and not self.stopping():
                self._progress.steps += self._driver(random, steps=1)
                self._hooks.step(self)
                progress.update(self.steps)

    def _pretrain(self) -> None:
        """Make `pretrain` updates, once in the run and before the first action that is chosen."""
        if not self._progress.pretrained and self.steps >= self.config.prefill:
            self._progress.due += self.config.pretrain
            self._progress.pretrained = True
        self._learn()

    def _collect_and_learn(self) -> None:
        """Alternate between acting and updates until the end of the run."""
        config, at = self.config, self._progress
        total = config.steps * config.action_repeat
        before, note = at.updates, SpeedNote()
        at.should_save(time.monotonic())
        at.unsaved = not self._resumed  # After one step, for a killed run to know what it owes.
        save: Callable[[], Any] = self._checkpoint.start if self._resumed else self._checkpoint.save
        with self._terminal.progress("Train", total, "frames", at.frames) as progress:
            while at.steps < config.steps and not self.stopping():
                if at.should_eval(at.steps):
                    self._evaluate()
                at.steps += self._driver(self._policy, steps=1)
                self._hooks.step(self)
                at.due += at.should_train.count(at.steps) * config.train_steps
                self._learn()
                if at.should_log(at.steps):
                    self._reporter.write_updates(self._replay.stats)
                self._checkpoint.check()
                at.unsaved |= at.should_save(time.monotonic())
                if at.unsaved and not self._health.trouble():
                    save()
                    save, at.unsaved = self._checkpoint.start, False
                progress.update(at.frames)
                left = config.steps - at.steps
                if text := note(at.updates - before, at.steps, left, config.action_repeat):
                    self._terminal.print(text)

    def _policy(self, batch: Batch, state: Any) -> tuple[np.ndarray, Any]:
        mode = self.agent.training_mode(self.steps)
        action, state = self.agent.policy(batch, state, mode)
        return action.numpy(), state

    def _learn(self) -> None:
        """Make the updates that are due."""
        while self._progress.due > 0 and not self.stopping():
            _, metrics = self.agent.train(next(self._batches), self.steps)
            self._reporter.update(metrics)
            self._progress.updates += 1
            self._progress.due -= 1
            self._hooks("on_update", self)

    def _evaluate(self) -> None:
        """Play `eval_eps` episodes on fresh environments; log them and open-loop predictions."""
        config = self.config
        seed = evaluation_seed(config, self.steps)
        try:
            with self._make_env("eval", seed) as env:
                episodes = evaluate(
                    self.agent,
                    env,
                    config.eval_eps,
                    seed,
                    keep=kept_keys(config),
                    video=video_keys(config),
                    stop=self.stopping,
                )
        except Stopped:
            return
        finally:
            if self._shared_env:
                self._driver.reset()
        self._reporter.evaluation(episodes, self.agent.report(self._replay.sample(6)))
        self._hooks("on_evaluation", self, episodes)
        self._reporter.logger.write()

    def _on_episode(self, episode: Episode, worker: int) -> None:
        self._reporter.episode(episode)
        self._hooks.keep(episode)

    def close(self) -> None:
        """Close environments, files and threads; finish the checkpoint that is being written."""
        with contextlib.ExitStack() as stack:
            for part in (self._replay, self._reporter.logger, self._env, self._batches):
                stack.callback(part.close)
            self._checkpoint.wait()
