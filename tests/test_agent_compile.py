"""The agent compiled in every way, in every precision, and what its graph consists of."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny import IMAGE, VECTOR, agent, batch, values


def train(tiny, updates=2, obs=VECTOR, sample=True):
    metrics = []
    for seed in range(updates):
        data = batch(obs, leading=(2, 3), seed=seed)
        _, step = tiny.train(data, seed, sample=sample)
        metrics.append({key: float(value) for key, value in step.items()})
    return metrics


def observation():
    return {key: value[:, 0] for key, value in batch().items() if key != "action"}


def assert_same_training(jit, sample):
    eager, compiled = agent(), agent({"jit": jit})
    assert compiled.jit == jit
    pairs = zip(train(eager, sample=sample), train(compiled, sample=sample), strict=True)
    for expected, metrics in pairs:
        assert metrics.keys() == expected.keys()
        for key, value in metrics.items():
            assert value == pytest.approx(expected[key], rel=2e-3, abs=2e-4), key
    expected = values(eager.variables())
    for key, value in values(compiled.variables()).items():
        # Adam turns rounding into steps as long as the learning rate where gradients vanish.
        np.testing.assert_allclose(value, expected[key], rtol=1e-3, atol=6e-4, err_msg=key)
    return eager, compiled


def test_graph_is_the_same_as_eager():
    eager, compiled = assert_same_training("graph", sample=True)
    for mode in ("train", "eval"):
        left, right = (tiny.policy(observation(), mode=mode)[0] for tiny in (eager, compiled))
        np.testing.assert_allclose(left, right, atol=1e-6)


@pytest.mark.slow
def test_xla_is_the_same_as_eager():
    # XLA draws other samples from the same seeds, so this compares modes.
    _, compiled = assert_same_training("xla", sample=False)
    action, _ = compiled.policy(observation())
    np.testing.assert_allclose(np.sort(action, -1), [[0, 0, 0, 1]] * 2, atol=1e-6)
    assert np.all(np.isfinite(list(train(compiled, 1)[0].values())))


def test_auto_chooses_by_device():
    expected = "xla" if tf.config.list_logical_devices("GPU") else "graph"
    assert agent({"jit": "auto"}).jit == expected


@pytest.mark.parametrize(("precision", "jit"), [(16, "graph"), ("bfloat16", "off")])
def test_low_precision_trains_and_leaves_keras_alone(precision, jit):
    before = keras.config.dtype_policy().name
    obs = {**IMAGE, **VECTOR}
    tiny = agent({"precision": precision, "jit": jit}, obs)
    start = values(tiny.variables())
    metrics = train(tiny, 8 if precision == 16 else 2, obs)
    skipped = [step["model_skipped"] for step in metrics]
    if precision == 16:  # The first scale may be too large; it falls until it fits.
        scales = [step["model_loss_scale"] for step in metrics]
        assert scales == list(2**15 * 0.5 ** np.cumsum(skipped))
    for step in metrics:
        assert step["actor_skipped"] == step["critic_skipped"] == 0
        finite = {k for k, value in step.items() if np.isfinite(value)}
        assert {k for k in step if k != "model_grad_norm" or not step["model_skipped"]} <= finite
    assert skipped[-1] == 0
    assert keras.config.dtype_policy().name == before
    after = tiny.variables()
    kernels = [k for k in after if k.startswith("weights/") and k.endswith("kernel")]
    assert all(after[k].dtype == tf.float32 for k in kernels)
    assert all(np.any(start[k] != after[k]) for k in kernels)
    exact = train(agent(obs=obs), 1, obs)[0]
    assert metrics[0]["image_loss"] == pytest.approx(exact["image_loss"], rel=1e-2)
    assert metrics[0]["kl_loss"] == pytest.approx(exact["kl_loss"], rel=0.3, abs=0.1)


def operations(tiny, length):
    """Return the types of all operations of one update, in loops and branches too."""
    data = {k: tf.constant(v) for k, v in batch(leading=(2, length)).items()}
    graph = tiny._update_fn.get_concrete_function(
        data, tf.constant(0, tf.int64), None, True
    ).graph.as_graph_def()
    inner = [node.op for function in graph.library.function for node in function.node_def]
    return [node.op for node in graph.node] + inner


def test_the_update_is_a_loop_that_never_leaves_the_graph():
    tiny = agent({"jit": "graph"})
    short, long = operations(tiny, 4), operations(tiny, 9)
    assert abs(len(long) - len(short)) <= 4
    assert not [op for op in short if "PyFunc" in op]
    assert any("While" in op for op in short)


def test_one_trace_serves_all_batches_and_steps():
    tiny = agent({"jit": "graph"})
    train(tiny, 3)
    assert tiny._update_fn.experimental_get_tracing_count() == 1
    state = None
    for _ in range(3):
        _, state = tiny.policy(observation(), state)
    assert tiny._act_fn.traced == 1
