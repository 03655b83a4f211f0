import math

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from tiny import gradient, numeric_gradient, softmax

from dreamerv2 import distributions as dists

tfd = tfp.distributions
SEED = tf.constant([3, 5])
LOGITS = np.array([[0.3, -1.2, 2.0], [0.0, 0.0, 0.5]], np.float32)
SIZES = (2, 3)
MULTI_LOGITS = np.array([0.5, -0.5, 1.0, 0.0, -2.0], np.float32)


def normal_pdf(x, mean=0.0, std=1.0):
    return np.exp(-0.5 * ((x - mean) / std) ** 2) / (std * math.sqrt(2 * math.pi))


def integral(y, x):
    """Integrate over the last axis by the trapezoid rule."""
    return ((y[..., 1:] + y[..., :-1]) / 2 * np.diff(x)).sum(-1)


def assert_frequencies(counts, probs):
    """Check that counts are within 4.5 standard deviations of what the probabilities say."""
    total = counts.sum()
    error = np.abs(counts - total * probs)
    assert np.all(error < 4.5 * np.sqrt(total * probs * (1 - probs)) + 1)


def one(kind):
    """Return a single distribution, with batch shape `()`, and its support if continuous."""
    mean, std = tf.constant([0.4, -0.7]), tf.constant([0.6, 0.9])
    return {
        "onehot": lambda: dists.OneHot(tf.constant(LOGITS[0])),
        "multi_onehot": lambda: dists.MultiOneHot(tf.constant(MULTI_LOGITS), SIZES),
        "trunc_normal": lambda: tfd.Independent(dists.TruncatedNormal(mean, std), 1),
        "tanh_normal": lambda: dists.TanhNormal(mean, std),
        "normal": lambda: tfd.Independent(tfd.Normal(mean, std), 1),
    }[kind]()


def draws(dist, count):
    """Draw `count` samples from a distribution without batch shape."""
    seeds = tf.stack(tfp.random.split_seed(SEED, count))
    return tf.vectorized_map(lambda seed: dist.sample(seed=seed), seeds)


ALL = ("onehot", "multi_onehot", "trunc_normal", "tanh_normal", "normal")


@pytest.mark.parametrize("kind", ALL)
def test_entropy_is_the_mean_negative_log_prob_of_samples(kind):
    dist = one(kind)
    samples = draws(dist, 20000)
    log_prob = np.asarray(dist.log_prob(samples))
    error = log_prob.std() / np.sqrt(len(log_prob))
    assert abs(float(dist.entropy()) + log_prob.mean()) < 4 * error


@pytest.mark.parametrize("kind", ALL)
def test_samples_repeat_with_the_seed_and_compiled(kind):
    dist = one(kind)
    first = np.asarray(dist.sample(seed=SEED))
    np.testing.assert_array_equal(dist.sample(seed=SEED), first)
    compiled = tf.function(lambda seed: one(kind).sample(seed=seed))
    np.testing.assert_allclose(compiled(SEED), first, rtol=1e-6)
    many = np.asarray(draws(dist, 50))
    assert len(np.unique(many, axis=0)) > 1
    assert many.dtype == np.float32


@pytest.mark.parametrize("kind", ["trunc_normal", "tanh_normal"])
def test_density_integrates_to_one(kind):
    grid = np.linspace(-1 + 1e-5, 1 - 1e-5, 801).astype(np.float32)
    points = np.stack(np.meshgrid(grid, grid, indexing="ij"), -1)
    density = np.exp(np.asarray(one(kind).log_prob(tf.constant(points))))
    total = integral(integral(density, grid), grid)
    assert total == pytest.approx(1.0, abs=5e-3)


def test_one_hot_probabilities_sum_to_one_and_match_softmax():
    dist = dists.OneHot(tf.constant(LOGITS))
    probs = np.exp([dist.log_prob(tf.one_hot([k, k], 3)) for k in range(3)]).T
    np.testing.assert_allclose(probs, softmax(LOGITS), rtol=1e-5)
    entropy = -(softmax(LOGITS) * np.log(softmax(LOGITS))).sum(-1)
    np.testing.assert_allclose(dist.entropy(), entropy, rtol=1e-5)


def test_one_hot_frequencies():
    samples = np.asarray(dists.OneHot(tf.constant(LOGITS)).sample(20000, seed=SEED))
    np.testing.assert_allclose(samples.sum(-1), 1.0, atol=1e-6)
    counts = np.round(samples).sum(0)
    for row, probs in zip(counts, softmax(LOGITS), strict=True):
        assert_frequencies(row, probs)


@pytest.mark.parametrize("draw", ["sample", "mode"])
def test_one_hot_gradient_is_that_of_the_probabilities(draw):
    weights = np.array([[1.0, -2.0, 0.5], [3.0, 0.1, -1.0]], np.float32)

    def value(logits):
        dist = dists.OneHot(logits)
        chosen = dist.mode() if draw == "mode" else dist.sample(seed=SEED)
        return chosen * weights

    expected = numeric_gradient(lambda logits: tf.nn.softmax(logits) * weights, LOGITS)
    np.testing.assert_allclose(gradient(value, LOGITS), expected, atol=1e-3)
    chosen = np.asarray(value(tf.constant(LOGITS)) / weights)
    np.testing.assert_allclose(np.sort(chosen, -1), [[0, 0, 1]] * 2, atol=1e-6)
    if draw == "mode":
        np.testing.assert_array_equal(np.argmax(chosen, -1), np.argmax(LOGITS, -1))


def test_one_hot_kl():
    other = LOGITS[::-1].copy()
    kl = tfd.kl_divergence(dists.OneHot(tf.constant(LOGITS)), dists.OneHot(tf.constant(other)))
    p, q = softmax(LOGITS), softmax(other)
    np.testing.assert_allclose(kl, (p * np.log(p / q)).sum(-1), rtol=1e-5)


def test_multi_one_hot_is_its_parts():
    logits = np.stack([MULTI_LOGITS, MULTI_LOGITS[::-1]])
    dist = dists.MultiOneHot(tf.constant(logits), SIZES)
    left, right = dists.OneHot(logits[:, :2]), dists.OneHot(logits[:, 2:])
    value = np.array([[1, 0, 0, 1, 0], [0, 1, 0, 0, 1]], np.float32)
    expected = left.log_prob(value[:, :2]) + right.log_prob(value[:, 2:])
    np.testing.assert_allclose(dist.log_prob(tf.constant(value)), expected)
    np.testing.assert_allclose(dist.entropy(), left.entropy() + right.entropy())
    np.testing.assert_array_equal(dist.mode(), tf.concat([left.mode(), right.mode()], -1))
    assert dist.sample(seed=SEED).shape == (2, 5)


def test_multi_one_hot_parts_are_independent():
    samples = np.round(draws(dists.MultiOneHot(tf.zeros(6), (3, 3)), 9000))
    joint = np.einsum("ni,nj->ij", samples[:, :3], samples[:, 3:])
    assert joint.sum() == 9000
    assert_frequencies(joint, np.full((3, 3), 1 / 9))


def test_multi_one_hot_gradient_reaches_all_logits():
    weights = np.array([1.0, 2.0, -1.0, 0.5, 3.0], np.float32)

    def probs(logits):
        return tf.concat([tf.nn.softmax(logits[:2]), tf.nn.softmax(logits[2:])], -1) * weights

    found = gradient(
        lambda logits: dists.MultiOneHot(logits, SIZES).sample(SEED) * weights, MULTI_LOGITS
    )
    np.testing.assert_allclose(found, numeric_gradient(probs, MULTI_LOGITS), atol=1e-3)


LOC = np.array([0.0, 0.5, -0.99, 0.9], np.float32)
SCALE = np.array([0.3, 1.5, 0.1, 2.0], np.float32)


@pytest.mark.parametrize(("loc", "scale"), list(zip(LOC, SCALE, strict=True)))
def test_truncated_normal_against_a_normalised_density(loc, scale):
    dist = dists.TruncatedNormal(tf.constant(loc), tf.constant(scale))
    grid = np.linspace(-1, 1, 20001)
    density = normal_pdf(grid, loc, scale)
    density /= integral(density, grid)
    inside = grid[50:-50:500]
    log_density = np.log(density[50:-50:500])
    likely = log_density > -30
    np.testing.assert_allclose(
        np.asarray(dist.log_prob(inside.astype(np.float32)))[likely], log_density[likely],
        rtol=1e-3, atol=2e-3,
    )  # fmt: skip
    entropy = -integral(density * np.log(density + 1e-300), grid)
    assert float(dist.entropy()) == pytest.approx(entropy, abs=2e-3)
    assert float(dist.mode()) == pytest.approx(loc)
    samples = np.sort(dist.sample(4000, seed=SEED))
    cumulative = np.cumsum(density) / density.sum()
    distance = np.abs(np.interp(samples, grid, cumulative) - np.arange(4000) / 4000).max()
    assert distance < 1.95 / math.sqrt(4000)  # Kolmogorov-Smirnov, p = 0.001


def test_truncated_normal_samples_stay_off_the_bounds():
    dist = dists.TruncatedNormal(tf.ones(2000), tf.fill([2000], 0.01))
    samples = dist.sample(seed=SEED)
    assert np.max(samples) <= 1 - 1e-6
    assert np.all(np.isfinite(dist.log_prob(samples)))
    slope = gradient(lambda loc: dists.TruncatedNormal(loc, 0.01).sample(seed=SEED), np.ones(50))
    assert np.all(np.isfinite(slope))


def truncated_cdf(x, loc, scale):
    low, high, at = (0.5 * (1 + math.erf((v - loc) / scale / math.sqrt(2))) for v in (-1, 1, x))
    return (at - low) / (high - low)


@pytest.mark.parametrize("jit", ["off", "graph", "xla"])
def test_truncated_normal_sample_gradient_is_implicit_differentiation(jit):
    # A sample x has cdf(x, loc, scale) = u, so dx/dloc = -(dcdf/dloc) / (dcdf/dx).
    def sample(loc, scale):
        with tf.GradientTape() as tape:
            tape.watch([loc, scale])
            x = dists.TruncatedNormal(loc, scale).sample(seed=SEED)
        return x, *tape.gradient(x, [loc, scale])

    function = sample if jit == "off" else tf.function(sample, jit_compile=jit == "xla")
    locs, scales = np.tile(LOC, 50), np.tile(SCALE, 50)
    x, dloc, dscale = function(tf.constant(locs), tf.constant(scales))
    eps = 1e-5
    for i, (loc, scale) in enumerate(zip(locs.astype(float), scales.astype(float), strict=True)):
        point = np.array([float(x[i]), loc, scale])
        slopes = [
            (truncated_cdf(*(point + eps * unit)) - truncated_cdf(*(point - eps * unit))) / 2 / eps
            for unit in np.eye(3)
        ]
        assert float(dloc[i]) == pytest.approx(-slopes[1] / slopes[0], rel=1e-2, abs=2e-3)
        assert float(dscale[i]) == pytest.approx(-slopes[2] / slopes[0], rel=1e-2, abs=2e-3)


def test_truncated_normal_entropy_gradient():
    def entropy(scale):
        return dists.TruncatedNormal(tf.constant([0.2, -0.5]), scale).entropy()

    x = np.array([0.4, 1.1], np.float32)
    np.testing.assert_allclose(gradient(entropy, x), numeric_gradient(entropy, x), atol=5e-3)


def test_tanh_normal_density_by_change_of_variables():
    dist, value = one("tanh_normal"), np.array([0.3, -0.8])
    normal = normal_pdf(np.arctanh(value), np.array([0.4, -0.7]), np.array([0.6, 0.9]))
    expected = (np.log(normal) - np.log(1 - value**2)).sum()
    assert float(dist.log_prob(tf.constant(value, tf.float32))) == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(dist.mode(), np.tanh([0.4, -0.7]), rtol=1e-6)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 0.1), (5.0, 0.1), (0.0, 3.0), (-3.0, 5.0)])
def test_tanh_normal_entropy_by_integration(mean, std):
    x = np.linspace(mean - 9 * std, mean + 9 * std, 20001)
    slope = 2 * (np.log(2) - x - np.logaddexp(0, -2 * x))
    normal_entropy = 0.5 * math.log(2 * math.pi * math.e * std**2)
    expected = normal_entropy + integral(normal_pdf(x, mean, std) * slope, x)
    entropy = dists.TanhNormal(tf.constant([mean]), tf.constant([std])).entropy()
    assert float(entropy) == pytest.approx(expected, abs=0.05)


def test_tanh_normal_is_finite_at_the_bounds_and_far_out():
    dist = dists.TanhNormal(tf.constant([5.0]), tf.constant([0.1]))
    for value in (-1.0, 1.0):
        assert np.isfinite(dist.log_prob(tf.constant([value])))
        slope = gradient(dist.log_prob, np.array([value]))
        assert np.all(np.isfinite(slope))
    far = dists.TanhNormal(tf.constant([80.0]), tf.constant([10.0]))
    assert np.isfinite(far.entropy())


def test_tanh_normal_gradients():
    def sample(mean):
        return dists.TanhNormal(mean, tf.constant([0.6, 0.9])).sample(SEED)

    def entropy(std):
        return dists.TanhNormal(tf.constant([0.4, -0.7]), std).entropy()

    for function, x in [(sample, [0.4, -0.7]), (entropy, [0.6, 0.9])]:
        x = np.array(x, np.float32)
        np.testing.assert_allclose(
            gradient(function, x), numeric_gradient(function, x), rtol=1e-2, atol=1e-3
        )


def noisy(action, *settings, seed=SEED):
    return np.asarray(dists.action_noise(tf.constant(action), *settings, seed))


def test_no_noise_changes_nothing():
    action = np.eye(3, dtype=np.float32)
    for discrete in (True, False):
        np.testing.assert_array_equal(noisy(action, 0.0, (3,), discrete), action)


def test_discrete_noise_picks_uniformly_with_the_given_probability():
    action = np.tile(np.array([0, 1, 0, 0], np.float32), (20000, 1))
    result = noisy(action, 0.4, (4,), True)
    np.testing.assert_allclose(np.sort(result, -1)[:, -1], 1.0, atol=1e-6)
    frequencies = np.round(result).mean(0)
    np.testing.assert_allclose(frequencies, [0.1, 0.7, 0.1, 0.1], atol=0.015)


def test_multi_discrete_noise_disturbs_every_part_on_its_own():
    action = np.tile(np.array([1, 0, 0, 0, 1], np.float32), (20000, 1))
    result = np.round(noisy(action, 1.0, (2, 3), True))
    np.testing.assert_allclose(result.mean(0), [1 / 2] * 2 + [1 / 3] * 3, atol=0.015)


def test_continuous_noise_has_the_given_std_and_stays_in_bounds():
    action = np.zeros((20000, 2), np.float32)
    result = noisy(action, 0.2, (2,), False)
    assert result.std() == pytest.approx(0.2, rel=0.03)
    assert result.mean() == pytest.approx(0.0, abs=0.01)
    assert np.abs(noisy(action + 0.9, 2.0, (2,), False)).max() == 1.0
    np.testing.assert_array_equal(noisy(action, 0.2, (2,), False), result)
    assert np.any(noisy(action, 0.2, (2,), False, seed=SEED + 1) != result)
