"""Every named configuration builds, trains and resumes, at reduced size.

New sections of configs.yaml are covered by themselves. What needs an optional package that is not
installed is skipped.
"""

from __future__ import annotations

import importlib.util
import json
import math
import pathlib
from typing import Any

import pytest
from tiny import CONFIGS, SIZES

from dreamerv2 import loop, tasks
from dreamerv2.common import flags
from dreamerv2.common.config import Config
from dreamerv2.common.envs import rendering
from dreamerv2.common.errors import UserError

DOCUMENT = flags.Document.read(CONFIGS)
PACKAGES = {
    "atari": "ale_py",
    "crafter": "crafter",
    "dmc": "dm_control",
    "dummy": "numpy",
    "gym": "gymnasium",
    "minigrid": "minigrid",
}
REDUCED = {
    **{key: value for key, value in SIZES.items() if key != "rssm"},
    "rssm": {"hidden": 8, "deter": 6, "stoch": 3},
    "imag_horizon": 2,
    "dataset": {"batch": 2, "length": 3},
    "replay.capacity": 500,
    "prefill": 20,
    "pretrain": 2,
    "train_every": 1,
    "train_steps": 1,
    "eval_eps": 0,
    "disag_models": 2,
}


def reduced(name: str, logdir: pathlib.Path, **changes: Any) -> Config:
    """Return a configuration with networks and lengths for seconds; the rest is as it is."""
    config = flags.build(DOCUMENT, [name]).update(REDUCED).update(changes)
    if config.rssm.discrete:
        config = config.update({"rssm.discrete": 4})
    if config.encoder.cnn_keys == "$^" and "task" not in DOCUMENT.overlays[name]:
        config = config.update({"task": "gym_CartPole-v1"})
    suite = config.task.partition("_")[0]
    if not importlib.util.find_spec(PACKAGES[suite]):
        pytest.skip(f"{name} needs the package {PACKAGES[suite]}, which is not installed")
    if suite == "dmc" and config.dmc_image:
        try:
            rendering.switch_on(config.task)
        except UserError as error:
            pytest.skip(str(error))
    return config.update({"logdir": str(logdir)})


def run(config: Config) -> dict[str, float]:
    """Train and return the newest value of each metric."""
    loop.run(config, lambda mode, seed: tasks.make_env(config, mode, seed))
    rows = (pathlib.Path(config.logdir) / "metrics.jsonl").read_text().splitlines()
    return {key: value for row in rows for key, value in json.loads(row).items()}


@pytest.mark.parametrize("name", DOCUMENT.overlays)
def test_it_trains_two_updates_and_resumes(name: str, tmp_path: pathlib.Path) -> None:
    first = run(reduced(name, tmp_path, steps=20))
    assert first["updates"] == 2
    losses = [key for key in first if key.endswith("_loss")]
    assert {"model_loss", "kl_loss", "reward_loss", "actor_loss", "critic_loss"} <= set(losses)
    assert all(math.isfinite(first[key]) for key in losses)
    later = run(reduced(name, tmp_path, steps=21))
    # It goes on from there: without what was saved it would do the first two updates again.
    assert later["updates"] == 3
    assert all(math.isfinite(later[key]) for key in losses)
