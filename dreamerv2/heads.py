"""Heads: from features of the model state to a distribution over rewards, values, actions, ...

They take their compute type from the dtype policy they are given, as all networks in `nets` do, but
for the last layer: it computes in float32, or bfloat16 would round values to steps of 0.4 %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from dreamerv2 import distributions as dists
from dreamerv2.nets import Stack, merge_leading

tfd = tfp.distributions


class Output(keras.layers.Layer):
    """Final dense layer(s) and the distribution they parameterise.

    `shape` is the event shape, `()` for scalars. Distributions (all float32):

    - `mse`: normal with std 1, whose log-probability is the negative squared error over two
      minus a constant.
    - `normal`: normal; std ``softplus(x) + min_std``.
    - `binary`: Bernoulli.
    - `onehot`: one-hot with straight-through gradients; `multi_onehot`: one for each of `sizes`.
    - `trunc_normal`: normal around ``tanh(x)``, truncated to [-1, 1]; std in
      ``(min_std, 2 + min_std)``.
    - `tanh_normal`: tanh of a normal with mean in (-5, 5); std ``softplus(x) + min_std``.
    """

    KINDS = ("mse", "normal", "binary", "onehot", "multi_onehot", "trunc_normal", "tanh_normal")

    def __init__(
        self,
        shape: Sequence[int],
        dist: str = "mse",
        min_std: float = 0.1,
        sizes: tuple[int, ...] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if dist not in self.KINDS:
            raise ValueError(f"dist is {dist!r}; it must be one of {', '.join(self.KINDS)}.")
        self._shape = tuple(shape)
        self._kind = dist
        self._min_std = min_std
        self._sizes = tuple(sizes)
        names = ["out", "std"] if dist in ("normal", "trunc_normal", "tanh_normal") else ["out"]
        size = math.prod(self._shape)
        self._layers_ = [keras.layers.Dense(size, name=name, dtype="float32") for name in names]

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Create the weights for inputs of shape ``(..., input_shape[-1])``."""
        for layer in self._layers_:
            layer.build(tuple(input_shape))

    def call(self, x: tf.Tensor) -> list[tf.Tensor]:
        """Return the raw parameters, each float32 of shape ``(..., *shape)``."""
        shape = tf.concat([tf.shape(x)[:-1], tf.constant(self._shape, tf.int32)], 0)
        static = x.shape[:-1] + self._shape
        raws = [tf.reshape(layer(x), shape) for layer in self._layers_]
        return [tf.ensure_shape(raw, static) for raw in raws]

    def dist(self, x: tf.Tensor) -> Any:
        """Return the distribution over events of shape `shape`, for each of ``x.shape[:-1]``."""
        return self.make(*self(x))

    def make(self, out: tf.Tensor, std: tf.Tensor | None = None) -> Any:
        """Return the distribution with raw parameters as `call` returns them."""
        rank = len(self._shape)
        if self._kind == "mse":
            return tfd.Independent(tfd.Normal(out, 1.0), rank)
        if self._kind == "binary":
            return tfd.Independent(tfd.Bernoulli(logits=out, dtype=tf.float32), rank)
        if self._kind == "onehot":
            return dists.OneHot(out)
        if self._kind == "multi_onehot":
            return dists.MultiOneHot(out, self._sizes)
        assert std is not None
        if self._kind == "normal":
            return tfd.Independent(tfd.Normal(out, tf.nn.softplus(std) + self._min_std), rank)
        if self._kind == "tanh_normal":
            mean = 5.0 * tf.tanh(out / 5.0)
            return dists.TanhNormal(mean, tf.nn.softplus(std) + self._min_std)
        scale = 2.0 * tf.sigmoid(std / 2.0) + self._min_std
        return tfd.Independent(dists.TruncatedNormal(tf.tanh(out), scale), rank)


class Head(keras.layers.Layer):
    """A stack of dense layers and an output distribution.

    Maps features ``(..., n)`` to a distribution over events of shape `shape`.
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        layers: int,
        units: int,
        act: str,
        norm: str,
        dist: str,
        min_std: float = 0.1,
        sizes: tuple[int, ...] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        policy = self.dtype_policy
        self._stack = Stack([units] * layers, act, norm, name="stack", dtype=policy)
        self._out = Output(shape, dist, min_std, sizes, name="out", dtype=policy)

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Create the weights for features of shape ``(..., input_shape[-1])``."""
        self._stack.build(tuple(input_shape))
        self._out.build((None, self._stack.output_size))

    def call(self, features: tf.Tensor) -> list[tf.Tensor]:
        """Return the raw float32 parameters of the distribution."""
        # TensorFlow fuses product, bias and activation for matrices only.
        flat, restore = merge_leading(tf.cast(features, self.compute_dtype))
        return [restore(raw) for raw in self._out(self._stack(flat))]

    def dist(self, features: tf.Tensor) -> Any:
        """Return the distribution predicted from features ``(..., n)``."""
        return self._out.make(*self(features))
