"""Statistics against rliable's numbers, loops, and what must hold for any scores.

`data/rliable.json` was computed by rliable 1.2.0 with arch 7.2 and pandas 2 (with pandas 3 it can't
be imported): 5 runs of two methods on 4 tasks, intervals of 50,000 resamples (improvement: 20,000).
"""

import json
import pathlib
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamerv2.common import stats

RLIABLE = json.loads((pathlib.Path(__file__).parent / "data" / "rliable.json").read_text())


def arrays(table):
    return {f"t{i}": np.array(values, float)[:, None] for i, values in enumerate(table)}


X, Y = arrays(RLIABLE["x"]), arrays(RLIABLE["y"])
tables = st.lists(
    st.lists(st.integers(-3, 5).map(lambda n: n / 2), min_size=1, max_size=4),
    min_size=1, max_size=4,
)  # fmt: skip


class TestAgainstRliable:
    @pytest.mark.parametrize("name", stats.STATISTICS)
    def test_estimates(self, name):
        computed = stats.STATISTICS[name](X)
        np.testing.assert_allclose(computed, [RLIABLE["estimates"][name]], rtol=1e-12)

    @pytest.mark.parametrize("name", stats.STATISTICS)
    def test_intervals(self, name):
        samples = stats.STATISTICS[name](stats.resample(X, 20000, 0))
        computed = stats.interval(samples)
        np.testing.assert_allclose(computed, RLIABLE["intervals"][name], atol=0.02)

    def test_probability_of_improvement(self):
        np.testing.assert_allclose(stats.improvement(X, Y), [RLIABLE["improvement"]], rtol=1e-12)
        resamples = stats.resample(X, 20000, 0), stats.resample(Y, 20000, 0, 1)
        computed = stats.interval(stats.improvement(*resamples))
        np.testing.assert_allclose(computed, RLIABLE["improvement_interval"], atol=0.011)

    def test_profile(self):
        computed = stats.profile(X, np.array(RLIABLE["thresholds"]))[:, 0]
        np.testing.assert_allclose(computed, RLIABLE["profile"], rtol=1e-12)


class TestAgainstLoops:
    @given(tables)
    def test_median_and_mean(self, table):
        means = [statistics.mean(values) for values in table]
        np.testing.assert_allclose(stats.median(arrays(table)), statistics.median(means))
        np.testing.assert_allclose(stats.mean(arrays(table)), statistics.mean(means), atol=1e-12)

    @given(tables)
    def test_iqm_and_optimality_gap(self, table):
        values = sorted(value for values in table for value in values)
        cut = len(values) // 4
        middle = values[cut : len(values) - cut]
        np.testing.assert_allclose(stats.iqm(arrays(table)), statistics.mean(middle), atol=1e-12)
        gap = statistics.mean(1 - min(value, 1) for value in values)
        np.testing.assert_allclose(stats.optimality_gap(arrays(table)), gap, atol=1e-12)

    @given(tables, tables)
    def test_improvement(self, table, other):
        shares = [
            statistics.mean((a > b) + (a == b) / 2 for a in ours for b in theirs)
            for ours, theirs in zip(table, other, strict=False)
        ]
        computed = stats.improvement(arrays(table), arrays(other))
        np.testing.assert_allclose(computed, statistics.mean(shares))

    def test_known_iqm(self):
        scores = {"a": np.array([[1.0], [100.0], [2.0]]), "b": np.array([[3.0], [-50.0]])}
        assert stats.iqm(scores) == 2.0


class TestProperties:
    @given(tables, tables)
    def test_improvements_of_both_sides_add_up(self, table, other):
        ours, theirs = arrays(table), arrays(other)
        total = stats.improvement(ours, theirs) + stats.improvement(theirs, ours)
        np.testing.assert_allclose(total, 1)
        np.testing.assert_allclose(stats.improvement(ours, ours), 0.5)

    @given(tables)
    def test_profile_falls_from_one_to_zero(self, table):
        curve = stats.profile(arrays(table), np.linspace(-2, 3, 9))[:, 0]
        assert curve[0] == 1 and curve[-1] == 0
        assert (np.diff(curve) <= 0).all()

    @pytest.mark.parametrize(
        ("name", "expected"), [("median", 1), ("iqm", 1), ("mean", 1), ("optimality_gap", 0)]
    )
    def test_of_a_method_equal_to_the_reference(self, name, expected):
        scores = {"a": np.ones((3, 2)), "b": np.ones((5, 2))}
        np.testing.assert_array_equal(stats.STATISTICS[name](scores), [expected] * 2)

    @given(tables, st.randoms())
    def test_intervals_do_not_depend_on_the_order(self, table, random):
        scores = arrays(table)
        shuffled = {t: np.array(random.sample(list(v), len(v))) for t, v in scores.items()}
        shuffled = dict(random.sample(list(shuffled.items()), len(shuffled)))
        first = stats.interval(stats.iqm(stats.resample(scores, 50, 3)))
        second = stats.interval(stats.iqm(stats.resample(shuffled, 50, 3)))
        np.testing.assert_allclose(first, second, atol=1e-12)

    def test_tasks_in_common_are_needed(self):
        with pytest.raises(ValueError, match="no task in common"):
            stats.improvement({"a": np.ones((1, 1))}, {"b": np.ones((1, 1))})


class TestResample:
    def test_draws_from_each_task_as_many_as_it_has(self):
        scores = {"a": np.array([1.0, 2.0, 3.0]), "b": np.array([10.0, 20.0])}
        drawn = stats.resample(scores, 4000, 0)
        assert {task: values.shape for task, values in drawn.items()} == {
            "a": (3, 4000), "b": (2, 4000),
        }  # fmt: skip
        values, counts = np.unique(drawn["a"], return_counts=True)
        assert list(values) == [1, 2, 3]
        np.testing.assert_allclose(counts / counts.sum(), 1 / 3, atol=0.02)
        assert set(np.unique(drawn["b"])) == {10, 20}
        assert abs(np.corrcoef(drawn["b"])[0, 1]) < 0.05

    def test_seed_and_stream_decide(self):
        def draw(*arguments):
            return stats.resample(X, 100, *arguments)["t0"].tolist()

        assert draw(1) == draw(1)
        assert draw(1) != draw(2)
        assert draw(1, 0) != draw(1, 1)

    def test_interval_of_the_mean_is_that_of_theory(self):
        values = np.random.default_rng(0).normal(5, 2, 400)
        low, high = stats.interval(stats.mean(stats.resample({"a": values}, 4000, 0)), 0.9)
        half = 1.645 * values.std() / 20
        np.testing.assert_allclose([low, high], values.mean() + np.array([-half, half]), atol=0.02)

    def test_wider_for_more_confidence(self):
        samples = stats.iqm(stats.resample(X, 500, 0))
        (low, high), (lower, higher) = (stats.interval(samples, c) for c in (0.5, 0.99))
        assert lower < low < high < higher
