"""Matrix products inside a loop over time whose weight gradients are taken after the loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

Tensors = dict[str, tf.Tensor]


class LoopProducts:
    """Linear layers in a loop over time, with one product per weight for all steps' gradients.

    Step t of the loop computes, for each name,

        y[t] = x[t] @ weight + added[t]

    where `added` is known before the loop. Automatic differentiation of the loop would add up the
    weight's gradient step by step: T small products, each as large as the weight, and T sums of
    such matrices. But the gradient of ``added[t]`` is that of ``y[t]``. So inside the loop weights
    are constants, and `before` lets the gradient of `added` pass to them by one product:

        d weight = sum over t of x[t]^T dy[t]

    The gradient of x[t] is dy[t] times the transposed weight. It is transposed once, before the
    loop: for the few rows of a step, oneDNN takes two to four times as long with a weight that it
    is to read transposed (float32, on a CPU).

    Args:
        weights: Matrix ``(n, units)`` of each product, in the compute type.
    """

    def __init__(self, weights: Mapping[str, tf.Tensor]) -> None:
        self._weights = dict(weights)
        self._constants = {name: tf.stop_gradient(w) for name, w in weights.items()}
        self._transposed = {name: tf.transpose(w) for name, w in self._constants.items()}
        self._inputs: Tensors | None = None

    def before(self, added: Mapping[str, tf.Tensor]) -> Tensors:
        """Return `added`, each ``(T, B, units)``, to be handed to the loop step by step."""
        return {name: self._connect(name, self._weights[name], added[name]) for name in added}

    def step(self, added: Mapping[str, tf.Tensor], inputs: Tensors) -> Callable[..., tf.Tensor]:
        """Return the function ``(name, x) -> y`` of one step; it notes each x in `inputs`."""

        def linear(name: str, x: tf.Tensor) -> tf.Tensor:
            inputs[name] = x
            return self._product(name, x) + added[name]

        return linear

    def after(self, inputs: Mapping[str, tf.Tensor]) -> None:
        """Take what the steps noted, each stacked to ``(T, B, n)``; gradients need it."""
        self._inputs = dict(inputs)

    def no_inputs(self, batch_size: tf.Tensor) -> Tensors:
        """Return zeros of the shapes that the steps note."""
        return {
            name: tf.zeros([batch_size, weight.shape[0]], weight.dtype)
            for name, weight in self._weights.items()
        }

    def _product(self, name: str, x: tf.Tensor) -> tf.Tensor:
        @tf.custom_gradient
        def product(x: tf.Tensor) -> tuple[tf.Tensor, Any]:
            def gradient(grad: tf.Tensor) -> tf.Tensor:
                return tf.linalg.matmul(grad, self._transposed[name])

            return tf.linalg.matmul(x, self._constants[name]), gradient

        return product(x)

    def _connect(self, name: str, weight: tf.Tensor, added: tf.Tensor) -> tf.Tensor:
        @tf.custom_gradient
        def connected(weight: tf.Tensor, added: tf.Tensor) -> tuple[tf.Tensor, Any]:
            def gradient(grad: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                assert self._inputs is not None, "call `after` before taking gradients"
                x, dy = (tf.reshape(v, [-1, v.shape[-1]]) for v in (self._inputs[name], grad))
                return tf.linalg.matmul(x, dy, transpose_a=True), grad

            return tf.identity(added), gradient

        return connected(weight, added)
