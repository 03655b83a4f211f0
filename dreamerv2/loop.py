"""Starts a run, or goes on with one; the same for command line and API."""

from __future__ import annotations

import contextlib

from dreamerv2.agent import Agent
from dreamerv2.callbacks import Callbacks, Hooks
from dreamerv2.cluster import ALONE, Cluster
from dreamerv2.common.config import Config
from dreamerv2.common.logger import Terminal
from dreamerv2.common.signals import Interrupt
from dreamerv2.device import describe_device
from dreamerv2.health import TrainingDiverged
from dreamerv2.logdir import Logdir, derive_seed
from dreamerv2.progress import check_prefill
from dreamerv2.rescue import rescue
from dreamerv2.spaces_file import save_spaces
from dreamerv2.training import ENV, MakeEnv, Training
from dreamerv2.workers import WorkerFailed, WorkerLost, Workers, join

__all__ = ["MakeEnv", "Training", "TrainingDiverged", "WorkerFailed", "WorkerLost", "run"]


def run(
    config: Config,
    make_env: MakeEnv,
    callbacks: Callbacks = (),
    shared_env: bool = False,
    cluster: Cluster = ALONE,
) -> None:
    """Train until `config.steps` agent steps, or until a signal or a callback asks to stop.

    A folder that holds an earlier part of the run is continued.

    Args:
        config: All settings.
        make_env: Returns the environments for "train" or "eval", given a seed.
        callbacks: See `dreamerv2.callbacks`.
        shared_env: Both modes use the same environment, so that an evaluation cuts off the
            training episode.
        cluster: The workers of the run; `config` has the folder of this one.

    Raises:
        UserError: The settings or the folder cannot be used; nothing has been written then.
        TrainingDiverged: The gradients stay not finite; the last checkpoint is intact.
        EnvError: An environment failed; the run has been saved.
        WorkerLost: Another worker ended without a word; the last checkpoint is intact.
        WorkerFailed: Another worker failed; the run has been saved.
    """
    hooks = Hooks(callbacks)
    with contextlib.ExitStack() as stack:
        terminal = stack.enter_context(Terminal())
        # Everything that can refuse the settings comes before the folder is touched.
        check_prefill(config, cluster.num)
        # TensorFlow takes SIGTERM for itself when it connects workers: not after `Interrupt`.
        replicas = join(cluster, config, terminal.print)
        interrupt = stack.enter_context(Interrupt())
        with make_env("train", derive_seed(config.seed, ENV)) as env:
            agent = Agent(config, env.obs_space, env.act_space, config.seed, replicas)
        workers = stack.enter_context(contextlib.closing(Workers(cluster, agent.replicas)))
        logdir = stack.enter_context(Logdir(config, (env.obs_space, env.act_space)))
        terminal.print(describe_device(config.precision, agent.jit))
        if logdir.notice:
            terminal.print(logdir.notice)
        training = Training(
            config, agent, make_env, shared_env, logdir.path, terminal, interrupt, hooks, workers
        )
        with contextlib.closing(training):
            # Not earlier: what is in the folder may not fit this configuration.
            config.save(logdir.path / "config.yaml")
            save_spaces(logdir.path, env.obs_space, env.act_space, env.env_space)
            try:
                training.run()
            except Exception as error:
                error = workers.lost(error) or error
                rescue(error, training, hooks.failed, terminal.print)
