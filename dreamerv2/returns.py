"""Returns and weights of imagined trajectories, as pure functions."""

from __future__ import annotations

import tensorflow as tf


def lambda_return(
    reward: tf.Tensor,
    value: tf.Tensor,
    discount: tf.Tensor,
    bootstrap: tf.Tensor,
    lambda_: float,
) -> tf.Tensor:
    r"""Return the lambda target of every step (paper, equation 4).

    For t = 0, ..., H-1, with ``value[H] = bootstrap``:

        target[t] = reward[t] + discount[t] * ((1 - lambda) * value[t+1] + lambda * target[t+1])
        target[H] = bootstrap

    A lambda of 0 gives the one-step return, 1 the discounted Monte Carlo return.

    Args:
        reward: ``(H, ...)`` float32, the reward of being in state t.
        value: ``(H, ...)`` float32, the critic's estimate for state t.
        discount: ``(H, ...)`` float32, the factor from state t to t+1.
        bootstrap: ``(...)`` float32, the estimate for the state after the last.
        lambda_: Mixing factor in [0, 1].

    Returns:
        ``(H, ...)`` float32 targets.
    """
    reward.shape.assert_is_compatible_with(value.shape)
    reward.shape.assert_is_compatible_with(discount.shape)
    next_value = tf.concat([value[1:], bootstrap[None]], 0)
    one_step = reward + discount * next_value * (1.0 - lambda_)
    return tf.scan(
        lambda later, now: now[0] + now[1] * lambda_ * later,
        (one_step, discount),
        bootstrap,
        reverse=True,
    )


def trajectory_weight(discount: tf.Tensor) -> tf.Tensor:
    """Return the probability of still being in the episode, discounted, at each step.

    ``weight[0] = 1`` and ``weight[t] = discount[0] * ... * discount[t-1]``: losses count a state
    by how likely it is reached (paper, section 2.2). Input and output are ``(H, ...)`` float32;
    no gradient flows through the result.
    """
    shifted = tf.concat([tf.ones_like(discount[:1]), discount[:-1]], 0)
    return tf.stop_gradient(tf.math.cumprod(shifted, 0))
