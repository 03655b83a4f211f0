"""Encoder from observations to embeddings, and decoder from features to observations.

Images ``(H, W, C)`` pass through convolutions, vectors ``(n,)`` through dense layers; which keys
take part is chosen by regular expressions (`re.match`) over the names of the observations.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from dreamerv2 import nets
from dreamerv2.common.errors import UserError
from dreamerv2.convolutions import Conv, TransposedConv, conv_size, transposed_size
from dreamerv2.heads import Output

tfd = tfp.distributions
Shapes = Mapping[str, tuple[int, ...]]


def split_keys(shapes: Shapes, cnn_keys: str, mlp_keys: str) -> tuple[list[str], list[str]]:
    """Return the names of the chosen images and of the chosen vectors, in their own order."""
    images = [k for k, s in shapes.items() if len(s) == 3 and re.match(cnn_keys, k)]
    vectors = [k for k, s in shapes.items() if len(s) == 1 and re.match(mlp_keys, k)]
    return images, vectors


def _image_size(shapes: Shapes, keys: list[str], module: str) -> tuple[int, int]:
    sizes = {key: (shapes[key][0], shapes[key][1]) for key in keys}
    first = next(iter(sizes.values()))
    if any(size != first for size in sizes.values()):
        listed = ", ".join(f"{key} {h}x{w}" for key, (h, w) in sizes.items())
        raise UserError(
            f"{module}.cnn_keys chooses images of different sizes ({listed}); "
            "set render_size so that all are resized alike."
        )
    return first


class Encoder(keras.layers.Layer):
    """Maps preprocessed observations ``(..., *shape)`` to embeddings ``(..., output_size)``."""

    def __init__(
        self,
        shapes: Shapes,
        *,
        cnn_keys: str,
        mlp_keys: str,
        act: str,
        norm: str,
        cnn_depth: int,
        cnn_kernels: Sequence[int],
        mlp_layers: Sequence[int],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.cnn_keys, self.mlp_keys = split_keys(shapes, cnn_keys, mlp_keys)
        if not self.cnn_keys and not self.mlp_keys:
            raise UserError(
                f"encoder.cnn_keys {cnn_keys!r} and encoder.mlp_keys {mlp_keys!r} choose none of "
                f"the observations {', '.join(shapes)}; change one of them."
            )
        self._shapes = dict(shapes)
        self._kernels = list(cnn_kernels)
        self._act = nets.ACTIVATIONS[act]
        policy = self.dtype_policy
        self._convs: list[Conv] = []
        self._norms: list[nets.Norm] = []
        if self.cnn_keys:
            for i, kernel in enumerate(cnn_kernels):
                self._convs.append(Conv(2**i * cnn_depth, kernel, name=f"conv{i}", dtype=policy))
                self._norms.append(nets.Norm(norm, name=f"convnorm{i}", dtype=policy))
        self._mlp = nets.Stack(
            list(mlp_layers) if self.mlp_keys else [],
            act, norm, ("dense", "densenorm"), name="mlp", dtype=policy,
        )  # fmt: skip

    def build(self, input_shape: Sequence[int | None] | None = None) -> None:
        """Create all weights; the shapes are known from the constructor.

        Raises:
            UserError: The images are too small for the convolutions.
        """
        self.output_size = 0
        if self.cnn_keys:
            self.output_size += self._build_convs()
        if self.mlp_keys:
            self._mlp.build((None, sum(self._shapes[key][0] for key in self.mlp_keys)))
            self.output_size += self._mlp.output_size

    def _build_convs(self) -> int:
        height, width = _image_size(self._shapes, self.cnn_keys, "encoder")
        smallest = next(n for n in range(1, 2**30) if conv_size(n, self._kernels) >= 1)
        if min(height, width) < smallest:
            raise UserError(
                f"render_size gives images of {height}x{width}, too small for encoder.cnn_kernels "
                f"{self._kernels}; use at least {smallest}x{smallest} or fewer kernels."
            )
        channels = sum(self._shapes[key][-1] for key in self.cnn_keys)
        for conv, norm, kernel in zip(self._convs, self._norms, self._kernels, strict=True):
            conv.build((None, height, width, channels))
            height, width = conv_size(height, [kernel]), conv_size(width, [kernel])
            channels = conv.filters
            norm.build((None, height, width, channels))
        return height * width * channels

    def call(self, data: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Encode the chosen keys of `data`; keys that were not chosen are ignored."""
        outputs = []
        if self.cnn_keys:
            images = tf.concat([data[key] for key in self.cnn_keys], -1)
            outputs.append(self._encode_images(tf.cast(images, self.compute_dtype)))
        if self.mlp_keys:
            vectors = tf.concat([data[key] for key in self.mlp_keys], -1)
            flat, restore = nets.merge_leading(tf.cast(vectors, self.compute_dtype))
            outputs.append(restore(self._mlp(flat)))
        return tf.concat(outputs, -1)

    def _encode_images(self, x: tf.Tensor) -> tf.Tensor:
        leading = tf.shape(x)[:-3]
        static = x.shape[:-3]
        x = tf.reshape(x, tf.concat([[-1], tf.shape(x)[-3:]], 0))
        for conv, norm in zip(self._convs, self._norms, strict=True):
            x = self._act(norm(conv(x)))
        size = x.shape[1] * x.shape[2] * x.shape[3]
        x = tf.reshape(x, tf.concat([leading, [size]], 0))
        return tf.ensure_shape(x, (*static, size))


class Decoder(keras.layers.Layer):
    """Maps features ``(..., n)`` to one distribution for each chosen observation.

    Images and vectors are unit-variance normals around the prediction. The transposed
    convolutions start from a map of one pixel for 64x64 images with the published kernels; every
    16 pixels more in height or width need a start map one pixel larger.
    """

    def __init__(
        self,
        shapes: Shapes,
        *,
        cnn_keys: str,
        mlp_keys: str,
        act: str,
        norm: str,
        cnn_depth: int,
        cnn_kernels: Sequence[int],
        mlp_layers: Sequence[int],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.cnn_keys, self.mlp_keys = split_keys(shapes, cnn_keys, mlp_keys)
        self._shapes = dict(shapes)
        self._kernels = list(cnn_kernels)
        self._act = nets.ACTIVATIONS[act]
        policy = self.dtype_policy
        self._convs: list[TransposedConv] = []
        self._norms: list[nets.Norm] = []
        if self.cnn_keys:
            self._start = self._start_map()
            self._start_channels = 32 * cnn_depth
            pixels = self._start[0] * self._start[1]
            self._convin = keras.layers.Dense(
                pixels * self._start_channels, name="convin", dtype=policy
            )
            last = len(self._kernels) - 1
            channels = sum(shapes[key][-1] for key in self.cnn_keys)
            for i, kernel in enumerate(self._kernels):
                depth = channels if i == last else 2 ** (last - i - 1) * cnn_depth
                self._convs.append(TransposedConv(depth, kernel, name=f"conv{i}", dtype=policy))
                kind = "none" if i == last else norm
                self._norms.append(nets.Norm(kind, name=f"convnorm{i}", dtype=policy))
        self._mlp = nets.Stack(
            list(mlp_layers) if self.mlp_keys else [],
            act, norm, ("dense", "densenorm"), name="mlp", dtype=policy,
        )  # fmt: skip
        self._outputs = {
            # A slash, which Keras refuses in names, would come from nested observations.
            key: Output(shapes[key], name=f"dense_{key.replace('/', '.')}", dtype=policy)
            for key in self.mlp_keys
        }

    def _start_map(self) -> tuple[int, int]:
        height, width = _image_size(self._shapes, self.cnn_keys, "decoder")
        base = transposed_size(1, self._kernels)
        stride = 2 ** len(self._kernels)
        if min(height, width) < base or (height - base) % stride or (width - base) % stride:
            listed = ", ".join(str(base + i * stride) for i in range(4))
            raise UserError(
                f"render_size gives images of {height}x{width}, but decoder.cnn_kernels "
                f"{self._kernels} can make heights and widths of {listed}, ...; "
                "set render_size to such a size."
            )
        return (height - base) // stride + 1, (width - base) // stride + 1

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Create the weights for features of shape ``(..., input_shape[-1])``."""
        features = (None, input_shape[-1])
        if self.cnn_keys:
            self._convin.build(features)
            shape = (None, *self._start, self._start_channels)
            for conv, norm in zip(self._convs, self._norms, strict=True):
                conv.build(shape)
                shape = (None, *conv.output_size(shape[1:3]), conv.filters)
                norm.build(shape)
        if self.mlp_keys:
            self._mlp.build(features)
            for output in self._outputs.values():
                output.build((None, self._mlp.output_size))

    def call(self, features: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return the predicted means, float32 of shape ``(..., *shape)``, by key."""
        features = tf.cast(features, self.compute_dtype)
        means = self._decode_images(features) if self.cnn_keys else {}
        if self.mlp_keys:
            flat, restore = nets.merge_leading(features)
            x = self._mlp(flat)
            means.update({key: restore(output(x)[0]) for key, output in self._outputs.items()})
        return means

    def dist(self, features: tf.Tensor) -> dict[str, Any]:
        """Return the predicted distributions by key."""
        means = self(features)
        return {
            key: tfd.Independent(tfd.Normal(mean, 1.0), len(self._shapes[key]))
            for key, mean in means.items()
        }

    def _decode_images(self, features: tf.Tensor) -> dict[str, tf.Tensor]:
        x = self._convin(tf.reshape(features, [-1, features.shape[-1]]))
        x = tf.reshape(x, [-1, *self._start, self._start_channels])
        last = len(self._convs) - 1
        for i, (conv, norm) in enumerate(zip(self._convs, self._norms, strict=True)):
            x = conv(x)
            if i != last:
                x = self._act(norm(x))
        leading, static = tf.shape(features)[:-1], features.shape[:-1]
        x = tf.cast(x, tf.float32)
        channels = [self._shapes[key][-1] for key in self.cnn_keys]
        images = {}
        for key, image in zip(self.cnn_keys, tf.split(x, channels, -1), strict=True):
            image = tf.reshape(image, tf.concat([leading, tf.shape(image)[1:]], 0))
            images[key] = tf.ensure_shape(image, (*static, *self._shapes[key]))
        return images
