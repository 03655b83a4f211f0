"""What a run takes: arithmetic, disk and GPU days, from measurements of each configuration.

The arithmetic of an update was counted by `benchmarks/cost.py`, which says how. What a replay step
and a checkpoint take was measured on runs of the small agent and follows from shapes for the
others.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dreamerv2.common import flags
from dreamerv2.common.config import Config
from dreamerv2.logdir import CONFIGS

DAY = 86400.0

# Overlays -> 1e12 floating point operations of an update, and 1e6 parameters.
MEASURED: Mapping[tuple[str, ...], tuple[float, float]] = {
    ("atari",): (0.791, 22.2),
    ("montezuma",): (0.791, 22.2),
    ("atari_paper",): (2.473, 22.2),
    ("atari_schedules",): (1.200, 22.2),
    ("atari", "no_policy_reinforce"): (1.200, 22.2),
    ("atari", "no_discrete_latents"): (0.648, 17.4),
    ("atari", "small"): (0.046, 2.2),
    ("dmc_vision",): (0.825, 15.6),
    ("dmc_proprio",): (0.421, 5.4),
    ("humanoid",): (1.131, 21.1),
    ("crafter",): (1.031, 31.1),
    ("minigrid",): (1.031, 31.0),
}

# What the arithmetic of an update depends on besides the size of the batch, which is proportional.
_SHAPES = (
    r"(rssm|encoder|decoder|reward_head|discount_head|actor|critic)\."
    r"(ensemble|hidden|deter|stoch|discrete|.*_keys|cnn_.*|mlp_layers|layers|units)"
    r"|render_size|imag_horizon|pred_discount|actor_grad|atari_grayscale|expl_behavior|dmc_image"
)

# Bytes of a replay step besides images: the action, flags, small vectors.
_STEP_BYTES = 110
# Adam keeps two more numbers for each parameter, of 4 bytes each.
_PARAMETER_BYTES = 12
# Metrics, videos and output, by a run of 676,000 frames.
_LOG_BYTES_PER_FRAME = 13


@dataclasses.dataclass(frozen=True)
class Cost:
    """What one complete run takes.

    Attributes:
        flop: Floating point operations of all updates; None where none like it was measured.
        disk: Bytes of the folder at its largest; without checkpoints where their size is unknown.
    """

    flop: float | None
    disk: float

    def gpu_days(self, tflops: float) -> float | None:
        """Return the days of a GPU that sustains so many 1e12 operations a second."""
        return None if self.flop is None else self.flop / (tflops * 1e12) / DAY


def estimate(overlays: Sequence[str], config: Config) -> Cost:
    """Return what a run takes.

    Args:
        overlays: Named configurations that were applied.
        config: Of the run, with all changes.
    """
    measured = _measured(tuple(overlays), config)
    updates = max(config.steps - config.prefill, 0) / max(config.train_every, 1)
    updates = updates * config.train_steps + config.pretrain
    pixels = config.render_size[0] * config.render_size[1]
    if config.task.startswith("dmc_") and not config.dmc_image:
        pixels = 0
    channels = 1 if config.task.startswith("atari_") and config.atari_grayscale else 3
    steps = min(config.steps, config.replay.capacity)
    disk = steps * (pixels * channels + _STEP_BYTES)
    disk += config.steps * config.action_repeat * _LOG_BYTES_PER_FRAME
    if measured is None:
        return Cost(None, disk)
    flop, parameters = measured
    # One more than are kept, while it is being written.
    disk += parameters * _PARAMETER_BYTES * (config.save_keep + 1)
    return Cost(flop * updates, disk)


def total(costs: Iterable[Cost], tflops: float) -> tuple[float, float, int]:
    """Return GPU days, bytes of disk, and the number of runs whose arithmetic is not known."""
    costs = list(costs)
    days = [cost.gpu_days(tflops) for cost in costs]
    known = [day for day in days if day is not None]
    return sum(known), sum(cost.disk for cost in costs), len(days) - len(known)


def _measured(overlays: tuple[str, ...], config: Config) -> tuple[float, float] | None:
    """Operations of an update and parameters, of a measured configuration of the same shapes."""
    for names, (tflop, parameters) in MEASURED.items():
        if names[0] not in overlays:
            continue
        shapes, states = _shapes(names)
        if shapes == {key: value for key, value in config.flat.items() if key in shapes}:
            scale = config.dataset.batch * config.dataset.length / states
            return tflop * 1e12 * scale, parameters * 1e6
    return None


@functools.cache
def _shapes(names: tuple[str, ...]) -> tuple[dict[str, Any], int]:
    """What the arithmetic of a measured configuration depends on, and its states in a batch."""
    config = flags.build(CONFIGS, names)
    shapes = {key: value for key, value in config.flat.items() if re.fullmatch(_SHAPES, key)}
    return shapes, config.dataset.batch * config.dataset.length
