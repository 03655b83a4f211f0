"""The training loop: collect, learn, evaluate, log, save."""

from __future__ import annotations

import contextlib
import pathlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from dreamerv2.agent import Agent
from dreamerv2.callbacks import Hooks, LogHook
from dreamerv2.common.checkpoint import Checkpoint, Saved
from dreamerv2.common.config import Config
from dreamerv2.common.driver import Driver, RandomPolicy
from dreamerv2.common.envs.vector import Batch, VecEnv
from dreamerv2.common.logger import Terminal
from dreamerv2.common.prefetch import Prefetcher
from dreamerv2.common.replay import Replay
from dreamerv2.common.signals import Interrupt
from dreamerv2.device import SpeedNote
from dreamerv2.evaluation import (
    VIDEO_LENGTH,
    Episode,
    Stopped,
    evaluate,
    evaluation_seed,
    kept_keys,
    video_keys,
)
from dreamerv2.health import Health
from dreamerv2.logdir import derive_seed
from dreamerv2.progress import Progress
from dreamerv2.reporting import Reporter
from dreamerv2.workers import Workers

MakeEnv = Callable[[str, int], VecEnv]

# Purposes of random numbers, for `derive_seed`.
ENV, REPLAY, RANDOM = range(3)


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
        workers: Workers,
    ) -> None:
        self.config, self.agent, self.logdir = config, agent, logdir
        self._make_env, self._shared_env = make_env, shared_env
        self._terminal, self._interrupt, self._hooks = terminal, interrupt, hooks
        self._workers, cluster = workers, workers.cluster
        self._replay = Replay(
            logdir / "replay",
            length=config.dataset.length,
            seed=derive_seed(config.seed, *cluster.seed(REPLAY)),
            **{**config.replay, "capacity": cluster.share(config.replay.capacity)},
        )
        self._batches = Prefetcher(self._replay, cluster.share(config.dataset.batch))
        self._progress = Progress(config, cluster)
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
        self._progress.recount(self._replay.stats["total_steps"])
        self._resumed = workers.share(agent.variables(), self._progress, self._resumed)
        self._env = make_env("train", derive_seed(config.seed, *cluster.seed(ENV, self.steps)))
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
        """Return whether the run was asked to stop, here or through another worker."""
        return self._asked() or self._workers.stopped

    def part(self) -> None:
        """Tell the other workers that this one cannot go on, so that they save as well."""
        self._workers.part(self._asked(), self.steps)

    def _asked(self) -> bool:
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
        while not self._workers.agreed.over:  # The others may not be that far.
            self._learn(ended=True)
        if self.config.eval_eps and self._workers.cluster.leads:
            self._progress.should_eval(self.steps)  # A longer run is not to repeat this evaluation.
            self._evaluate()
        self._reporter.write_updates(self._replay.stats)
        self._hooks("on_end", self)
        self.save()
        self._workers.check(self.frames)
        if self.stopping():
            self._terminal.print(
                f"Stopped at {self.frames:,} frames and saved; run the same command to continue."
            )

    def _prefill(self) -> None:
        """Act randomly until the replay holds `prefill` agent steps."""
        total = self.config.prefill
        at = self._progress
        if at.filled >= total:
            return
        random = RandomPolicy(
            self._env.act_space,
            self._env.num,
            derive_seed(self.config.seed, *self._workers.cluster.seed(RANDOM, at.filled)),
        )
        with self._terminal.progress("Prefill", total, start=at.filled) as progress:
            while at.filled < total and not self.stopping():
                at.fill(self._driver(random, steps=1))
                self._hooks.step(self)
                progress.update(at.filled)

    def _pretrain(self) -> None:
        """Make `pretrain` updates, once in the run and before the first action that is chosen."""
        if not self._progress.pretrained and self.steps >= self.config.prefill:
            self._progress.due += self.config.pretrain
            self._progress.pretrained = True
        self._learn()

    def _collect_and_learn(self) -> None:
        """Alternate between acting and updates until the end of the run."""
        config, at = self.config, self._progress
        steps, each, repeat = config.steps, config.train_steps, config.action_repeat
        before, note = at.updates, SpeedNote()
        at.should_save(time.monotonic())
        at.unsaved = not self._resumed  # After one step, for a killed run to know what it owes.
        save: Callable[[], Any] = self._checkpoint.start if self._resumed else self._checkpoint.save
        with self._terminal.progress("Train", steps * repeat, "frames", at.frames) as progress:
            while at.steps < steps and not (self.stopping() or self._workers.agreed.over):
                if at.should_eval(at.steps):
                    self._evaluate()
                at.take(self._driver(self._policy, steps=1))
                self._hooks.step(self)
                at.due += at.should_train.count(at.steps) * each
                self._learn()
                if at.should_log(at.steps):
                    self._reporter.write_updates(self._replay.stats)
                self._checkpoint.check()
                at.unsaved |= at.should_save(time.monotonic())
                if at.unsaved and self._workers.num == 1 and not self._health.trouble():
                    save()
                    save, at.unsaved = self._checkpoint.start, False
                progress.update(at.frames)
                if text := note(at.updates - before, at.steps, steps - at.steps, repeat):
                    self._terminal.print(text)

    def _policy(self, batch: Batch, state: Any) -> tuple[np.ndarray, Any]:
        mode = self.agent.training_mode(self.steps)
        action, state = self.agent.policy(batch, state, mode)
        return action.numpy(), state

    def _learn(self, ended: bool = False) -> None:
        """Make the updates that are due; once this worker has `ended`, those of the others."""
        while self._agree(ended):
            _, metrics = self.agent.train(next(self._batches), self._workers.agreed.steps)
            self._reporter.update(metrics)
            self._progress.updates += 1
            self._progress.due -= 1
            self._hooks("on_update", self)

    def _agree(self, ended: bool) -> bool:
        """Return whether all workers make an update now; they also agree on when to save."""
        at = self._progress
        if self._workers.agreed.over or not (at.due > 0 or ended):
            return False
        done = ended and at.steps >= self.config.steps
        save = self._workers.num > 1 and at.unsaved and not self._health.trouble()
        agreed = self._workers.exchange(self._asked(), False, done, save, at.steps)
        if agreed.save and not agreed.over:
            self._checkpoint.start()
            at.unsaved = False
        return not agreed.over

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
