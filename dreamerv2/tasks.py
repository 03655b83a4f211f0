"""Makes the environments that a configuration asks for."""

from __future__ import annotations

from dreamerv2.common import envs
from dreamerv2.common.config import Config
from dreamerv2.common.envs.vector import VecEnv
from dreamerv2.common.errors import UserError

# Begins the tasks of runs on environments that were handed over by a program.
CUSTOM = "custom_"


def make_env(config: Config, mode: str, seed: int, num: int | None = None) -> VecEnv:
    """Make the environments of a configuration.

    Args:
        config: Of the run.
        mode: "train" for `envs` environments, "eval" for at most one an episode of `eval_eps`.
        seed: Every environment gets its own stream of random numbers derived from it.
        num: Number of environments, instead of what the mode says.

    Raises:
        UserError: The task or an option of it is not valid.
        EnvError: Worker processes do not start.
    """
    if config.task.startswith(CUSTOM):
        raise UserError(
            f"the task {config.task!r} is an environment of your own, which only your code can "
            "make: hand it over in Python, where dreamerv2.api trains on it or loads the agent"
        )
    if num is None:
        num = config.envs if mode == "train" else max(1, min(config.envs, config.eval_eps))
    return envs.make(
        config.task,
        num=num,
        parallel=config.envs_parallel,
        seed=seed,
        action_repeat=config.action_repeat,
        time_limit=config.time_limit,
        timeout=config.envs_timeout,
        size=config.render_size,
        atari_grayscale=config.atari_grayscale,
        atari_sticky=config.atari_sticky,
        atari_noops=config.atari_noops,
        atari_full_actions=config.atari_full_actions,
        dmc_camera=config.dmc_camera,
        dmc_image=config.dmc_image,
    )
