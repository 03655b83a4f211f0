import numpy as np
import pytest
import tensorflow as tf

from dreamerv2.common.errors import UserError
from dreamerv2.schedules import Schedule

CASES = [
    (0.1, {0: 0.1, 10**9: 0.1}),
    (3, {0: 3.0, 5: 3.0}),
    ("1e-4", {0: 1e-4, 7: 1e-4}),
    ("linear(1,0.5,100)", {0: 1.0, 50: 0.75, 100: 0.5, 1000: 0.5}),
    ("linear( 0, -2, 10 )", {0: 0.0, 5: -1.0, 10: -2.0, 11: -2.0}),
    ("warmup(1000,3e-4)", {0: 0.0, 500: 1.5e-4, 1000: 3e-4, 10**8: 3e-4}),
    ("exp(1,0.2,100)", {0: 1.0, 100: 0.6, 200: 0.4, 10**6: 0.2}),
    ("horizon(10,100,90)", {0: 0.9, 45: 1 - 1 / 55, 90: 0.99, 10**6: 0.99}),
]


@pytest.mark.parametrize(("text", "values"), CASES, ids=[str(text) for text, _ in CASES])
def test_known_values(text, values):
    schedule = Schedule.parse("actor_ent", text)
    compiled = tf.function(schedule)
    for step, expected in values.items():
        for value in (schedule(tf.constant(step, tf.int64)), compiled(tf.constant(step, tf.int64))):
            assert value.dtype == tf.float32
            assert value.shape == ()
            assert float(value) == pytest.approx(expected, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("dtype", [tf.int32, tf.int64, tf.float32])
def test_step_may_have_any_type(dtype):
    schedule = Schedule.parse("actor_ent", "linear(0,1,10)")
    assert float(schedule(tf.constant(3, dtype))) == pytest.approx(0.3)


def test_one_trace_serves_all_steps():
    schedule = Schedule.parse("actor_ent", "linear(0,1,10)")
    compiled = tf.function(schedule)
    for step in range(5):
        compiled(tf.constant(step, tf.int64))
    assert compiled.experimental_get_tracing_count() == 1


def test_linear_never_leaves_its_interval():
    schedule = Schedule.parse("actor_ent", "linear(2,5,7)")
    found = [float(schedule(tf.constant(step))) for step in range(20)]
    np.testing.assert_allclose(found, np.interp(range(20), [0, 7], [2, 5]), rtol=1e-6)


@pytest.mark.parametrize(
    "text",
    [
        "lienar(1,2,3)", "linear(1,2)", "linear(1,2,3,4)", "linear(1,two,3)", "linear", "linear()",
        "warmup(1)", "exp(1,2,3", "linear(1,2,nan)", "linear(inf,2,3)", "", "1;2", "linear((1))",
    ],
)  # fmt: skip
def test_other_text_is_refused_with_the_forms(text):
    with pytest.raises(UserError) as error:
        Schedule.parse("actor_grad_mix", text)
    message = str(error.value)
    assert message.startswith(f"actor_grad_mix is {text!r}; give a number or one of ")
    for form in ("linear(start,end,steps)", "warmup(steps,value)", "exp(start,end,halflife)"):
        assert form in message
    assert message.endswith("horizon(start,end,steps).")


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", float("nan")])
def test_numbers_must_be_finite(text):
    with pytest.raises(UserError, match=r"actor_ent is '?-?(nan|inf)'?; give a finite number or"):
        Schedule.parse("actor_ent", text)


@pytest.mark.parametrize("text", ["linear(1,2,0)", "warmup(-5,1)", "exp(1,0,0)", "horizon(1,2,-3)"])
def test_durations_must_be_positive(text):
    with pytest.raises(UserError) as error:
        Schedule.parse("actor_ent", text)
    assert str(error.value) == (
        f"actor_ent is {text!r}; its duration must be more than 0 agent steps."
    )


@pytest.mark.parametrize("text", ["horizon(0,10,5)", "horizon(5,0.5,5)"])
def test_a_horizon_below_one_step_is_refused(text):
    with pytest.raises(UserError, match="a horizon is at least 1 agent step"):
        Schedule.parse("actor_ent", text)
