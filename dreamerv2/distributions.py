"""Distributions on top of TensorFlow Probability.

Everything here computes in float32 whatever the compute type of the networks. Sampling takes a
stateless seed (int tensor of shape ``(2,)``), so that it works in loops, under XLA, and repeats
exactly after a restart.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

tfd: Any = tfp.distributions


class OneHot(tfd.OneHotCategorical):
    """One-hot categorical whose samples and mode carry straight-through gradients.

    The value is one-hot, the gradient is that of the probabilities (paper, algorithm 1):
    ``sample + probs - stop_gradient(probs)``, for which no probabilities are computed unless a
    gradient is asked for. Logits and samples have shape ``(..., classes)``.
    """

    def __init__(self, logits: tf.Tensor, name: str = "OneHot") -> None:
        super().__init__(logits=logits, dtype=tf.float32, name=name)
        self._parameters = {"logits": logits, "name": name}

    @classmethod
    def _parameter_properties(cls, dtype: Any, num_classes: Any = None) -> dict[str, Any]:
        return {"logits": tfp.util.ParameterProperties(event_ndims=1)}

    def _sample_n(self, n: int, seed: Any = None) -> tf.Tensor:
        return self._straight_through(super()._sample_n(n, seed=seed))

    def _mode(self) -> tf.Tensor:
        return self._straight_through(super()._mode())

    def _straight_through(self, value: tf.Tensor) -> tf.Tensor:
        return straight_through(value, self.logits)


@tf.custom_gradient
def straight_through(value: tf.Tensor, logits: tf.Tensor) -> tuple[tf.Tensor, Any]:
    """Return `value` with the gradient of the probabilities that `logits` stand for.

    Both have shape ``(..., classes)``; values may have one more dimension in front, of samples.
    """

    def gradient(grad: tf.Tensor) -> tuple[None, tf.Tensor]:
        if len(grad.shape) > len(logits.shape):
            grad = tf.reduce_sum(grad, 0)
        probs = tf.nn.softmax(logits)
        return None, probs * (grad - tf.reduce_sum(probs * grad, -1, keepdims=True))

    return tf.identity(value), gradient


class MultiOneHot:
    """Independent one-hot distributions side by side, for MultiDiscrete actions.

    Logits and samples have shape ``(..., sum(sizes))``; log-probability and entropy are sums
    over the parts, of shape ``(...)``.
    """

    def __init__(self, logits: tf.Tensor, sizes: tuple[int, ...]) -> None:
        self._sizes = list(sizes)
        self._parts = [OneHot(part) for part in tf.split(logits, self._sizes, -1)]

    def sample(self, seed: tf.Tensor) -> tf.Tensor:
        """Draw from every part, of shape ``(..., sum(sizes))``."""
        seeds = tfp.random.split_seed(seed, len(self._parts))
        return tf.concat([part.sample(seed=seeds[i]) for i, part in enumerate(self._parts)], -1)

    def mode(self) -> tf.Tensor:
        """Return the most likely class of every part, of shape ``(..., sum(sizes))``."""
        return tf.concat([part.mode() for part in self._parts], -1)

    def log_prob(self, value: tf.Tensor) -> tf.Tensor:
        """Return the log-probability of concatenated one-hot vectors."""
        values = tf.split(value, self._sizes, -1)
        return tf.add_n([p.log_prob(v) for p, v in zip(self._parts, values, strict=True)])

    def entropy(self) -> tf.Tensor:
        """Return the entropy in nats."""
        return tf.add_n([part.entropy() for part in self._parts])


class TruncatedNormal(tfd.TruncatedNormal):
    """Truncated normal, by default on ``[-1, 1]``, whose samples stay off the bounds.

    Samples are reparameterised. On the bound itself the gradient of the log-probability would be
    infinite, so they are clipped to within 1e-6 of it, which does not change their gradient.
    """

    _MARGIN = 1e-6

    def __init__(
        self,
        loc: tf.Tensor,
        scale: tf.Tensor,
        low: float = -1.0,
        high: float = 1.0,
        name: str = "TruncatedNormal",
    ) -> None:
        super().__init__(loc, scale, low, high, name=name)
        self._parameters = dict(loc=loc, scale=scale, low=low, high=high, name=name)

    @classmethod
    def _parameter_properties(cls, dtype: Any, num_classes: Any = None) -> dict[str, Any]:
        names = ("loc", "scale", "low", "high")
        return {name: tfp.util.ParameterProperties() for name in names}

    def _sample_n(self, n: int, seed: Any = None) -> tf.Tensor:
        # The parent's sample has the gradient of a normal that is not truncated. Truncating a
        # standard normal instead makes the chain rule pass through the bounds.
        bounds = [(bound - self.loc) / self.scale for bound in (self.low, self.high)]
        standard = tfd.TruncatedNormal(tf.zeros_like(bounds[0]), 1.0, *bounds)
        value = self.loc + self.scale * standard.sample(n, seed=seed)
        low, high = self.low + self._MARGIN, self.high - self._MARGIN
        return value + tf.stop_gradient(tf.clip_by_value(value, low, high) - value)


class TanhNormal:
    """``tanh`` of a normal, over vectors of shape ``(..., dim)``.

    Unlike estimates from samples, the entropy is deterministic and differentiable: the entropy
    of the normal plus the expected log-derivative of tanh, by Gauss-Hermite quadrature.
    """

    _NODES = 32

    def __init__(self, mean: tf.Tensor, std: tf.Tensor) -> None:
        self._mean = mean
        self._std = std
        self._normal = tfd.Normal(mean, std)

    def sample(self, seed: tf.Tensor) -> tf.Tensor:
        """Draw a reparameterised sample of shape ``(..., dim)`` in (-1, 1)."""
        return tf.tanh(self._normal.sample(seed=seed))

    def mode(self) -> tf.Tensor:
        """Return ``tanh(mean)``, the median and the usual evaluation action."""
        return tf.tanh(self._mean)

    def log_prob(self, value: tf.Tensor) -> tf.Tensor:
        """Return the log-density of shape ``(...)``; values are kept off the bounds."""
        limit = 1.0 - 1e-6
        clipped = value + tf.stop_gradient(tf.clip_by_value(value, -limit, limit) - value)
        pre = tf.atanh(clipped)
        return tf.reduce_sum(self._normal.log_prob(pre) - self._log_slope(pre), -1)

    def entropy(self) -> tf.Tensor:
        """Return the differential entropy in nats, of shape ``(...)``."""
        nodes, weights = np.polynomial.hermite_e.hermegauss(self._NODES)
        weights = (weights / weights.sum()).astype(np.float32)
        points = self._mean[..., None] + self._std[..., None] * nodes.astype(np.float32)
        slope = tf.reduce_sum(self._log_slope(points) * weights, -1)
        return tf.reduce_sum(self._normal.entropy() + slope, -1)

    @staticmethod
    def _log_slope(pre: tf.Tensor) -> tf.Tensor:
        # log(1 - tanh(x)^2), in a form that neither overflows nor cancels.
        return 2.0 * (np.log(2.0).astype(np.float32) - pre - tf.nn.softplus(-2.0 * pre))


def action_noise(
    action: tf.Tensor, amount: float, sizes: tuple[int, ...], discrete: bool, seed: tf.Tensor
) -> tf.Tensor:
    """Disturb actions of shape ``(N, A)``, for exploration.

    Args:
        action: One-hot vectors, concatenated over `sizes`, or values in [-1, 1]; float32.
        amount: Probability of a uniformly random choice per part, or the std of normal noise.
        sizes: Number of choices of each part.
        discrete: Whether actions are one-hot.
        seed: Stateless seed of shape ``(2,)``.

    Returns:
        Actions of the same shape and kind.
    """
    if amount == 0.0:
        return action
    if discrete:
        parts = [
            (1.0 - amount) * part + amount / part.shape[-1]
            for part in tf.split(action, list(sizes), -1)
        ]
        return MultiOneHot(tf.math.log(tf.concat(parts, -1)), sizes).sample(seed)
    noise = tf.random.stateless_normal(tf.shape(action), seed)
    return tf.clip_by_value(action + amount * noise, -1.0, 1.0)
