"""Layers shared by the world model, the actor and the critic.

Every layer has an explicit `build` and takes its compute type from the dtype policy it is given
(`float32`, `mixed_float16`, `mixed_bfloat16`); Keras' global policy is neither read nor changed.
Norms are float32 under every policy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

PRECISIONS = {"32": "float32", "16": "mixed_float16", "bfloat16": "mixed_bfloat16"}

ACTIVATIONS: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "none": tf.identity,
    "elu": tf.nn.elu,
    "relu": tf.nn.relu,
    "gelu": tf.nn.gelu,
    "silu": tf.nn.silu,
    "swish": tf.nn.silu,
    "selu": tf.nn.selu,
    "leaky_relu": tf.nn.leaky_relu,
    "tanh": tf.nn.tanh,
    "sigmoid": tf.nn.sigmoid,
    "softplus": tf.nn.softplus,
    "mish": lambda x: x * tf.math.tanh(tf.nn.softplus(x)),
}


def dtype_policy(precision: int | str) -> keras.DTypePolicy:
    """Return the dtype policy of a `precision` setting: 32, 16 or bfloat16."""
    return keras.DTypePolicy(PRECISIONS[str(precision)])


def merge_leading(x: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """Return ``(..., n)`` as a matrix, and the function that splits the rows of results again."""
    if len(x.shape) == 2:
        return x, tf.identity
    leading, static = tf.shape(x)[:-1], x.shape[:-1]

    def restore(y: tf.Tensor) -> tf.Tensor:
        shape = tf.concat([leading, tf.shape(y)[1:]], 0)
        return tf.ensure_shape(tf.reshape(y, shape), (*static, *y.shape[1:]))

    return tf.reshape(x, [-1, x.shape[-1]]), restore


class Norm(keras.layers.Layer):
    """Layer norm over the last axis in float32 (epsilon 1e-3), or nothing, by `kind`.

    Input and output have shape ``(..., units)`` in the compute type.
    """

    def __init__(self, kind: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if kind not in ("none", "layer"):
            raise ValueError(f"norm is {kind!r}; it must be none or layer.")
        self._kind = kind

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Create scale `gamma` and offset `beta`, of shape ``(units,)``."""
        if self._kind == "layer":
            units = (input_shape[-1],)
            self.gamma = self.add_weight(name="gamma", shape=units, initializer="ones")
            self.beta = self.add_weight(name="beta", shape=units, initializer="zeros")

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Normalise the last axis."""
        if self._kind == "none":
            return x
        gamma, beta = tf.cast(self.gamma, tf.float32), tf.cast(self.beta, tf.float32)
        values = tf.cast(x, tf.float32)
        mean, variance = tf.nn.moments(values, -1, keepdims=True)
        scale = tf.math.rsqrt(variance + 1e-3)
        return tf.cast((values - mean) * scale * gamma + beta, x.dtype)


class Linear(keras.layers.Dense):
    """A dense layer that can also multiply only a part of its input.

    ``layer(concat([a, b]))`` equals ``layer.part(a, 0) + layer.part(b, len(a), bias=True)``. In a
    recurrent loop the second product can so be computed for all time steps at once.
    """

    def part(self, x: tf.Tensor, start: int, bias: bool = False) -> tf.Tensor:
        """Multiply ``(..., n)`` inputs by rows `start` to ``start + n`` of the kernel."""
        weight = self.weight(start, start + x.shape[-1])
        result = tf.linalg.matmul(tf.cast(x, self.compute_dtype), weight)
        return result + tf.cast(self.bias, self.compute_dtype) if bias else result

    def weight(self, start: int = 0, stop: int | None = None) -> tf.Tensor:
        """Return these rows of the kernel in the compute type."""
        return tf.cast(self.kernel, self.compute_dtype)[start:stop]

    def offset(self, leading: Sequence[int | tf.Tensor]) -> tf.Tensor:
        """Return the bias in the compute type, repeated to ``(*leading, units)``."""
        return tf.broadcast_to(tf.cast(self.bias, self.compute_dtype), [*leading, self.units])


class GRUCell(keras.layers.Layer):
    """Gated recurrent unit with layer norm over all gates, or without, by `norm`.

        reset, candidate, update = split(norm([x, h] @ kernel + bias))
        candidate = tanh(sigmoid(reset) * candidate)
        update = sigmoid(update - 1)
        h' = update * candidate + (1 - update) * h

    The offset of -1 keeps the state for longer at the start of training. The kernel has shape
    ``(inputs + units, 3 * units)``.
    """

    def __init__(self, units: int, norm: str = "layer", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._units = units
        self.gates = Linear(3 * units, name="gates", dtype=self.dtype_policy)
        self._norm = Norm(norm, name="norm", dtype="float32")

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Create the weights for inputs of shape ``(..., input_shape[-1])``."""
        inputs = input_shape[-1]
        assert inputs is not None
        self.gates.build((None, inputs + self._units))
        self._norm.build((None, 3 * self._units))

    def call(self, x: tf.Tensor, state: tf.Tensor) -> tf.Tensor:
        """Return the next state ``(..., units)`` from inputs and state."""
        return self.next_state(self.gates(tf.concat([x, state], -1)), state)

    def next_state(self, gates: tf.Tensor, state: tf.Tensor) -> tf.Tensor:
        """Return the next state from ``[x, h] @ kernel + bias``, of shape ``(..., 3 * units)``.

        Computes in float32, as norms do: more exact over many steps, and faster on CPUs.
        """
        reset, candidate, update = tf.split(self._norm(gates), 3, -1)
        candidate = tf.tanh(tf.sigmoid(reset) * candidate)
        update = tf.sigmoid(update - 1.0)
        mixed = update * candidate + (1.0 - update) * tf.cast(state, tf.float32)
        return tf.cast(mixed, state.dtype)


class Stack(keras.layers.Layer):
    """Dense layers, each followed by a norm and an activation: ``(..., n) -> (..., units[-1])``.

    Layers are named by `names`, for example ``("dense", "norm")`` for dense0, norm0, dense1, ...
    """

    def __init__(
        self,
        units: Sequence[int],
        act: str,
        norm: str,
        names: tuple[str, str] = ("dense", "norm"),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._act = ACTIVATIONS[act]
        policy = self.dtype_policy
        dense, normed = names
        self._dense = [
            keras.layers.Dense(n, name=f"{dense}{i}", dtype=policy) for i, n in enumerate(units)
        ]
        self._norms = [Norm(norm, name=f"{normed}{i}", dtype=policy) for i, _ in enumerate(units)]

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Create the weights for inputs of shape ``(..., input_shape[-1])``."""
        shape = tuple(input_shape)
        for dense, norm in zip(self._dense, self._norms, strict=True):
            dense.build(shape)
            shape = (*shape[:-1], dense.units)
            norm.build(shape)
        size = shape[-1]
        assert size is not None
        self.output_size: int = size

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Apply all layers."""
        for dense, norm in zip(self._dense, self._norms, strict=True):
            x = self._act(norm(dense(x)))
        return x
