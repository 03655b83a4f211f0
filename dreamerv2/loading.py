"""Brings a trained agent back from the folder of its run, and from nothing else."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from dreamerv2 import spaces_file, tasks
from dreamerv2.agent import Agent
from dreamerv2.common import checkpoint
from dreamerv2.common.config import Config
from dreamerv2.common.envs.spaces import ActSpec, ObsSpec
from dreamerv2.common.errors import UserError
from dreamerv2.logdir import default_config, load_config

__all__ = ["Run", "export_run", "load_config", "load_run"]


@dataclasses.dataclass(frozen=True)
class Run:
    """A trained agent and what it came from.

    Attributes:
        path: Folder of the run.
        config: As the run was started, with this version's defaults for keys it did not know.
        obs_space: What the agent observes.
        act_space: How it acts.
        agent: With the weights of the checkpoint; no optimizer state.
        checkpoint: Name of the checkpoint, such as `ckpt-12`.
        steps: Agent steps at the checkpoint.
        updates: Updates at the checkpoint.
    """

    path: pathlib.Path
    config: Config
    obs_space: Mapping[str, ObsSpec]
    act_space: ActSpec
    agent: Agent
    checkpoint: str
    steps: int
    updates: int

    @property
    def frames(self) -> int:
        """Environment frames at the checkpoint."""
        return self.steps * self.config.action_repeat


def load_run(
    logdir: str | os.PathLike[str],
    checkpoint_name: str | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Run:
    """Build the agent of a run and load its weights; nothing in the folder changes.

    Args:
        logdir: Folder of a run; it may be in use by a training process.
        checkpoint_name: A checkpoint in the folder, such as `ckpt-12` or `12`; by default the
            newest that is whole.
        changes: Settings that differ from those of the run, such as `eval_noise`.

    Raises:
        UserError: The folder holds no run, or no checkpoint that can be read.
    """
    path = pathlib.Path(logdir).expanduser()
    # A machine that looks at a run may have fewer devices than the one that trains it.
    config = load_config(path).update({"devices": 1, **(changes or {})})
    folder = path / "checkpoint"
    names = checkpoint.names(folder)
    if not names:
        raise UserError(
            f"logdir {str(path)!r} holds a run without a checkpoint so far; let it train until "
            "its first save (save_every seconds), or stop it with Ctrl-C, which saves."
        )
    if checkpoint_name is not None:
        names = [_choose(checkpoint_name, names, folder)]
    spaces = spaces_file.load_spaces(path) or _ask_env(config)
    agent = Agent(config, *spaces, config.seed)
    weights = {key: v for key, v in agent.variables().items() if key.startswith("weights/")}
    name, states = checkpoint.read(folder, weights, names)
    progress = states.get("progress", {})
    return Run(
        path=path,
        config=config,
        obs_space=spaces[0],
        act_space=spaces[1],
        agent=agent,
        checkpoint=name,
        steps=_steps(states),
        updates=int(progress.get("updates", 0)),
    )


def export_run(run: Run, folder: str | os.PathLike[str]) -> None:
    """Write a run that can be loaded but not continued: settings, spaces and weights alone.

    Args:
        run: What to write.
        folder: Created; must not hold a run yet.

    Raises:
        UserError: The folder holds something already.
    """
    path = pathlib.Path(folder).expanduser()
    if path.exists() and any(path.iterdir()):
        raise UserError(f"the folder {str(path)!r} is not empty; name a new one.")
    path.mkdir(parents=True, exist_ok=True)
    # Where the run stood is nobody's business; a copy may be given away.
    default = default_config().logdir
    run.config.update({"logdir": default}).save(path / "config.yaml")
    env_space = spaces_file.load_env_space(run.path)
    spaces_file.save_spaces(path, run.obs_space, run.act_space, env_space)
    weights = {key: v for key, v in run.agent.variables().items() if key.startswith("weights/")}
    progress = checkpoint.Saved(
        lambda: {"steps": run.steps, "updates": run.updates}, lambda state: None
    )
    checkpoint.Checkpoint(path / "checkpoint", weights, {"progress": progress}).save()


def _choose(name: str, names: list[str], folder: pathlib.Path) -> str:
    wanted = pathlib.PurePath(name).name
    for candidate in (wanted, f"ckpt-{wanted}"):
        if candidate in names:
            return candidate
    raise UserError(
        f"there is no checkpoint {name!r} in {str(folder)!r}; choose from {', '.join(names)}."
    )


def _steps(states: Mapping[str, Any]) -> int:
    """Agent steps at a checkpoint; earlier versions left it to the replay to count them."""
    if "steps" in states.get("progress", {}):
        return int(states["progress"]["steps"])
    streams = states.get("replay", {}).get("streams", {})
    return sum(int(steps) for _, steps, *_ in streams.values())


def _ask_env(config: Config) -> tuple[dict[str, ObsSpec], ActSpec]:
    """Make an environment to see its spaces, for runs that did not write them down."""
    with tasks.make_env(config, "eval", 0, num=1) as env:
        return dict(env.obs_space), env.act_space
