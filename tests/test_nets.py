import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from tiny import randomize, softmax

from dreamerv2 import distributions as dists
from dreamerv2 import heads, nets

tfd = tfp.distributions
RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 4, 5)).astype(np.float32)
HALF = [pytest.param(16, id="float16"), pytest.param("bfloat16", id="bfloat16")]
CALLS = [pytest.param(lambda f: f, id="eager"), pytest.param(tf.function, id="compiled")]


def build(layer, size):
    layer.build((None, size))
    randomize(layer.variables)
    return layer


def weights(layer):
    return {v.path.split("/", 1)[1]: np.array(v) for v in layer.variables}


def np_norm(x, gamma, beta):
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-3) * gamma + beta


def np_elu(x):
    return np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softplus(x):
    return np.logaddexp(0, x)


def test_policies():
    assert nets.dtype_policy(32).compute_dtype == "float32"
    assert nets.dtype_policy("16").compute_dtype == "float16"
    assert nets.dtype_policy("bfloat16").compute_dtype == "bfloat16"
    for precision in nets.PRECISIONS:
        assert nets.dtype_policy(precision).variable_dtype == "float32"


@pytest.mark.parametrize("name", nets.ACTIVATIONS)
def test_activations(name):
    x = np.linspace(-3, 3, 13)
    erf_gelu = 0.5 * x * (1 + np.asarray(tf.math.erf(x / np.sqrt(2))))
    scale, alpha = 1.05070098, 1.67326324
    expected = {
        "none": x, "elu": np_elu(x), "relu": np.maximum(x, 0), "gelu": erf_gelu,
        "silu": x * sigmoid(x), "swish": x * sigmoid(x),
        "selu": scale * np.where(x > 0, x, alpha * np_elu(x)),
        "leaky_relu": np.where(x > 0, x, 0.2 * x), "tanh": np.tanh(x), "sigmoid": sigmoid(x),
        "softplus": softplus(x), "mish": x * np.tanh(softplus(x)),
    }  # fmt: skip
    result = nets.ACTIVATIONS[name](tf.constant(x, tf.float32))
    np.testing.assert_allclose(result, expected[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("call", CALLS)
def test_norm_against_numpy(call):
    norm = build(nets.Norm("layer"), 5)
    w = weights(norm)
    np.testing.assert_allclose(call(norm)(X), np_norm(X, w["gamma"], w["beta"]), atol=1e-5)


def test_no_norm_is_nothing():
    norm = build(nets.Norm("none"), 5)
    assert not norm.variables
    np.testing.assert_array_equal(norm(X), X)


def test_unknown_norm_is_refused():
    with pytest.raises(ValueError, match="norm is 'batch'; it must be none or layer"):
        nets.Norm("batch")


@pytest.mark.parametrize("precision", HALF)
def test_norm_computes_in_float32(precision):
    norm = nets.Norm("layer", dtype=nets.dtype_policy(precision))
    norm.build((None, 64))
    # In float16 the square of 1000 overflows; in bfloat16 1000 and 1001 are equal.
    x = tf.cast(1000 + 8 * RNG.normal(size=(3, 64)), norm.compute_dtype)
    result = norm(x)
    assert result.dtype == norm.compute_dtype
    values = np.array(tf.cast(x, tf.float32))
    np.testing.assert_allclose(tf.cast(result, tf.float32), np_norm(values, 1, 0), atol=2e-2)


@pytest.mark.parametrize("call", CALLS)
def test_linear_parts_sum_to_the_whole(call):
    linear = build(nets.Linear(6), 9)
    left, right = X, RNG.normal(size=(3, 4, 4)).astype(np.float32)
    whole = linear(tf.concat([left, right], -1))

    def parts(left, right):
        return linear.part(left, 0) + linear.part(right, 5, bias=True)

    np.testing.assert_allclose(call(parts)(tf.constant(left), tf.constant(right)), whole, atol=1e-5)
    w = weights(linear)
    expected = np.concatenate([left, right], -1) @ w["kernel"] + w["bias"]
    np.testing.assert_allclose(whole, expected, atol=1e-5)


@pytest.mark.parametrize("precision", HALF)
def test_linear_part_in_compute_type(precision):
    linear = nets.Linear(6, dtype=nets.dtype_policy(precision))
    build(linear, 5)
    part = linear.part(tf.constant(X), 0, bias=True)
    assert part.dtype == linear.compute_dtype
    np.testing.assert_allclose(
        tf.cast(part, tf.float32), tf.cast(linear(tf.constant(X)), tf.float32), atol=5e-2
    )


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("norm", ["layer", "none"])
def test_gru_against_numpy(norm, call):
    cell = build(nets.GRUCell(3, norm), 5)
    x, state = X[:, 0], RNG.normal(size=(3, 3)).astype(np.float32)
    w = weights(cell)
    assert w["gates/kernel"].shape == (5 + 3, 3 * 3)
    gates = np.concatenate([x, state], -1) @ w["gates/kernel"] + w["gates/bias"]
    if norm == "layer":
        gates = np_norm(gates, w.pop("norm/gamma"), w.pop("norm/beta"))
    assert w.keys() == {"gates/kernel", "gates/bias"}
    reset, candidate, update = np.split(gates, 3, -1)
    update = sigmoid(update - 1)
    expected = update * np.tanh(sigmoid(reset) * candidate) + (1 - update) * state
    np.testing.assert_allclose(call(cell)(x, state), expected, atol=1e-5)


@pytest.mark.parametrize("precision", HALF)
def test_gru_computes_its_gates_in_float32(precision):
    cell = build(nets.GRUCell(3, dtype=nets.dtype_policy(precision)), 5)
    exact = build(nets.GRUCell(3), 5)
    for ours, theirs in zip(exact.variables, cell.variables, strict=True):
        ours.assign(theirs)
    gates = tf.cast(RNG.normal(size=(4, 9)), cell.compute_dtype)
    state = tf.cast(RNG.normal(size=(4, 3)), cell.compute_dtype)
    after = cell.next_state(gates, state)
    expected = exact.next_state(tf.cast(gates, tf.float32), tf.cast(state, tf.float32))
    assert after.dtype == cell.compute_dtype
    np.testing.assert_array_equal(after, tf.cast(expected, cell.compute_dtype))


def test_gru_keeps_most_of_its_state_at_first():
    cell = nets.GRUCell(64)
    cell.build((None, 5))
    state = RNG.normal(size=(50, 64)).astype(np.float32)
    after = cell(np.zeros((50, 5), np.float32), state)
    assert np.corrcoef(np.ravel(after), np.ravel(state))[0, 1] > 0.5


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("norm", ["none", "layer"])
def test_stack_against_numpy(norm, call):
    stack = build(nets.Stack([7, 6], "elu", norm), 5)
    w = weights(stack)
    expected = X
    for i in range(2):
        expected = expected @ w[f"dense{i}/kernel"] + w[f"dense{i}/bias"]
        if norm == "layer":
            expected = np_norm(expected, w[f"norm{i}/gamma"], w[f"norm{i}/beta"])
        expected = np_elu(expected)
    np.testing.assert_allclose(call(stack)(X), expected, rtol=1e-4, atol=1e-5)
    assert stack.output_size == 6


def test_empty_stack_is_identity():
    stack = build(nets.Stack([], "elu", "layer"), 5)
    assert stack.output_size == 5
    np.testing.assert_array_equal(stack(X), X)


def output(kind, shape=(2,), sizes=(), min_std=0.1):
    return build(heads.Output(shape, kind, min_std, sizes, name="head"), 5)


def raw(layer, x=X):
    w = weights(layer)
    return [x @ w[f"{n}/kernel"] + w[f"{n}/bias"] for n in ("out", "std") if f"{n}/kernel" in w]


def check_normal(dist, mean, std, value):
    expected = -0.5 * ((value - mean) / std) ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(dist.log_prob(value), expected.sum(-1), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(dist.mode(), mean, rtol=1e-4, atol=1e-5)


def test_mse_is_half_the_squared_error():
    layer = output("mse")
    (mean,) = raw(layer)
    dist = layer.dist(X)
    value = RNG.normal(size=mean.shape).astype(np.float32)
    check_normal(dist, mean, 1.0, value)
    difference = dist.log_prob(mean.astype(np.float32)) - dist.log_prob(value)
    np.testing.assert_allclose(difference, 0.5 * ((value - mean) ** 2).sum(-1), atol=1e-3)


def test_normal_std_is_positive():
    layer = output("normal", min_std=0.3)
    mean, std = raw(layer)
    value = RNG.normal(size=mean.shape).astype(np.float32)
    check_normal(layer.dist(X), mean, softplus(std) + 0.3, value)
    assert np.min(layer.make(tf.zeros(1), tf.constant([-100.0])).stddev()) == pytest.approx(0.3)


def test_binary():
    layer = output("binary")
    (logits,) = raw(layer)
    dist = layer.dist(X)
    for target in (0.0, 1.0, 0.99):  # The discount is a target strictly between the classes.
        value = np.full(logits.shape, target, np.float32)
        expected = value * np.log(sigmoid(logits)) + (1 - value) * np.log(sigmoid(-logits))
        np.testing.assert_allclose(dist.log_prob(value), expected.sum(-1), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(dist.mean(), sigmoid(logits), rtol=1e-4)


def test_one_hot_kinds():
    layer = output("onehot", (5,))
    (logits,) = raw(layer)
    dist = layer.dist(X)
    assert isinstance(dist, dists.OneHot)
    np.testing.assert_allclose(dist.probs_parameter(), softmax(logits), rtol=1e-3, atol=1e-6)
    multi = output("multi_onehot", (5,), (2, 3))
    (logits,) = raw(multi)
    value = np.broadcast_to(np.array([0, 1, 1, 0, 0], np.float32), logits.shape)
    expected = np.log(softmax(logits[..., :2])[..., 1]) + np.log(softmax(logits[..., 2:])[..., 0])
    np.testing.assert_allclose(multi.dist(X).log_prob(value), expected, rtol=1e-3, atol=1e-4)


def test_continuous_kinds_have_the_documented_parameters():
    layer = output("trunc_normal")
    mean, std = raw(layer)
    base = layer.dist(X).distribution
    np.testing.assert_allclose(base.loc, np.tanh(mean), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(base.scale, 2 * sigmoid(std / 2) + 0.1, rtol=1e-3)
    layer = output("tanh_normal")
    mean, std = raw(layer)
    expected = dists.TanhNormal(
        tf.constant(5 * np.tanh(mean / 5), tf.float32), tf.constant(softplus(std) + 0.1, tf.float32)
    )
    value = np.full(mean.shape, 0.4, np.float32)
    np.testing.assert_allclose(
        layer.dist(X).log_prob(value), expected.log_prob(value), rtol=1e-3, atol=1e-4
    )


def test_unknown_dist_is_refused():
    with pytest.raises(ValueError, match="dist is 'beta'; it must be one of mse, normal, binary"):
        heads.Output((2,), "beta")


@pytest.mark.parametrize("kind", heads.Output.KINDS)
@pytest.mark.parametrize("precision", [32, 16, "bfloat16"])
def test_every_kind_is_float32_with_the_leading_shape(kind, precision):
    layer = heads.Output((5,), kind, sizes=(2, 3), dtype=nets.dtype_policy(precision))
    build(layer, 5)
    dist = layer.dist(tf.cast(X, layer.compute_dtype))
    sample = dist.sample(seed=tf.constant([1, 2]))
    assert sample.dtype == dist.mode().dtype == dist.log_prob(sample).dtype == tf.float32
    assert sample.shape == dist.mode().shape == (3, 4, 5)
    assert dist.log_prob(sample).shape == dist.entropy().shape == (3, 4)


@pytest.mark.parametrize("precision", HALF)
def test_values_are_not_rounded_to_the_compute_type(precision):
    layer = build(heads.Output((), "mse", dtype=nets.dtype_policy(precision)), 5)
    x = tf.cast(X, layer.compute_dtype)
    value = layer.dist(x).mean()
    w = weights(layer)
    expected = tf.cast(x, tf.float32) @ w["out/kernel"] + w["out/bias"]
    np.testing.assert_allclose(value, expected[..., 0], rtol=1e-5, atol=1e-5)
    assert np.any(value != tf.cast(tf.cast(value, layer.compute_dtype), tf.float32))


def test_scalar_events_have_no_trailing_axis():
    layer = build(heads.Output((), "mse"), 5)
    assert layer.dist(X).mode().shape == (3, 4)
    assert layer.dist(X).log_prob(tf.zeros([3, 4])).shape == (3, 4)


def test_head_is_stack_and_output():
    head = heads.Head((2,), layers=2, units=7, act="elu", norm="layer", dist="normal", name="head")
    build(head, 5)
    names = {v.path for v in head.variables}
    assert "head/stack/dense1/kernel" in names
    assert "head/out/std/bias" in names
    stack, out = head._stack, head._out
    np.testing.assert_allclose(head.dist(X).mode(), out.dist(stack(X)).mode(), rtol=1e-5)
    # Unknown leading dimensions are fine.
    free = tf.function(lambda x: head(x)[0], input_signature=[tf.TensorSpec([None, None, 5])])
    np.testing.assert_allclose(free(X), head.dist(X).mode(), rtol=1e-4, atol=1e-5)


def test_keras_global_policy_is_not_read():
    before = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy("mixed_float16")
        head = heads.Head(
            (), layers=1, units=4, act="elu", norm="layer", dist="mse", dtype=nets.dtype_policy(32)
        )
        build(head, 5)
        layers = [layer for layer in head._flatten_layers()]
        assert len(layers) == 6
        assert {layer.compute_dtype for layer in layers} == {"float32"}
    finally:
        keras.config.set_dtype_policy(before)
