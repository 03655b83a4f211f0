"""Error curves against one-by-one computations."""

from __future__ import annotations

import numpy as np
import pytest

from dreamerv2 import dream_errors
from dreamerv2.dream_errors import Measure

CONTEXT = 2


def brute(truth, prediction, scale=1.0):
    """Mean squared error of every window and step, one number at a time."""
    truth, prediction = np.broadcast_arrays(truth, prediction)
    result = np.zeros(truth.shape[:2])
    for w, t in np.ndindex(*truth.shape[:2]):
        squares = [
            (float(p) - float(q)) ** 2
            for p, q in zip(
                np.ravel(truth[w, t] / scale), np.ravel(prediction[w, t] / scale), strict=True
            )
        ]
        result[w, t] = sum(squares) / len(squares)
    return result


def measured(truth, model, posterior, **options):
    measure = Measure(truth, CONTEXT, **options)
    for part in (slice(0, 3), slice(3, None)):  # In batches, as in use.
        measure.add(truth[part], model[part], posterior[part])
    return measure.errors()


def test_images():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 256, (4, 5, 3, 2, 1), dtype=np.uint8)
    model, posterior = rng.random((2, 4, 5, 3, 2, 1), dtype=np.float32)
    errors = measured(truth, model, posterior)
    pixels = truth / 255
    expected = {
        "model": brute(pixels, model),
        "reconstruction": brute(pixels, posterior),
        "last": brute(pixels, pixels[:, CONTEXT - 1 : CONTEXT]),
        "mean": brute(pixels, sum(pixels[w, t] for w in range(4) for t in range(5)) / 20),
    }
    assert errors.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(errors[name], expected[name], rtol=1e-5)
    assert not errors["last"][:, CONTEXT - 1].any()


def test_vectors_are_relative_to_their_variance():
    rng = np.random.default_rng(1)
    truth = rng.normal(size=(4, 5, 3)).astype(np.float32) * [1, 100, 0.01] + [0, 5, 0]
    truth = np.concatenate([truth, np.full((4, 5, 1), 7)], -1).astype(np.float32)
    model = truth + rng.normal(size=truth.shape).astype(np.float32)
    errors = measured(truth, model, truth)
    flat = truth.reshape(-1, 4).astype(np.float64)
    scale = np.append(flat[:, :3].std(0), 1.0)  # What never changes has no scale.
    np.testing.assert_allclose(errors["model"], brute(truth, model, scale), rtol=1e-4)
    np.testing.assert_allclose(errors["mean"].mean(), 0.75, rtol=1e-4)
    assert not errors["reconstruction"].any()


def test_rewards_and_their_sums():
    rng = np.random.default_rng(2)
    truth, model = rng.normal(size=(2, 4, 5)).astype(np.float32)
    errors = measured(truth, model, truth)
    assert errors.keys() == {"model", "reconstruction", "mean"}
    np.testing.assert_allclose(errors["model"], (truth - model) ** 2, rtol=1e-4)
    np.testing.assert_allclose(errors["mean"], (truth - truth.mean()) ** 2, rtol=1e-4)
    sums = dream_errors.sums(truth, CONTEXT)
    for w, t in np.ndindex(4, 5):
        assert sums[w, t] == pytest.approx(sum(truth[w, CONTEXT : t + 1]), abs=1e-5)
    errors = measured(sums, dream_errors.sums(model, CONTEXT), sums, step_means=True)
    np.testing.assert_allclose(errors["mean"], (sums - sums.mean(0)) ** 2, atol=1e-5)
    total = (model - truth)[:, CONTEXT:].sum(1)
    np.testing.assert_allclose(errors["model"][:, -1], total**2, rtol=1e-3)


def test_confidence_covers_the_spread_of_episodes_not_of_windows():
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(20) * 7, 10)
    level = np.repeat(rng.normal(size=20), 10)[:, None] + np.zeros(3)
    curve = dream_errors.curves({"model": level}, groups, seed=0)["model"]
    np.testing.assert_allclose(curve.mean, level.mean(0))
    width = (curve.high - curve.low) / 2
    expected = 1.96 * level[::10].std() / np.sqrt(20)  # Not sqrt(200).
    np.testing.assert_allclose(width, expected, rtol=0.15)
    assert (curve.low < curve.mean).all()
    assert (curve.mean < curve.high).all()


def test_few_episodes_are_resampled_by_windows():
    values = np.random.default_rng(4).normal(size=(100, 2))
    curve = dream_errors.curves({"x": values}, np.arange(100) % 2, seed=0)["x"]
    np.testing.assert_allclose((curve.high - curve.low) / 2, 1.96 * values.std(0) / 10, rtol=0.15)
    alone = dream_errors.curves({"x": values[:1]}, np.zeros(1, int), seed=0)["x"]
    np.testing.assert_array_equal(alone.low, alone.high)


def test_uneven_episodes_weigh_by_their_windows():
    values = np.array([[1.0]] * 6 + [[0.0]] * 2 + [[0.5], [0.25], [2.0]])
    groups = np.array([0] * 6 + [1] * 2 + [2, 3, 4])
    curve = dream_errors.curves({"x": values}, groups, seed=0)["x"]
    # One resample in 5 ** 5 has a single episode in it, so the ends are mixtures.
    rng = np.random.default_rng(1)
    means = []
    for _ in range(4000):
        drawn = rng.integers(5, size=5)
        means.append(np.concatenate([values[groups == g, 0] for g in drawn]).mean())
    low, high = np.percentile(means, [2.5, 97.5])
    assert curve.low[0] == pytest.approx(low, abs=0.06)
    assert curve.high[0] == pytest.approx(high, abs=0.12)


def test_json_starts_at_the_last_step_of_the_context():
    values = np.arange(10.0).reshape(2, 5)
    described = dream_errors.describe(
        dream_errors.curves({"model": values}, np.arange(2), 0), CONTEXT
    )
    assert described["model"]["mean"] == [3.5, 4.5, 5.5, 6.5]
    assert set(described["model"]) == {"mean", "low", "high"}
