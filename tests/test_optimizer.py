import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny import same, values

from dreamerv2.optimizer import OPTIMIZERS, Optimizer

START = np.array([1.0, -2.0, 3.0], np.float32)
MATRIX = np.array([[0.5, -1.0]], np.float32)
SETTINGS = {"opt": "adam", "lr": 0.1, "eps": 1e-5, "clip": 0.0, "wd": 0.0}
CALLS = pytest.mark.parametrize("call", [lambda f: f, tf.function], ids=["eager", "compiled"])


class Problem:
    """Two variables, the first of them in the loss ``sum(slope * x)``."""

    def __init__(self, call=lambda f: f, **changes):
        self.x = keras.Variable(START, name="x")
        self.y = keras.Variable(MATRIX, name="y")
        self.optimizer = Optimizer("test", [self.x, self.y], **{**SETTINGS, **changes})
        self.update = call(self._update)

    def _update(self, slope):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(slope * self.x.value)
        return self.optimizer(tape, loss)

    def step(self, slope):
        metrics = self.update(tf.constant(slope, tf.float32))
        return {key.removeprefix("test_"): np.array(value) for key, value in metrics.items()}

    def all(self):
        return values({"x": self.x.value, "y": self.y.value, **self.optimizer.state()})


def np_adam(x, grads, lr=0.1, eps=1e-5, beta1=0.9, beta2=0.999):
    m, v = np.zeros_like(x), np.zeros_like(x)
    for t, grad in enumerate(grads, 1):
        m, v = beta1 * m + (1 - beta1) * grad, beta2 * v + (1 - beta2) * grad**2
        rate = lr * np.sqrt(1 - beta2**t) / (1 - beta1**t)
        x = x - rate * m / (np.sqrt(v) + eps)
    return x


@CALLS
def test_adam_against_numpy(call):
    problem = Problem(call)
    slopes = [np.array(s, np.float32) for s in ([1, -2, 1e-6], [0.5, 3, 0], [-1, 1, 1])]
    for slope in slopes:
        before = np.array(problem.x)
        metrics = problem.step(slope)
        assert metrics["loss"] == pytest.approx(np.sum(slope * before), rel=1e-5)
        assert metrics["grad_norm"] == pytest.approx(np.linalg.norm(slope), rel=1e-5)
        assert metrics["skipped"] == 0
        assert metrics.keys() == {"loss", "grad_norm", "skipped"}
        assert all(m.dtype == np.float32 and m.shape == () for m in metrics.values())
    np.testing.assert_allclose(problem.x, np_adam(START, slopes), rtol=1e-4)
    np.testing.assert_array_equal(problem.y, MATRIX)  # Not in the loss: no gradient, no step.


@CALLS
def test_clipping_to_a_global_norm(call):
    problem = Problem(call, opt="sgd", lr=1.0, clip=2.0)
    slope = np.array([3.0, 0.0, 4.0], np.float32)
    metrics = problem.step(slope)
    assert metrics["grad_norm"] == pytest.approx(5.0)  # Reported as it was before.
    np.testing.assert_allclose(problem.x, START - slope * 2 / 5, rtol=1e-5)
    small = Problem(call, opt="sgd", lr=1.0, clip=10.0)
    small.step(slope)
    np.testing.assert_allclose(small.x, START - slope, rtol=1e-5)


def test_the_norm_is_over_all_variables():
    problem = Problem(opt="sgd", lr=1.0, clip=1.0)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(problem.x.value) + tf.reduce_sum(problem.y.value)
    metrics = problem.optimizer(tape, loss)
    assert float(metrics["test_grad_norm"]) == pytest.approx(np.sqrt(5))
    np.testing.assert_allclose(problem.y, MATRIX - 1 / np.sqrt(5), rtol=1e-5)


@CALLS
def test_decay_takes_a_share_of_all_variables_before_the_step(call):
    problem = Problem(call, opt="sgd", lr=1.0, wd=0.1)
    slope = np.array([1.0, 2.0, -3.0], np.float32)
    problem.step(slope)
    # The step is not decayed, the decay is not scaled by the learning rate.
    np.testing.assert_allclose(problem.x, 0.9 * START - slope, rtol=1e-5)
    np.testing.assert_allclose(problem.y, 0.9 * MATRIX, rtol=1e-5)
    adam = Problem(call, wd=0.1)
    adam.step(slope)
    np.testing.assert_allclose(adam.x, np_adam(0.9 * START, [slope]), rtol=1e-4)


@CALLS
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("scaling", [False, True])
def test_bad_gradients_change_nothing_but_the_scale(bad, scaling, call):
    problem = Problem(call, clip=1.0, wd=0.1, scaling=scaling)
    problem.step([1, 2, 3])
    before = problem.all()
    metrics = problem.step([1, bad, 3])
    after = problem.all()
    assert metrics["skipped"] == 1
    assert not np.isfinite(metrics["grad_norm"])
    assert not np.isfinite(metrics["loss"])
    assert after.pop("good_updates") == 0
    assert before.pop("good_updates") == 1
    scale = after.pop("loss_scale")
    assert scale == before.pop("loss_scale") * (0.5 if scaling else 1.0)
    assert any("iteration" in key for key in after)
    assert same(before, after)
    assert problem.step([1, 2, 3])["skipped"] == 0


@CALLS
def test_scale_doubles_after_good_updates_in_a_row(call, monkeypatch):
    monkeypatch.setattr(Optimizer, "_GROWTH_INTERVAL", 3)
    problem = Problem(call, scaling=True)
    scales = []
    for good in [1, 1, 0, 1, 1, 1, 1, 1, 1, 0]:
        metrics = problem.step([1, 1, 1 if good else np.inf])
        scales.append(float(metrics["loss_scale"]) / 2**15)
    assert scales == [1, 1, 0.5, 0.5, 0.5, 1, 1, 1, 2, 1]


def test_scale_stays_within_limits(monkeypatch):
    monkeypatch.setattr(Optimizer, "_GROWTH_INTERVAL", 1)
    problem = Problem(scaling=True)
    for _ in range(12):
        metrics = problem.step([1, 1, 1])
    assert metrics["loss_scale"] == 2**24
    for _ in range(30):
        metrics = problem.step([1, 1, np.nan])
    assert metrics["loss_scale"] == 1
    assert problem.step([1, 1, 1])["skipped"] == 0


def test_scaling_does_not_change_the_step():
    plain, scaled = Problem(clip=1.0), Problem(clip=1.0, scaling=True)
    for slope in ([1, 2, 3], [-1, 5, 0.1]):
        left, right = plain.step(slope), scaled.step(slope)
        assert left["loss"] == right["loss"]
        assert left["grad_norm"] == pytest.approx(right["grad_norm"])
    np.testing.assert_allclose(plain.x, scaled.x, rtol=1e-6)


def test_scaling_saves_small_gradients_from_underflow():
    def update(scaling):
        x = keras.Variable(np.ones(1, np.float32), name="x")
        optimizer = Optimizer("test", [x], **{**SETTINGS, "opt": "sgd"}, scaling=scaling)
        with tf.GradientTape() as tape:
            half = tf.cast(x.value, tf.float16)
            loss = tf.reduce_sum(tf.cast(half * 1e-4, tf.float32)) * 1e-4
        return float(optimizer(tape, loss)["test_grad_norm"])

    assert update(True) == pytest.approx(1e-8, rel=1e-2)
    assert update(False) != pytest.approx(1e-8, rel=1e-2)


@CALLS
@pytest.mark.parametrize("opt", [*OPTIMIZERS, "sgd"])
def test_every_optimizer_descends_and_lists_its_state(opt, call):
    problem = Problem(call, opt=opt, lr=0.01)
    start = problem.all()
    for _ in range(3):
        problem.step([1, -1, 2])
    assert np.all(np.sign(START - np.array(problem.x)) == [1, -1, 1])
    state = problem.optimizer.state()
    inner = problem.optimizer._opt.variables
    assert len(state) == len(inner) + 2  # No two under one name.
    others = [v for v in inner if v.path != problem.optimizer._opt.learning_rate.path]
    assert {id(v.value) for v in others} <= {id(v) for v in state.values()}
    slots = [key for key in state if "/x_" in key]
    assert len(slots) == {"adam": 2, "adamax": 2, "nadam": 2, "sgd": 0}[opt]
    assert not same(start, problem.all())


@CALLS
@pytest.mark.parametrize("opt", [*OPTIMIZERS, "sgd"])
def test_every_optimizer_makes_the_steps_of_keras(opt, call):
    problem = Problem(call, opt=opt, lr=0.01)
    plain = {"adam": "Adam", "adamax": "Adamax", "nadam": "Nadam", "sgd": "SGD"}[opt]
    extra = {} if opt == "sgd" else {"epsilon": 1e-5}
    optimizer = getattr(keras.optimizers, plain)(0.01, **extra)
    expected = keras.Variable(START)
    for slope in ([1, -1, 2], [0.3, 2, -1], [0, 0, 5]):
        problem.step(slope)
        optimizer.apply([tf.constant(slope, tf.float32)], [expected])
        np.testing.assert_allclose(np.array(problem.x), np.array(expected), rtol=1e-5)


def test_state_restores_the_next_step_exactly():
    problem, other = Problem(), Problem()
    for slope in ([1, 2, 3], [0.1, -4, 1]):
        problem.step(slope)
    state = {"x": other.x.value, "y": other.y.value, **other.optimizer.state()}
    for key, value in problem.all().items():
        state[key].assign(value)
    problem.step([0.3, 0.2, 0.1])
    other.step([0.3, 0.2, 0.1])
    assert same(problem.all(), other.all())


def test_the_loss_must_be_a_scalar():
    problem = Problem()
    with tf.GradientTape() as tape:
        loss = problem.x.value * 2.0
    with pytest.raises(ValueError):
        problem.optimizer(tape, loss)


def test_a_restored_state_does_not_undo_another_learning_rate():
    first = Problem(opt="sgd", lr=0.1)
    first.step(np.ones(3, np.float32))
    second = Problem(opt="sgd", lr=0.5)
    for key, variable in second.optimizer.state().items():
        variable.assign(first.optimizer.state()[key])
    second.step(np.ones(3, np.float32))
    np.testing.assert_allclose(second.x, START - 0.5, rtol=1e-6)
