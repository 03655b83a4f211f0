import csv
import pathlib
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamerv2.common import aggregate, score_data
from dreamerv2.common.errors import UserError

PRINTED = pathlib.Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def data():
    return score_data.load()


@pytest.fixture(scope="module")
def scores(data):
    return aggregate.collect(data.select(data.task_sets["atari55"]), 199e6)


def printed(name):
    """The rows of a table as (key, digits)."""
    with (PRINTED / f"{name}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [(row.pop(next(iter(row))), row) for row in rows]


class TestPaper:
    @pytest.mark.parametrize(("method", "row"), printed("table_1"))
    def test_table_1_to_every_digit(self, data, scores, method, row):
        computed = {
            name: f"{aggregate.aggregate(scores[method], data.references, name)[0]:.2f}"
            for name in row
        }
        assert computed == row

    def test_table_k1_to_every_digit(self, data, scores):
        wrong = []
        for task, row in printed("table_k1"):
            values = dict(data.references[task])
            values |= {m: scores[m][task].mean() for m in ("rainbow", "iqn", "dreamerv2")}
            computed = {name: f"{values[name]:.0f}".replace("-0", "0") if abs(values[name]) < 0.5
                        else f"{values[name]:.0f}" for name in row}  # fmt: skip
            wrong += [(task, name) for name in row if computed[name] != row[name]]
        assert not wrong

    def test_shipped_tables_are_the_printed_ones(self, data):
        for table, name in [("table1", "table_1"), ("k1", "table_k1")]:
            content = data.paper[table]
            rows = dict(printed(name))
            assert list(content["rows"]) == list(rows)
            for key, row in rows.items():
                assert content["rows"][key] == [float(value) for value in row.values()]
                assert content["columns"] == list(row)

    def test_the_other_protocol_gives_another_median(self, data, scores):
        median = aggregate.aggregate(
            scores["dreamerv2"], data.references, "gamer_median", "per-seed"
        )
        assert f"{median[0]:.2f}" == "1.79"

    def test_the_wrong_gamer_of_james_bond_would_show(self, data, scores):
        wrong = {**data.references, "atari_james_bond": {"random": 7.0, "gamer": 29.0}}
        mean = aggregate.aggregate(scores["dreamerv2"], wrong, "gamer_mean")
        assert 41 < mean[0] < 43


def run(task="t_a", method="m", seed=0, frames=(1, 2, 3), returns=(1, 2, 3)):
    return score_data.Run("t", task, method, seed, np.array(frames, float),
                          np.array(returns, float), "")  # fmt: skip


class TestScoreAt:
    @pytest.mark.parametrize(
        ("point", "window", "expected"),
        [
            (5, 0, np.nan),
            (10, 0, 1),
            (19, 0, 1),
            (20, 0, 2),
            (1e9, 0, 8),
            (40, 20, 6),  # Bins that end after 20 and up to 40.
            (40, 1, 8),
            (35, 20, 3),  # The last bin before 35 ends at 30.
            (1e9, 30, 14 / 3),
            (1e9, 1e9, 15 / 4),
            (5, 20, np.nan),
        ],
    )
    def test_known_values(self, point, window, expected):
        example = run(frames=(10, 20, 30, 40), returns=(1, 2, 4, 8))
        np.testing.assert_allclose(aggregate.score_at(example, point, window), [expected])

    @given(
        st.lists(st.tuples(st.integers(1, 60), st.integers(-99, 99)), min_size=1, max_size=12,
                 unique_by=lambda bin: bin[0]),
        st.lists(st.integers(0, 80), min_size=1, max_size=5),
        st.sampled_from([0, 1, 7, 100]),
    )  # fmt: skip
    def test_equals_a_loop(self, bins, points, window):
        bins.sort()
        example = run(frames=[b[0] for b in bins], returns=[b[1] for b in bins])
        expected = []
        for point in points:
            past = [(end, value) for end, value in bins if end <= point]
            if not past:
                expected.append(np.nan)
            elif window:
                last = past[-1][0]
                expected.append(statistics.mean(v for end, v in past if end > last - window))
            else:
                expected.append(past[-1][1])
        np.testing.assert_allclose(
            aggregate.score_at(example, np.array(points), window), expected, atol=1e-9
        )


class TestCollect:
    def test_groups_by_method_and_task_with_seeds_in_natural_order(self):
        runs = [
            run(seed="10", returns=(1, 2, 30)),
            run(seed="9", returns=(1, 2, 20)),
            run(seed="9", task="t_b"),
            run(seed="9", method="other", frames=(5, 6, 7)),
        ]
        result = aggregate.collect(runs, np.array([2, 3]))
        assert {m: list(tasks) for m, tasks in result.items()} == {
            "m": ["t_a", "t_b"], "other": ["t_a"],
        }  # fmt: skip
        np.testing.assert_array_equal(result["m"]["t_a"], [[2, 20], [2, 30]])
        np.testing.assert_array_equal(result["other"]["t_a"], [[np.nan, np.nan]])

    def test_takes_a_point_for_each_task(self):
        result = aggregate.collect([run(), run(task="t_b")], {"t_a": 1, "t_b": 3})
        assert (result["m"]["t_a"].item(), result["m"]["t_b"].item()) == (1, 3)


REFERENCES = {
    f"t_{name}": {"random": 10.0 * i, "gamer": 10.0 * i + 5 + i, "record": 10.0 * i + 100}
    for i, name in enumerate("abcde")
}
tables = st.dictionaries(
    st.sampled_from(sorted(REFERENCES)),
    st.lists(st.integers(-50, 400), min_size=1, max_size=4),
    min_size=1,
)


def arrays(table):
    return {task: np.array(values, float)[:, None] for task, values in table.items()}


def brute(table, name, protocol):
    """The protocols spelled out in plain Python."""
    kind, reduce, clip = {
        "gamer_median": ("gamer", statistics.median, False),
        "gamer_mean": ("gamer", statistics.mean, False),
        "record_mean": ("record", statistics.mean, False),
        "clipped_record_mean": ("record", statistics.mean, True),
    }[name]

    def map_score(task, score):
        low, high = REFERENCES[task]["random"], REFERENCES[task][kind]
        value = (score - low) / (high - low)
        return min(value, 1.0) if clip else value

    if protocol == "paper":
        return reduce([map_score(task, sum(v) / len(v)) for task, v in table.items()])
    seeds = min(map(len, table.values()))
    return statistics.mean(
        reduce([map_score(task, v[seed]) for task, v in table.items()]) for seed in range(seeds)
    )


ATARI = ("gamer_median", "gamer_mean", "record_mean", "clipped_record_mean")


class TestAggregate:
    @given(tables, st.sampled_from(ATARI), st.sampled_from(aggregate.PROTOCOLS))
    def test_equals_brute_force(self, table, name, protocol):
        computed = aggregate.aggregate(arrays(table), REFERENCES, name, protocol)
        np.testing.assert_allclose(computed, [brute(table, name, protocol)], atol=1e-9)

    @given(tables, st.sampled_from(ATARI), st.randoms())
    def test_order_of_seeds_and_tasks_does_not_matter(self, table, name, random):
        shuffled = {task: random.sample(values, len(values)) for task, values in table.items()}
        shuffled = dict(random.sample(list(shuffled.items()), len(shuffled)))
        np.testing.assert_allclose(
            aggregate.aggregate(arrays(table), REFERENCES, name),
            aggregate.aggregate(arrays(shuffled), REFERENCES, name), atol=1e-9,
        )  # fmt: skip

    @given(tables, st.sampled_from(aggregate.PROTOCOLS))
    def test_clipping_only_lowers(self, table, protocol):
        clipped = aggregate.aggregate(arrays(table), REFERENCES, "clipped_record_mean", protocol)
        plain = aggregate.aggregate(arrays(table), REFERENCES, "record_mean", protocol)
        assert clipped <= plain + 1e-9
        assert clipped <= 1

    @pytest.mark.parametrize("protocol", aggregate.PROTOCOLS)
    @pytest.mark.parametrize("name", aggregate.AGGREGATES)
    def test_a_method_equal_to_its_references_scores_0_and_1(self, name, protocol):
        references = {t: {**r, "minimum": -1, "maximum": 7} for t, r in REFERENCES.items()}
        low, high = aggregate.NORMALIZERS[aggregate.AGGREGATES[name].kind]
        for reference, expected in [(low, 0), (high, 1)]:
            scores = {task: np.full((3, 2), r[reference]) for task, r in references.items()}
            computed = aggregate.aggregate(scores, references, name, protocol)
            np.testing.assert_allclose(computed, [expected] * 2)

    def test_points_are_independent_of_each_other(self):
        scores = {task: np.random.default_rng(0).normal(size=(3, 4)) for task in REFERENCES}
        whole = aggregate.aggregate(scores, REFERENCES, "gamer_median")
        single = [
            aggregate.aggregate({t: v[:, [i]] for t, v in scores.items()}, REFERENCES,
                                "gamer_median")[0]
            for i in range(4)
        ]  # fmt: skip
        np.testing.assert_array_equal(whole, single)

    def test_leaves_out_seeds_that_have_not_begun(self):
        scores = {"t_a": np.array([[np.nan, 1, np.nan], [5, 3, np.nan]]),
                  "t_b": np.array([[16.0, 16, 16]])}  # fmt: skip
        computed = aggregate.aggregate(scores, REFERENCES, "gamer_mean")
        np.testing.assert_allclose(computed, [(1 + 1) / 2, (0.4 + 1) / 2, np.nan])

    def test_nothing_is_nan(self):
        assert np.isnan(aggregate.aggregate({}, REFERENCES, "gamer_mean"))

    def test_names_the_task_without_a_reference(self):
        with pytest.raises(UserError, match="t_z has no random score"):
            aggregate.aggregate({"t_z": np.ones((1, 1))}, REFERENCES, "gamer_mean")


class TestNames:
    def test_picks_sets_and_tasks_once_in_any_spelling(self, data):
        picked = aggregate.pick_tasks(
            ["atari26", "atari_pong", "atari_Jamesbond", "atari_upndown", "dmc_ball_in_cup_catch"],
            data.task_sets, data.tasks,
        )  # fmt: skip
        assert len(picked) == 27
        assert picked == sorted(picked)
        assert {"atari_james_bond", "dmc_cup_catch"} <= set(picked)

    @pytest.mark.parametrize(
        ("name", "near"),
        [
            ("atari_pung", "mean atari_pong"),
            ("atari55x", "mean atari55"),
            ("dmc_walker_wlk", "mean dmc_walker_walk"),
            ("zzz", "there are atari26"),
        ],
    )
    def test_suggests_the_nearest(self, data, name, near):
        with pytest.raises(UserError, match=f"the task '{name}' is not known; .*{near}"):
            aggregate.pick_tasks([name], data.task_sets, data.tasks)

    def test_natural_order(self):
        names = ["b", "a10", "a9", "a", "10", "9", "a9b"]
        assert sorted(names, key=aggregate.natural) == ["9", "10", "a", "a9", "a9b", "a10", "b"]
