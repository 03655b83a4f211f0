"""The stochastic part of the model state: statistics, samples and the KL loss.

Discrete variables are one-hot, of shape ``(..., stoch, classes)``, with statistics `logit`;
Gaussian variables have shape ``(..., stoch)`` and statistics `mean` and `std`. Statistics are
float32 whatever the compute type of the networks.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from dreamerv2 import distributions as dists
from dreamerv2 import replicas

tfd = tfp.distributions
State = dict[str, tf.Tensor]

STD_ACTS = {
    "softplus": tf.nn.softplus,
    "sigmoid": tf.nn.sigmoid,
    "sigmoid2": lambda x: 2.0 * tf.nn.sigmoid(x / 2.0),
    "exp": tf.exp,
}


class Latents:
    """A vector of latent variables.

    Args:
        stoch: Number of variables.
        discrete: Classes per variable, or False for Gaussian variables.
        std_act: Gaussian variables: function from output to std.
        min_std: Gaussian variables: added to the std.
    """

    def __init__(self, stoch: int, discrete: int | bool, std_act: str, min_std: float) -> None:
        self._stoch = stoch
        self._std_act = STD_ACTS[std_act]
        self._min_std = min_std
        self.classes = int(discrete)

    @property
    def size(self) -> int:
        """Length of the variables once they are flat."""
        return self._stoch * (self.classes or 1)

    @property
    def stats_size(self) -> int:
        """Length of the vector that `stats` takes."""
        return self.size if self.classes else 2 * self._stoch

    def zeros(self, batch_size: int | tf.Tensor, dtype: str) -> State:
        """Return variables in `dtype` and statistics, all zero, for `batch_size` sequences."""
        shape = [batch_size, self._stoch, *([self.classes] if self.classes else [])]
        stats = {name: tf.zeros(shape) for name in (["logit"] if self.classes else ["mean", "std"])}
        return {"stoch": tf.zeros(shape, dtype), **stats}

    def flatten(self, stoch: tf.Tensor) -> tf.Tensor:
        """Return the variables as ``(..., size)``."""
        if not self.classes:
            return stoch
        shape = tf.concat([tf.shape(stoch)[:-2], [self.size]], 0)
        return tf.ensure_shape(tf.reshape(stoch, shape), (*stoch.shape[:-2], self.size))

    def stats(self, x: tf.Tensor) -> State:
        """Return the statistics that a network's output ``(..., stats_size)`` stands for."""
        x = tf.cast(x, tf.float32)
        if self.classes:
            shape = tf.concat([tf.shape(x)[:-1], [self._stoch, self.classes]], 0)
            static = (*x.shape[:-1], self._stoch, self.classes)
            return {"logit": tf.ensure_shape(tf.reshape(x, shape), static)}
        mean, std = tf.split(x, 2, -1)
        return {"mean": mean, "std": self._std_act(std) + self._min_std}

    def dist(self, state: State) -> Any:
        """Return the distribution over variables from the statistics in `state`, in float32."""
        if self.classes:
            return tfd.Independent(dists.OneHot(state["logit"]), 1)
        return tfd.MultivariateNormalDiag(state["mean"], state["std"])

    def draw(self, stats: State, seed: tf.Tensor | None, dtype: str) -> tf.Tensor:
        """Return variables in `dtype`: a sample, or without a seed the mode."""
        dist = self.dist(stats)
        return tf.cast(dist.mode() if seed is None else dist.sample(seed=seed), dtype)

    def kl_loss(
        self,
        post: State,
        prior: State,
        *,
        forward: bool,
        balance: float,
        free: float,
        free_avg: bool,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the balanced KL loss (paper, algorithm 2) and the KL of each step.

        The loss is `balance` times KL(sg(posterior), prior), which trains the prior, plus
        ``1 - balance`` times KL(posterior, sg(prior)), which trains the posterior. `forward`
        swaps the arguments of both. A KL below `free` nats costs nothing, on the average over
        the batch (`free_avg`) or at each step.

        A balance of exactly 0.5 means the plain KL without balancing, as in the released code:
        the value is the same, but both gradients are whole instead of halved.

        Returns:
            The loss, a float32 scalar, and the KL of each step, ``(B, T)`` float32.
        """
        left, right = (prior, post) if forward else (post, prior)
        to_right = 1.0 - balance if forward else balance

        def kl(left: State, right: State) -> tf.Tensor:
            return tfd.kl_divergence(self.dist(left), self.dist(right))

        def clip(value: tf.Tensor) -> tf.Tensor:
            if free_avg:
                return tf.maximum(replicas.mean(tf.reduce_mean(value)), free)
            return tf.reduce_mean(tf.maximum(value, free))

        if balance == 0.5:
            value = kl(left, right)
            return clip(value), value
        value = kl(left, _stop(right))
        loss = (1.0 - to_right) * clip(value) + to_right * clip(kl(_stop(left), right))
        return loss, value


def _stop(state: State) -> State:
    return {key: tf.stop_gradient(value) for key, value in state.items()}
