"""Refuses settings whose networks or batches cannot fit into the memory of this machine.

The numbers are estimates, right to about a quarter. They are for settings that are wrong by orders
of magnitude, such as a zero too many or the configuration of somebody else's run; the system would
end the process without a word, after it has slowed down everything else.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Mapping, Sequence

from dreamerv2.common.config import Config
from dreamerv2.common.envs.spaces import ActSpec, ObsSpec
from dreamerv2.common.errors import UserError

# Bytes of a weight: itself, its gradient, and two moments of the optimizer.
_WEIGHT = 16


def check_memory(config: Config, obs_space: Mapping[str, ObsSpec], act_space: ActSpec) -> None:
    """Estimate what an agent and its updates need.

    Args:
        config: Of the run.
        obs_space: Observations.
        act_space: Actions.

    Raises:
        UserError: It is more than the memory of this machine.
    """
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    counts = weights(config, obs_space, act_space)
    needs = {f"networks of {key}": _WEIGHT * count for key, count in counts.items()}
    needs["batches of dataset.batch times dataset.length steps"] = 4 * _batch(config, obs_space)
    imagined = "imagined sequences of imag_horizon steps from each of dataset.batch times length"
    needs[imagined] = 4 * _imagined(config, act_space)
    total = sum(needs.values())
    if total > memory:
        largest = max(needs, key=lambda key: needs[key])
        raise UserError(
            f"these settings need about {total / 1e9:,.0f} GB of memory, but this machine has "
            f"{memory / 1e9:,.0f}; most of it ({needs[largest] / 1e9:,.0f} GB) is for the "
            f"{largest}: make them smaller."
        )


def weights(config: Config, obs_space: Mapping[str, ObsSpec], act_space: ActSpec) -> dict[str, int]:
    """Estimate the number of weights of each part, by the section of the configuration."""
    rssm = config.rssm
    stoch = rssm.stoch * (rssm.discrete or 1)
    stats = stoch if rssm.discrete else 2 * stoch
    feat = rssm.deter + stoch
    images = [spec.shape for spec in obs_space.values() if spec.is_image]
    vectors = sum(math.prod(s.shape) for s in obs_space.values() if not s.is_image)
    encoder, decoder = config.encoder, config.decoder
    embed, encoded, decoded = 0, 0, 0
    for height, width, channels in images:
        depths = [encoder.cnn_depth * 2**i for i in range(len(encoder.cnn_kernels))]
        pairs = zip(encoder.cnn_kernels, itertools.pairwise([channels, *depths]), strict=True)
        encoded += sum(kernel**2 * a * b for kernel, (a, b) in pairs)
        embed += depths[-1] * math.prod(max(1, n >> len(depths)) for n in (height, width))
        kernels = decoder.cnn_kernels
        depths = [decoder.cnn_depth * 2**i for i in reversed(range(len(kernels) - 1))]
        wide = 32 * decoder.cnn_depth
        pairs = zip(kernels, itertools.pairwise([wide, *depths, channels]), strict=True)
        decoded += feat * wide + sum(kernel**2 * a * b for kernel, (a, b) in pairs)
    if vectors:
        encoded += _dense([vectors, *encoder.mlp_layers])
        embed += encoder.mlp_layers[-1] if encoder.mlp_layers else vectors
        decoded += _dense([feat, *decoder.mlp_layers, vectors])
    prior = _dense([rssm.deter, rssm.hidden, stats])
    result = {
        "rssm": _dense([stoch + act_space.dim, rssm.hidden])
        + 3 * rssm.deter * (rssm.hidden + rssm.deter)
        + rssm.ensemble * prior
        + _dense([rssm.deter + embed, rssm.hidden, stats]),
        "encoder": encoded,
        "decoder": decoded,
    }
    heads = {"reward_head": 1, "discount_head": 1, "actor": 1, "critic": 2}
    if config.expl_behavior in ("Plan2Explore", "ModelLoss"):
        heads["expl_head"] = config.disag_models
    for key, copies in heads.items():
        out = act_space.dim if key == "actor" else 1
        result[key] = copies * _dense([feat, *[config[key].units] * config[key].layers, out])
    return result


def _dense(sizes: Sequence[int]) -> int:
    return sum((a + 1) * b for a, b in itertools.pairwise(sizes))


def _batch(config: Config, obs_space: Mapping[str, ObsSpec]) -> int:
    """Numbers of a batch, of its predictions, and of the first convolution."""
    step = sum(3 * math.prod(spec.shape) for spec in obs_space.values())
    for spec in obs_space.values():
        if spec.is_image:
            step += spec.shape[0] * spec.shape[1] // 4 * config.encoder.cnn_depth
    return config.dataset.batch * config.dataset.length * step


def _imagined(config: Config, act_space: ActSpec) -> int:
    rssm = config.rssm
    step = 2 * (rssm.deter + rssm.stoch * (rssm.discrete or 1)) + rssm.hidden + act_space.dim
    for key in ("actor", "critic", "reward_head", "discount_head"):
        step += config[key].layers * config[key].units
    return config.dataset.batch * config.dataset.length * config.imag_horizon * step
