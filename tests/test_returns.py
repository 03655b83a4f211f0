import numpy as np
import pytest
import tensorflow as tf
from tiny import gradient, numeric_gradient

from dreamerv2.returns import lambda_return, trajectory_weight

RNG = np.random.default_rng(0)
REWARD, VALUE = RNG.normal(size=(2, 6, 3)).astype(np.float32)
DISCOUNT = RNG.uniform(0.2, 1.0, (6, 3)).astype(np.float32)
BOOTSTRAP = RNG.normal(size=3).astype(np.float32)


def n_step(reward, value, discount, bootstrap, start, n):
    """Return n rewards from `start`, then the value."""
    values = np.concatenate([value, bootstrap[None]])
    total, factor = 0.0, 1.0
    for t in range(start, start + n):
        total, factor = total + factor * reward[t], factor * discount[t]
    return total + factor * values[start + n]


def oracle(reward, value, discount, bootstrap, lambda_):
    """Return the exponentially weighted mean of n-step returns, as in the textbook."""
    horizon = len(reward)
    targets = []
    for start in range(horizon):
        longest = horizon - start
        weights = [(1 - lambda_) * lambda_ ** (n - 1) for n in range(1, longest)]
        weights.append(lambda_ ** (longest - 1))
        assert sum(weights) == pytest.approx(1.0)
        steps = [
            n_step(reward, value, discount, bootstrap, start, n) for n in range(1, longest + 1)
        ]
        targets.append(sum(w * step for w, step in zip(weights, steps, strict=True)))
    return np.stack(targets)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("lambda_", [0.0, 0.3, 0.95, 1.0])
def test_lambda_return_is_the_mean_of_n_step_returns(lambda_, compiled):
    function = tf.function(lambda_return) if compiled else lambda_return
    target = function(
        tf.constant(REWARD), tf.constant(VALUE), tf.constant(DISCOUNT), tf.constant(BOOTSTRAP),
        lambda_,
    )  # fmt: skip
    expected = oracle(REWARD, VALUE, DISCOUNT, BOOTSTRAP, lambda_)
    np.testing.assert_allclose(target, expected, rtol=1e-4, atol=1e-5)


def test_lambda_zero_is_one_step_and_one_is_monte_carlo():
    reward, value, discount = np.ones((3, 1)), np.full((3, 1), 10.0), np.full((3, 1), 0.5)
    arguments = [tf.constant(x, tf.float32) for x in (reward, value, discount, [100.0])]
    np.testing.assert_allclose(lambda_return(*arguments, 0.0)[:, 0], [6, 6, 51])
    np.testing.assert_allclose(lambda_return(*arguments, 1.0)[:, 0], [14.25, 26.5, 51])


def test_lambda_return_of_scalars_and_higher_ranks():
    for shape in [(4,), (4, 2, 3)]:
        x = tf.ones(shape)
        target = lambda_return(x, x, x, x[0], 0.5)
        assert target.shape == shape
        np.testing.assert_allclose(np.reshape(target, (4, -1))[:, 0], [2.875, 2.75, 2.5, 2])


def test_a_discount_of_zero_cuts_the_future_off():
    discount = DISCOUNT.copy()
    discount[2] = 0
    changed = VALUE.copy()
    changed[3:] += 100
    before, after = (
        np.asarray(lambda_return(*map(tf.constant, (REWARD, value, discount, BOOTSTRAP)), 0.9))
        for value in (VALUE, changed)
    )
    np.testing.assert_allclose(before[:3], after[:3])
    np.testing.assert_allclose(before[2], REWARD[2])
    assert np.all(before[3:5] != after[3:5])


@pytest.mark.parametrize("index", range(4))
def test_lambda_return_gradient(index):
    arguments = [REWARD[:3], VALUE[:3], DISCOUNT[:3], BOOTSTRAP]
    scale = np.arange(1.0, 10.0, dtype=np.float32).reshape(3, 3)

    def function(x):
        changed = [x if i == index else tf.constant(a) for i, a in enumerate(arguments)]
        return lambda_return(*changed, 0.7) * scale

    x = arguments[index]
    np.testing.assert_allclose(
        gradient(function, x), numeric_gradient(function, x), rtol=1e-2, atol=1e-2
    )


def test_lambda_return_refuses_other_shapes():
    with pytest.raises(ValueError):
        lambda_return(tf.ones([3, 2]), tf.ones([4, 2]), tf.ones([3, 2]), tf.ones([2]), 0.5)


def test_trajectory_weight_is_the_product_of_earlier_discounts():
    weight = trajectory_weight(tf.constant(DISCOUNT))
    for t in range(len(DISCOUNT)):
        np.testing.assert_allclose(weight[t], np.prod(DISCOUNT[:t], 0), rtol=1e-5)


def test_a_terminal_start_has_weight_only_itself():
    weight = trajectory_weight(tf.constant([[0.0, 0.9], [0.9, 0.9], [0.9, 0.0]]))
    np.testing.assert_allclose(weight, [[1, 1], [0, 0.9], [0, 0.81]], rtol=1e-6)


def test_no_gradient_flows_through_weights():
    np.testing.assert_array_equal(gradient(trajectory_weight, DISCOUNT), np.zeros_like(DISCOUNT))
