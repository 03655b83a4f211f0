"""Convolutions of stride 2, plain and transposed, that are fast on CPUs; and their sizes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf


def conv_size(size: int, kernels: Sequence[int]) -> int:
    """Return the length of an axis after convolutions of stride 2; below 1 is impossible."""
    for kernel in kernels:
        size = (size - kernel) // 2 + 1
    return size


def transposed_size(size: int, kernels: Sequence[int]) -> int:
    """Return the length of an axis after transposed convolutions of stride 2."""
    for kernel in kernels:
        size = (size - 1) * 2 + kernel
    return size


class Conv(keras.layers.Conv2D):
    """Convolution of stride 2 without padding.

    Where few pixels come out it is a product of patches with the kernel, which gives the same
    numbers and gradients in less time (measured on a CPU for the last one of the encoder: two
    thirds of the time in float32, a third in bfloat16).
    """

    _FEW_PIXELS = 4

    def __init__(self, filters: int, kernel: int, **kwargs: Any) -> None:
        super().__init__(filters, kernel, 2, **kwargs)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Return maps ``(N, (H - kernel) // 2 + 1, (W - kernel) // 2 + 1, filters)``."""
        kernel, bias = (tf.cast(w, self.compute_dtype) for w in (self.kernel, self.bias))
        size, _, channels, filters = kernel.shape
        height, width = (conv_size(n, [size]) for n in x.shape[1:3])
        if height * width > self._FEW_PIXELS:
            return tf.nn.bias_add(tf.nn.conv2d(x, kernel, 2, "VALID"), bias)
        places = itertools.product(range(0, 2 * height, 2), range(0, 2 * width, 2))
        # `tf.slice`, because the gradient of `x[:, i:j]` takes six times as long.
        patch = [-1, size, size, channels]
        patches = tf.stack([tf.slice(x, [0, i, j, 0], patch) for i, j in places], 1)
        patches = tf.reshape(patches, [-1, size * size * channels])
        out = tf.linalg.matmul(patches, tf.reshape(kernel, [-1, filters]))
        return tf.reshape(tf.nn.bias_add(out, bias), [-1, height, width, filters])


class TransposedConv(keras.layers.Layer):
    """Transposed convolution of stride 2 without padding.

    Two special cases give the same numbers in less time. On a map of one pixel it is a plain
    matrix product. With few filters, as for the image itself, the forward pass is an ordinary
    convolution that computes four subpixels at once (measured on a CPU: a third of the time).
    The weights have the shape ``(kernel, kernel, filters, channels)``, as in Keras.
    """

    _FEW_FILTERS = 4

    def __init__(self, filters: int, kernel: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.filters = filters
        self._size = kernel

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Create the weights for maps of shape ``(N, H, W, channels)``."""
        shape = (self._size, self._size, self.filters, input_shape[-1])
        self.kernel = self.add_weight(name="kernel", shape=shape)
        self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer="zeros")

    def output_size(self, size: Sequence[int]) -> tuple[int, int]:
        """Return height and width of the output for inputs of this height and width."""
        height, width = (transposed_size(n, [self._size]) for n in size)
        return height, width

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Return maps ``(N, 2 H + kernel - 2, 2 W + kernel - 2, filters)``."""
        kernel = tf.cast(self.kernel, self.compute_dtype)
        height, width = self.output_size(x.shape[1:3])
        shape = (tf.shape(x)[0], height, width, self.filters)
        if x.shape[1:3] == (1, 1):
            flat = tf.reshape(kernel, [-1, x.shape[-1]])
            out = tf.reshape(tf.linalg.matmul(x[:, 0, 0], flat, transpose_b=True), shape)
        elif self.filters <= self._FEW_FILTERS and self._size % 2 == 0:
            # The gradient of `bias_add` is slow for few filters, that of an addition is not.
            return subpixel_transposed_conv(x, kernel) + tf.cast(self.bias, self.compute_dtype)
        else:
            out = tf.nn.conv2d_transpose(x, kernel, shape, 2, "VALID")
        return tf.nn.bias_add(out, tf.cast(self.bias, self.compute_dtype))


@tf.custom_gradient
def subpixel_transposed_conv(x: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Any]:
    """Equal ``tf.nn.conv2d_transpose(x, kernel, ..., 2, "VALID")`` for kernels of even size.

    Output pixels with the same parity of row and column see the same quarter of the kernel: a
    convolution of stride 1 with these four smaller kernels, then `depth_to_space`. The gradients
    are those of the transposed convolution, which are fast as they are.
    """
    size, _, filters, channels = kernel.shape
    half = size // 2
    quarters = tf.reshape(kernel, (half, 2, half, 2, filters, channels))[::-1, :, ::-1]
    quarters = tf.transpose(quarters, (0, 2, 5, 1, 3, 4))
    quarters = tf.reshape(quarters, (half, half, channels, 4 * filters))
    pad = [half - 1, half - 1]
    padded = tf.pad(x, [[0, 0], pad, pad, [0, 0]])
    out = tf.nn.depth_to_space(tf.nn.conv2d(padded, quarters, 1, "VALID"), 2)

    def gradients(grad: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        x_grad = tf.nn.conv2d(grad, kernel, 2, "VALID")
        kernel_grad = tf.raw_ops.Conv2DBackpropFilter(
            input=grad, filter_sizes=kernel.shape, out_backprop=x,
            strides=[1, 2, 2, 1], padding="VALID",
        )  # fmt: skip
        return x_grad, kernel_grad

    return out, gradients
