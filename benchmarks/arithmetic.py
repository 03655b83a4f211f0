"""The arithmetic of an update, and what the benchmarks measure it on.

An update has two FLOP for each multiplication of a matrix product or convolution, once forward and
twice backward. With B sequences of length T it learns from N = B * T states and imagines H steps
from each:

    world model  3 N (encoder + recurrent step + posterior + prior + decoder + heads)
    imagination    N (H (recurrent step + prior + actor) + (H + 1) (heads + critic))
    behaviour    3 N ((H - 1) actor + H critic)

and, where the actor's gradient passes through the model, twice the imagination again.
"""

from __future__ import annotations

import math
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

CONFIGS = pathlib.Path(__file__).resolve().parents[1] / "dreamerv2" / "configs.yaml"
SIDE = 3000


def configuration(words: Sequence[str]) -> Any:
    """Return the settings that names of configurations, and key=value, stand for.

    Atari has all 18 actions, so that all its games cost the same.
    """
    from dreamerv2.common import flags

    names = [word for word in words if "=" not in word]
    pairs = [tuple(word.split("=", 1)) for word in words if "=" in word]
    return flags.build(CONFIGS, names, [("atari_full_actions", "True"), *pairs])


def products(agent: Any, image: Sequence[int]) -> dict[str, int]:
    """Return what each part multiplies for one state, with images of this height and width."""
    from dreamerv2.convolutions import conv_size

    counts: dict[str, int] = {}
    for path, variable in agent.variables().items():
        kind, _, name = path.partition("/")
        shape = tuple(int(n) for n in variable.shape)
        if kind != "weights" or len(shape) < 2:
            continue
        part, layer = name.split("/")[:2]
        pixels = 1
        if len(shape) == 4:
            module = agent.world_model.encoder if part == "encoder" else agent.world_model.decoder
            kernels, index = module._kernels, int(layer.removeprefix("conv"))
            # A convolution multiplies at each pixel of its output, a transposed one of its input.
            passed = kernels[: index + 1] if part == "encoder" else kernels[index:][::-1]
            pixels = conv_size(image[0], passed) * conv_size(image[1], passed)
        if part == "rssm":
            part = {"img_in": "step", "gru": "step", "obs_out": "posterior"}.get(layer, "prior")
            part = "posterior" if layer == "obs_dist" else part
        counts[part] = counts.get(part, 0) + pixels * math.prod(shape)
    return counts


def through_model(config: Any, act_space: Any) -> bool:
    """Return whether the actor's gradient passes through the model."""
    auto = "dynamics" if act_space.kind == "continuous" else "reinforce"
    return {"auto": auto}.get(config.actor_grad, config.actor_grad) != "reinforce"


def update_flop(counts: Mapping[str, int], config: Any, through_model: bool) -> int:
    """Return the floating point operations of an update; the formula is in the module's text."""
    count = {name: 2 * counts.get(name, 0) for name in (
        "encoder", "step", "posterior", "prior", "decoder", "reward", "discount", "actor", "critic",
    )}  # fmt: skip
    states, horizon = config.dataset.batch * config.dataset.length, config.imag_horizon
    heads = count["reward"] + count["discount"]
    model = sum(count[name] for name in ("encoder", "step", "posterior", "prior", "decoder"))
    imagination = horizon * (count["step"] + count["prior"] + count["actor"])
    imagination += (horizon + 1) * (heads + count["critic"])
    behavior = (horizon - 1) * count["actor"] + horizon * count["critic"]
    return states * (3 * (model + heads) + imagination * (3 if through_model else 1) + 3 * behavior)


def matmul_seconds(dtype: str = "float32") -> list[float]:
    """Return the times of some products of square matrices of `SIDE` rows."""
    import tensorflow as tf

    left = tf.cast(tf.random.normal((SIDE, SIDE)), dtype)
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        tf.linalg.matmul(left, left).numpy()
        times.append(time.perf_counter() - begin)
    return times


def random_batch(config: Any, obs_space: Mapping[str, Any], act_space: Any) -> dict[str, Any]:
    """Return noise of the shapes that the replay would give."""
    import numpy as np

    rng = np.random.default_rng(0)
    lead = (config.dataset.batch, config.dataset.length)
    data: dict[str, Any] = {
        key: rng.integers(0, 256, (*lead, *spec.shape), np.uint8)
        if spec.is_image
        else rng.normal(size=(*lead, *spec.shape)).astype(np.float32)
        for key, spec in obs_space.items()
        if not key.startswith("log_")
    }
    data["action"] = act_space.sample(rng, lead[0] * lead[1]).reshape((*lead, act_space.dim))
    data["reward"] = rng.normal(size=lead).astype(np.float32)
    data["is_first"] = np.zeros(lead, bool) | (np.arange(lead[1]) == 0)
    data["is_last"] = data["is_terminal"] = np.zeros(lead, bool)
    return data
