"""Products inside a loop, against a loop that is differentiated as it is."""

import numpy as np
import pytest
import tensorflow as tf

from dreamerv2.loop_products import LoopProducts

RNG = np.random.default_rng(0)
TIME, BATCH, UNITS = 6, 3, 4
FIRST = tf.constant(RNG.normal(size=(BATCH, UNITS)), tf.float32)
WEIGHTS = {
    name: tf.constant(0.5 * RNG.normal(size=(UNITS, UNITS)), tf.float32) for name in ("one", "two")
}
ADDED = {
    name: tf.constant(RNG.normal(size=(TIME, BATCH, UNITS)), tf.float32) for name in ("one", "two")
}


def transition(state, linear):
    return tf.tanh(linear("two", tf.sigmoid(linear("one", state))) + state)


def plain(weights, added):
    def step(state, added):
        return transition(state, lambda name, x: x @ weights[name] + added[name])

    return tf.scan(step, added, FIRST)


def with_products(weights, added):
    products = LoopProducts(weights)

    def step(prev, added):
        inputs = {}
        return transition(prev[0], products.step(added, inputs)), inputs

    states, inputs = tf.scan(step, products.before(added), (FIRST, products.no_inputs(BATCH)))
    products.after(inputs)
    return states


def value_and_gradients(function):
    with tf.GradientTape() as tape:
        tape.watch([WEIGHTS, ADDED])
        states = function(WEIGHTS, ADDED)
        loss = tf.reduce_sum(tf.range(1.0, TIME + 1)[:, None, None] * states**2)
    return states, tape.gradient(loss, [WEIGHTS, ADDED])


@pytest.mark.parametrize("call", [lambda f: f, tf.function], ids=["eager", "compiled"])
def test_values_and_gradients_are_those_of_the_plain_loop(call):
    expected, expected_gradients = value_and_gradients(plain)
    states, gradients = call(lambda: value_and_gradients(with_products))()
    np.testing.assert_allclose(states, expected, rtol=1e-5, atol=1e-6)
    for left, right in zip(
        tf.nest.flatten(gradients), tf.nest.flatten(expected_gradients), strict=True
    ):
        assert np.abs(right).max() > 0.1
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-5)


def test_gradients_need_the_inputs():
    products = LoopProducts(WEIGHTS)
    with tf.GradientTape() as tape:
        tape.watch(WEIGHTS)
        loss = tf.reduce_sum(products.before(ADDED)["one"])
    with pytest.raises(AssertionError, match="after"):
        tape.gradient(loss, WEIGHTS)
