"""Trains an agent: flags to configuration, configuration to the training loop.

    python dreamerv2/train.py --logdir ~/logdir/atari_pong/dreamerv2/1 --configs atari

Running the same command again continues the run.
"""

from __future__ import annotations

import os
import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if not __package__:  # Started as a script: import this checkout, not files beside the script.
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from dreamerv2.cluster import read_cluster
from dreamerv2.common import flags
from dreamerv2.common.driver import PolicyError
from dreamerv2.common.envs.spaces import EnvError
from dreamerv2.common.errors import UserError, no_space
from dreamerv2.common.quiet import quiet_start

if TYPE_CHECKING:
    from dreamerv2.common.config import Config
    from dreamerv2.common.envs.vector import VecEnv

CONFIGS = pathlib.Path(__file__).resolve().parent / "configs.yaml"


def main(argv: Sequence[str] | None = None, program: str = "python dreamerv2/train.py") -> int:
    """Run the command line and return its exit status: 2 for bad input, 1 for a failed run."""
    try:
        config = flags.parse(
            CONFIGS,
            argv,
            program=program,
            about="Trains DreamerV2; running the same command again continues the run.",
            example="--logdir ~/logdir/atari_pong/dreamerv2/1 --configs atari small",
        )
        return train(config)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (EnvError, PolicyError) as error:  # The first line; the rest is a traceback.
        print(f"error: {str(error).splitlines()[0]}", file=sys.stderr)
        return 1
    except OSError as error:
        if not no_space(error):
            raise
        print(
            f"error: {error.filename or config.logdir} cannot be written ({error.strerror}); free "
            "disk space, then run the same command again.",
            file=sys.stderr,
        )
        return 1


def train(config: Config) -> int:
    """Train as the configuration says and return the exit status."""

    from dreamerv2 import logdir, tasks

    def make(mode: str, seed: int) -> VecEnv:
        return tasks.make_env(config, mode, seed)

    cluster = read_cluster(os.environ)
    config = cluster.own(config)
    # Importing TensorFlow takes seconds: not before flags and task are known to be right.
    with make("train", 0) as env:
        logdir.check_logdir(config, (env.obs_space, env.act_space))
    with quiet_start():
        from dreamerv2 import device, loop

        device.prepare_devices(cluster.num == 1)
    try:
        loop.run(config, make, cluster=cluster)
    except (loop.TrainingDiverged, loop.WorkerLost, loop.WorkerFailed) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
