"""Compiled functions called by shapes: the same results, and no more traces than needed."""

import numpy as np
import pytest
import tensorflow as tf

from dreamerv2.programs import Programs


def inputs(rows, dtype=tf.float32):
    x = tf.cast(tf.reshape(tf.range(2 * rows), (rows, 2)), dtype)
    return {"b": x, "a": (x + 1, tf.constant([True] * rows))}


def mixed(tensors, mode):
    first, flags = tensors["a"]
    scale = {"double": 2, "negate": -1}[mode]
    return {"z": scale * first - tensors["b"], "y": [~flags, tf.reduce_sum(first)]}


@pytest.mark.parametrize("xla", [False, True])
def test_results_and_structure_are_those_of_the_function(xla):
    programs = Programs(mixed, xla)
    for mode in ("double", "negate", "double"):
        expected, found = mixed(inputs(3), mode), programs(inputs(3), mode)
        tf.nest.assert_same_structure(expected, found)
        pairs = zip(tf.nest.flatten(expected), tf.nest.flatten(found), strict=True)
        for wanted, value in pairs:
            np.testing.assert_array_equal(wanted, value)


def test_a_program_for_every_shape_dtype_and_mode_and_none_twice():
    programs = Programs(mixed, xla=False)
    calls = [
        (inputs(3), "double"),
        (inputs(4), "double"),
        (inputs(3), "negate"),
        (inputs(3, tf.float64), "double"),
    ]
    for number, call in enumerate(calls, 1):
        programs(*call)
        assert programs.traced == number
    for call in calls:
        assert programs(*call)["z"].shape == call[0]["b"].shape
    assert programs.traced == len(calls)


def test_variables_are_read_at_each_call():
    variable = tf.Variable(1.0)
    programs = Programs(lambda x: x + variable, xla=False)
    assert float(programs(tf.constant(1.0))) == 2.0
    variable.assign(5.0)
    assert float(programs(tf.constant(1.0))) == 6.0


def test_a_trace_that_fails_leaves_nothing_behind():
    programs = Programs(mixed, xla=False)
    programs(inputs(3), "double")
    with pytest.raises(KeyError):
        programs(inputs(3), "triple")
    assert programs.traced == 1
