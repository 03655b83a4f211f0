import numpy as np
import pytest
import tensorflow as tf
from tiny import rssm as make
from tiny import softmax

KINDS = pytest.mark.parametrize("discrete", [4, False], ids=["discrete", "gaussian"])


def pair(rssm, seed=0):
    """Return statistics of a posterior and a prior, `(2, 6, ...)`."""
    rng = np.random.default_rng(seed)
    result = []
    for _ in range(2):
        if rssm.latents.classes:
            result.append({"logit": tf.constant(rng.normal(size=(2, 6, 3, 4)), tf.float32)})
        else:
            mean, std = rng.normal(size=(2, 2, 6, 3))
            result.append({"mean": tf.constant(mean, tf.float32), "std": tf.constant(
                np.exp(std), tf.float32)})  # fmt: skip
    return result


def np_kl(left, right):
    left, right = ({k: np.array(v) for k, v in state.items()} for state in (left, right))
    if "logit" in left:
        p, q = softmax(left["logit"]), softmax(right["logit"])
        return (p * np.log(p / q)).sum((-1, -2))
    ratio = left["std"] / right["std"]
    distance = (left["mean"] - right["mean"]) / right["std"]
    return 0.5 * (ratio**2 + distance**2 - 1 - 2 * np.log(ratio)).sum(-1)


def kl_gradients(rssm, post, prior, **settings):
    settings = {"forward": False, "balance": 0.8, "free": 0.0, "free_avg": True, **settings}
    watched = [*post.values(), *prior.values()]
    with tf.GradientTape() as tape:
        tape.watch(watched)
        loss, value = rssm.latents.kl_loss(post, prior, **settings)
    none = tf.UnconnectedGradients.ZERO
    grads = tape.gradient(loss, watched, unconnected_gradients=none)
    flat = [np.concatenate([np.ravel(g) for g in part])
            for part in (grads[: len(post)], grads[len(post) :])]  # fmt: skip
    return np.array(loss), np.array(value), *flat


@pytest.mark.parametrize("forward", [False, True])
@KINDS
def test_kl_value_and_loss(discrete, forward):
    rssm = make(discrete)
    post, prior = pair(rssm)
    expected = np_kl(prior, post) if forward else np_kl(post, prior)
    for balance in (0.0, 0.3, 0.5, 0.8, 1.0):
        loss, value, _, _ = kl_gradients(rssm, post, prior, forward=forward, balance=balance)
        np.testing.assert_allclose(value, expected, rtol=1e-4)
        assert loss == pytest.approx(expected.mean(), rel=1e-4)


@pytest.mark.parametrize("forward", [False, True])
@KINDS
def test_balance_shares_the_gradient(discrete, forward):
    rssm = make(discrete)
    post, prior = pair(rssm)
    prior_only = kl_gradients(rssm, post, prior, forward=forward, balance=1.0)
    post_only = kl_gradients(rssm, post, prior, forward=forward, balance=0.0)
    assert not np.any(prior_only[2])
    assert np.any(prior_only[3])
    assert np.any(post_only[2])
    assert not np.any(post_only[3])
    for balance in (0.3, 0.8):
        mixed = kl_gradients(rssm, post, prior, forward=forward, balance=balance)
        np.testing.assert_allclose(mixed[2], (1 - balance) * post_only[2], atol=1e-6)
        np.testing.assert_allclose(mixed[3], balance * prior_only[3], atol=1e-6)


@pytest.mark.parametrize("forward", [False, True])
@KINDS
def test_a_balance_of_one_half_is_the_plain_kl(discrete, forward):
    rssm = make(discrete)
    post, prior = pair(rssm)
    plain = kl_gradients(rssm, post, prior, forward=forward, balance=0.5)
    # Not halved: each side learns as it does where the KL trains it alone.
    prior_only = kl_gradients(rssm, post, prior, forward=forward, balance=1.0)
    post_only = kl_gradients(rssm, post, prior, forward=forward, balance=0.0)
    np.testing.assert_allclose(plain[2], post_only[2], atol=1e-6)
    np.testing.assert_allclose(plain[3], prior_only[3], atol=1e-6)


def test_forward_swaps_posterior_and_prior():
    rssm = make()
    post, prior = pair(rssm)
    forward = kl_gradients(rssm, post, prior, forward=True, balance=0.8)
    swapped = kl_gradients(rssm, prior, post, forward=False, balance=0.2)
    np.testing.assert_allclose(forward[0], swapped[0], rtol=1e-5)
    np.testing.assert_allclose(forward[2], swapped[3], atol=1e-6)
    np.testing.assert_allclose(forward[3], swapped[2], atol=1e-6)


def test_free_nats_on_the_average():
    rssm = make()
    post, prior = pair(rssm)
    mean = np_kl(post, prior).mean()
    loss, value, post_grad, prior_grad = kl_gradients(rssm, post, prior, free=float(mean + 0.1))
    assert loss == pytest.approx(mean + 0.1, rel=1e-5)
    assert value.mean() == pytest.approx(mean, rel=1e-4)
    assert not np.any(post_grad)
    assert not np.any(prior_grad)
    free = kl_gradients(rssm, post, prior, free=float(mean - 0.1))
    for actual, expected in zip(free, kl_gradients(rssm, post, prior), strict=True):
        np.testing.assert_allclose(actual, expected)


def test_free_nats_at_each_step():
    rssm = make()
    post, prior = pair(rssm)
    kl = np_kl(post, prior)
    free = float(np.median(kl))
    loss, value, post_grad, prior_grad = kl_gradients(rssm, post, prior, free=free, free_avg=False)
    assert loss == pytest.approx(np.maximum(kl, free).mean(), rel=1e-4)
    np.testing.assert_allclose(value, kl, rtol=1e-4)
    for grad in (post_grad, prior_grad):
        moved = np.any(grad.reshape(2, 6, -1) != 0, -1)
        np.testing.assert_array_equal(moved, kl > free)
