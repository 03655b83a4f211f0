"""Tiny agents and batches, and numeric gradients, for the tests of everything with tensors."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

import dreamerv2
from dreamerv2 import nets
from dreamerv2.agent import Agent
from dreamerv2.common import flags
from dreamerv2.common.config import Config
from dreamerv2.common.envs.spaces import ActSpec, ObsSpec
from dreamerv2.rssm import RSSM

CONFIGS = pathlib.Path(dreamerv2.__file__).parent / "configs.yaml"
DISCRETE = ActSpec("discrete", (4,))
MULTI = ActSpec("multi_discrete", (2, 3))
CONTINUOUS = ActSpec("continuous", (3,))
IMAGE = {"image": ObsSpec((64, 64, 1), np.dtype("uint8"))}
VECTOR = {"vector": ObsSpec((5,), np.dtype("float32"))}

SIZES = {
    "rssm": {"hidden": 8, "deter": 6, "stoch": 3, "discrete": 4},
    r".*\.cnn_depth": 2,
    r".*\.mlp_layers": [7],
    r".*\.layers": 1,
    r".*\.units": 8,
    "imag_horizon": 3,
    "jit": "off",
}


def config(changes: Mapping[str, Any] | None = None) -> Config:
    """Return the defaults with tiny networks, without compilation."""
    return flags.build(CONFIGS).update(SIZES).update(changes or {})


def agent(
    changes: Mapping[str, Any] | None = None,
    obs: Mapping[str, ObsSpec] = VECTOR,
    act: ActSpec = DISCRETE,
    seed: int = 0,
) -> Agent:
    """Return an agent with tiny networks."""
    return Agent(config(changes), obs, act, seed)


def batch(
    obs: Mapping[str, ObsSpec] = VECTOR,
    act: ActSpec = DISCRETE,
    leading: tuple[int, ...] = (2, 4),
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Return random transitions: the first steps are `is_first`, one step is terminal."""
    rng = np.random.default_rng(seed)
    data: dict[str, np.ndarray] = {}
    for key, spec in obs.items():
        shape = leading + spec.shape
        images = rng.integers(0, 256, shape, dtype=np.uint8)
        data[key] = images if spec.is_image else rng.normal(size=shape).astype(np.float32)
    actions = act.sample(rng, int(np.prod(leading)))
    data["action"] = actions.reshape((*leading, act.dim))
    data["reward"] = rng.normal(size=leading).astype(np.float32)
    for key in ("is_first", "is_last", "is_terminal"):
        data[key] = np.zeros(leading, bool)
    if len(leading) == 2:
        data["is_first"][:, 0] = True
        data["is_last"][0, -1] = data["is_terminal"][0, -1] = True
    return data


def randomize(variables: Any, seed: int = 0, scale: float = 0.5) -> None:
    """Fill variables with normal noise, so that no bias or offset hides at zero."""
    rng = np.random.default_rng(seed)
    for variable in variables:
        variable.assign(scale * rng.normal(size=variable.shape))


def values(variables: Mapping[str, tf.Variable]) -> dict[str, np.ndarray]:
    """Return copies of the values."""
    return {key: np.array(v.numpy() if hasattr(v, "numpy") else v) for key, v in variables.items()}


def same(left: Mapping[str, np.ndarray], right: Mapping[str, np.ndarray]) -> bool:
    """Return whether all values are equal, bit for bit."""
    assert left.keys() == right.keys()
    return all(np.array_equal(left[key], right[key], equal_nan=True) for key in left)


def gradient(function: Callable[[tf.Tensor], tf.Tensor], x: np.ndarray) -> np.ndarray:
    """Return the gradient of the summed result, by automatic differentiation."""
    x = tf.constant(x, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(function(x))
    return np.asarray(tape.gradient(total, x, unconnected_gradients=tf.UnconnectedGradients.ZERO))


def numeric_gradient(
    function: Callable[[tf.Tensor], tf.Tensor], x: np.ndarray, eps: float = 1e-2
) -> np.ndarray:
    """Return the gradient of the summed result, by central differences."""
    x = np.asarray(x, np.float32)
    result = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[index] = eps
        upper = np.sum(function(tf.constant(x + step)), dtype=np.float64)
        lower = np.sum(function(tf.constant(x - step)), dtype=np.float64)
        result[index] = (upper - lower) / (2 * eps)
    return result


def softmax(x: np.ndarray) -> np.ndarray:
    """Return probabilities over the last axis."""
    exps = np.exp(x - x.max(-1, keepdims=True))
    return exps / exps.sum(-1, keepdims=True)


def rssm(
    discrete: int | bool = 4, ensemble: int = 1, precision: int | str = 32, **changes: Any
) -> RSSM:
    """Return a state-space model with random weights for actions of 2 and embeddings of 4."""
    settings = {
        "ensemble": ensemble, "hidden": 6, "deter": 5, "stoch": 3, "discrete": discrete,
        "act": "elu", "norm": "layer", "gru_norm": "layer", "std_act": "sigmoid2", "min_std": 0.1,
    }  # fmt: skip
    policy = nets.dtype_policy(precision)
    model = RSSM(2, 4, name="rssm", dtype=policy, **{**settings, **changes})
    model.build()
    randomize(model.variables, scale=0.7)
    return model
