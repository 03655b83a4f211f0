import numpy as np
import pytest

from dreamerv2.common import reports, score_data, stats
from dreamerv2.common.compare import Comparison, compare
from dreamerv2.common.errors import UserError

BOOTSTRAP = reports.Bootstrap(resamples=300, seed=1)


@pytest.fixture(scope="module")
def data():
    return score_data.load()


@pytest.fixture(scope="module")
def published(data):
    return compare(data, baselines=["iqn", "dreamerv2"])


def made(data, scores, own=()):
    """A comparison of made-up scores."""
    arrays = {
        method: {task: np.array(values, float)[:, None] for task, values in tasks.items()}
        for method, tasks in scores.items()
    }
    tasks = sorted({task for tasks in scores.values() for task in tasks})
    return Comparison(data, arrays, dict.fromkeys(tasks, 1e6), frozenset(own), "here", [])


def column(table, name):
    index = [column.name for column in table.columns].index(name)
    return [row[index] for row in table.rows]


def test_aggregates_say_how_many_tasks_and_seeds_are_behind(data):
    scores = {
        "mine": {"atari_pong": [1, 2, 3], "atari_boxing": [4]},
        "iqn": {"atari_pong": [15] * 5},
        "simple": {"atari_pong": [12]},
        "dqn": {},
    }
    table = reports.aggregates(made(data, scores), "T")
    assert [cell.value for cell in column(table, "method")] == ["mine", "IQN", "SimPLe", "DQN"]
    assert [cell.value for cell in column(table, "tasks")] == [2, 1, 1, 0]
    assert [cell.text() for cell in column(table, "seeds")] == ["1-3", "5", "-", "0"]
    assert [cell.text() for cell in column(table, "gamer_median")][2:] == ["0.93", "-"]


def test_tasks_without_references_are_left_out_and_named(data):
    scores = {"mine": {"atari_pong": [14.6], "atari_air_raid": [5], "gym_x": [1]}}
    table = reports.aggregates(made(data, scores), "T")
    np.testing.assert_allclose(column(table, "gamer_mean")[0].value, 1)
    assert "Left out for want of random and gamer and record scores: atari_air_raid, gym_x." in (
        table.notes
    )


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        (["gym_x"], "tasks like gym_x have no reference scores"),
        (["atari_pong", "dmc_walker_walk"], "atari and dmc are not normalised alike"),
        (["atari_air_raid"], "atari_air_raid has no random and gamer and record score"),
    ],
)
def test_what_cannot_be_normalised_is_an_error(data, tasks, message):
    with pytest.raises(UserError, match=message):
        reports.aggregates(made(data, {"mine": {task: [1] for task in tasks}}), "T")


def test_intervals_contain_the_estimate_and_repeat(published):
    table = reports.aggregates(published, "T", "paper", BOOTSTRAP)
    again = reports.aggregates(published, "T", "paper", BOOTSTRAP)
    other = reports.aggregates(published, "T", "paper", reports.Bootstrap(300, 2))
    for name in reports.COLUMNS["atari"]:
        for cell in column(table, name):
            low, high = cell.interval
            assert low <= cell.value <= high
        assert column(table, name) == column(again, name)
        assert column(table, name) != column(other, name)
    assert BOOTSTRAP.note in table.notes
    assert "95% intervals" in BOOTSTRAP.note and "300 resamples, seed 1" in BOOTSTRAP.note


def test_an_interval_needs_several_runs(data):
    scores = {"mine": {"atari_pong": [1], "atari_boxing": [4]}, "b": {"atari_pong": [1, 3]}}
    table = reports.aggregates(made(data, scores, own=["mine"]), "T", "paper", BOOTSTRAP)
    first, second = column(table, "gamer_mean")
    assert first.interval is None
    assert second.interval is not None
    assert "mine has a single run in 2 tasks, which shows no spread." in table.notes


def test_control_has_columns_of_its_own(data):
    table = reports.aggregates(compare(data, baselines=["dreamerv2"], tasks=["dmc"]), "T")
    assert [column.name for column in table.columns] == [
        "method", "range_median", "range_mean", "tasks", "seeds",
    ]  # fmt: skip
    runs = data.select(data.task_sets["dmc"])
    expected = np.mean([run.returns[-1] for run in runs]) / 1000
    np.testing.assert_allclose(column(table, "range_mean")[0].value, expected)


def test_statistics_are_those_of_the_normalised_scores(data, published):
    table = reports.statistics(published, "record", BOOTSTRAP)
    references = data.references
    scores = {
        task: (rows - references[task]["random"])
        / (references[task]["record"] - references[task]["random"])
        for task, rows in published.scores["iqn"].items()
    }
    for name, function in stats.STATISTICS.items():
        np.testing.assert_allclose(column(table, name)[0].value, function(scores)[0])
    assert table.title == "Statistics of record-normalized scores at 199M frames"


class TestImprovement:
    def test_own_methods_against_all_others(self, data):
        scores = {
            "mine": {"gym_a": [3, 4], "gym_b": [1]},
            "iqn": {"gym_a": [2, 3]},
            "dqn": {"gym_c": [5]},
        }
        table = reports.improvement(made(data, scores, own=["mine"]), [], BOOTSTRAP)
        (row,) = table.rows
        assert [cell.value for cell in row] == ["mine", "IQN", 0.875, 1]
        assert row[2].interval[0] <= 0.875 <= row[2].interval[1]

    def test_single_runs_have_no_interval(self, data):
        scores = {"a": {"gym_a": [3]}, "b": {"gym_a": [2]}}
        table = reports.improvement(made(data, scores), ["b"], BOOTSTRAP)
        assert [cell.value for cell in table.rows[0]][:3] == ["b", "a", 0]
        assert table.rows[0][2].interval is None

    def test_errors(self, data):
        comparison = made(data, {"aaa": {"gym_a": [3]}})
        with pytest.raises(UserError, match="there are no two methods"):
            reports.improvement(comparison, [], BOOTSTRAP)
        with pytest.raises(UserError, match="method 'aab' is not known; did you mean aaa"):
            reports.improvement(comparison, ["aab"], BOOTSTRAP)


def test_profiles(data):
    gamer, random = 14.6, -20.7
    scores = {"mine": {"atari_pong": [random, gamer, gamer + 40]}, "dqn": {}}
    table = reports.profiles(made(data, scores), None, [-0.1, 0.0, 0.5, 1.5], BOOTSTRAP)
    assert [column.name for column in table.columns] == ["threshold", "mine"]
    np.testing.assert_allclose([c.value for c in column(table, "mine")], [1, 2 / 3, 2 / 3, 1 / 3])
    assert column(table, "mine")[0].interval == (1, 1)


class TestPerTask:
    def test_has_references_scores_and_seeds(self, data):
        scores = {"mine": {"atari_pong": [1, 2], "gym_x": [7]}, "iqn": {"atari_pong": [5.6]}}
        table = reports.per_task(made(data, scores, own=["mine"]), "T")
        assert [column.name for column in table.columns] == [
            "task", "random", "gamer", "record", "mine", "mine_seeds", "iqn",
        ]  # fmt: skip
        assert [[cell.text() for cell in row] for row in table.rows] == [
            ["atari_pong", "-21", "15", "21", "2", "2", "6"],
            ["gym_x", "-", "-", "-", "7", "1", "-"],
        ]

    def test_frames_of_each_task_if_they_differ(self, data):
        comparison = compare(data, baselines=["dreamerv2"], tasks=["atari_pong", "dmc_cup_catch"])
        table = reports.per_task(comparison, "T")
        assert [cell.text() for cell in column(table, "frames")] == ["199000000", "-"]
