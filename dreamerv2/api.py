"""DreamerV2 from your own code: train on a Gymnasium environment, load what was trained.

    import dreamerv2.api as dv2

    config = dv2.configs("vector").update({"logdir": "~/logdir/mine/1", "steps": 2e4})
    policy = dv2.train(MyEnv, config)
    policy = dv2.load("~/logdir/mine/1")

Importing this is quick; TensorFlow is imported when a network is needed.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from dreamerv2.callbacks import Callback, Callbacks, Episode, RunView
from dreamerv2.checking import Finding, check_env, check_first
from dreamerv2.cluster import read_cluster
from dreamerv2.common import flags
from dreamerv2.common.config import Config
from dreamerv2.common.errors import UserError
from dreamerv2.common.quiet import quiet_start

if TYPE_CHECKING:
    from dreamerv2.policy import Policy

__all__ = [
    "Callback",
    "Config",
    "Episode",
    "Finding",
    "RunView",
    "UserError",
    "check_env",
    "configs",
    "defaults",
    "load",
    "train",
]

CONFIGS = pathlib.Path(__file__).resolve().parent / "configs.yaml"

defaults: Config  # Read when it is first asked for, see `__getattr__`.


def __getattr__(name: str) -> Any:
    if name == "defaults":
        globals()["defaults"] = configs()
        return globals()["defaults"]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def configs(*names: str) -> Config:
    """Return the defaults changed by named configurations, in their order.

    Args:
        *names: Such as "atari", "small", "vector"; all of them are in `configs.yaml`.

    Raises:
        UserError: There is no configuration of that name; says which there are.
    """
    return flags.build(CONFIGS, names)


def train(
    env: Any,
    config: Config | None = None,
    callbacks: Callbacks = (),
    *,
    eval_env: Any = None,
) -> Policy:
    """Train on an environment, or go on with the run in `config.logdir`.

    Does all that the command line does: resuming, evaluations, checkpoints, logs, videos, several
    environments at once, several machines by TF_CONFIG. Ctrl-C ends the run after saving it.

    Args:
        env: A class or function that makes a new environment at each call, or an environment,
            or the name of a task such as "gym_CartPole-v1". An environment that is handed over
            stays open; it also plays the evaluations, which cut off the training episode.
        config: All settings; `defaults` without it. `task` becomes `custom_<name>`, unless it
            is a name of that form already.
        callbacks: See `Callback`.
        eval_env: Plays the evaluations instead of `env`; of the same forms but for task names.

    Returns:
        The policy with the last weights, as `load` gives it.

    Raises:
        UserError: The environment, a setting or the folder cannot be used. Nothing is written
            then.
        TrainingDiverged: From `dreamerv2.loop`: gradients stay not finite.
        WorkerLost, WorkerFailed: From `dreamerv2.loop`, with several machines: another one's
            process ended.
        EnvError: From `dreamerv2.common.envs`: the environment failed. The run has been saved.
        Exception: What a callback raised. The run has been saved.
    """
    config = configs() if config is None else config
    from dreamerv2 import custom, tasks

    make: Any
    if isinstance(env, str):
        if eval_env is not None:
            raise UserError("eval_env is given, but env is the name of a task; leave it out.")
        named = config.update({"task": env})

        def make(mode: str, seed: int) -> Any:
            return tasks.make_env(named, mode, seed)

        config, shared = named, False
        make("train", 0).close()
    else:
        config = _check(env, config)
        make = custom.CustomEnvs(env, eval_env, config)
        shared = make.shared
    cluster = read_cluster(os.environ)
    config = cluster.own(config)
    with _tensorflow(cluster.num == 1):
        from dreamerv2 import loop
    loop.run(config, make, callbacks, shared, cluster)
    return load(config.logdir)


def load(
    logdir: str | os.PathLike[str],
    checkpoint: str | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Policy:
    """Load a trained agent from the folder of its run; nothing in the folder changes.

    Args:
        logdir: Folder of a run, which may still be going on.
        checkpoint: Such as "ckpt-12"; by default the newest.
        changes: Settings that differ from those of the run, such as `{"eval_noise": 0.1}`.

    Raises:
        UserError: The folder holds no run, or no checkpoint that can be read.
    """
    with _tensorflow():
        from dreamerv2 import loading, policy
    return policy.Policy(loading.load_run(logdir, checkpoint, changes))


def _check(env: Any, config: Config) -> Config:
    """Refuse an environment that cannot be trained on; return the config with its task name."""
    from dreamerv2 import tasks

    name, findings = check_first(env, config)
    for finding in findings:
        if finding.severity == "error":
            raise UserError(f"{finding.problem}: {finding.mend}.")
        if finding.severity == "warning":
            print(finding)
    named = config.task.startswith(tasks.CUSTOM)
    return config if named else config.update({"task": name})


@contextlib.contextmanager
def _tensorflow(alone: bool = True) -> Iterator[None]:
    """Import TensorFlow without its start-up notes, and prepare its devices."""
    with quiet_start():
        from dreamerv2 import device

        # A program that used TensorFlow before has chosen how its devices are used.
        with contextlib.suppress(RuntimeError):
            device.prepare_devices(alone)
        yield
