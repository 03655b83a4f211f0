import json

import numpy as np
import pytest

from dreamerv2.common import compare as module
from dreamerv2.common import score_data
from dreamerv2.common.compare import compare
from dreamerv2.common.errors import UserError


@pytest.fixture(scope="module")
def data():
    return score_data.load()


@pytest.fixture
def write(tmp_path):
    def function(path, frames, returns):
        folder = tmp_path / path
        folder.mkdir(parents=True)
        lines = zip(frames, returns, strict=True)
        text = "".join(json.dumps({"step": s, "eval_return": r}) + "\n" for s, r in lines)
        (folder / "metrics.jsonl").write_text(text)
        return str(tmp_path)

    return function


def value(comparison, method, task):
    return comparison.scores[method][task].mean()


class TestPublished:
    def test_paper(self, data):
        result = compare(data, baselines=["iqn", "dreamerv2"])
        assert list(result.scores) == ["iqn", "dreamerv2"]
        assert result.tasks == list(data.task_sets["atari55"])
        assert set(result.points.values()) == {199e6}
        assert result.where == "at 199M frames"
        assert result.notes == []
        assert result.scores["dreamerv2"]["atari_pong"].shape == (8, 1)

    def test_everybody_at_some_frames(self, data):
        result = compare(data, baselines=["dqn"], tasks=["atari_air_raid"], frames=2.5e6)
        assert result.where == "at 2.5M frames"
        seeds = result.scores["dqn"]["atari_air_raid"][:, 0]
        runs = data.select(["atari_air_raid"], ["dqn"])
        assert sorted(seeds) == sorted(run.returns[1] for run in runs)

    def test_window(self, data):
        result = compare(data, baselines=["dqn"], tasks=["atari_pong"], window=10e6)
        runs = data.select(["atari_pong"], ["dqn"])
        expected = [np.mean(run.returns[-10:]) for run in runs]
        np.testing.assert_allclose(np.sort(result.scores["dqn"]["atari_pong"][:, 0]),
                                   np.sort(expected))  # fmt: skip

    def test_final_scores_come_with_their_protocol(self, data):
        result = compare(data, baselines=["simple", "reactor"], tasks=["simple36"])
        assert value(result, "simple", "atari_alien") == 405.2
        assert value(result, "reactor", "atari_alien") == 4199.4
        assert result.notes[0] == "SimPLe has a score in 26 of 36 tasks."
        assert result.notes[1].startswith("SimPLe: deterministic game, 400k frames")
        assert result.notes[2].startswith("Reactor: deterministic game")

    def test_final_scores_are_not_there_before_the_end(self, data):
        result = compare(data, baselines=["simple", "reactor"], tasks=["atari26"], frames=10e6)
        assert len(result.scores["simple"]) == 26
        assert result.scores["reactor"] == {}
        assert (
            "Reactor has a score in 0 of 26 tasks; its published scores begin at 200M frames."
            in (result.notes)
        )

    def test_control_is_compared_at_the_end(self, data):
        result = compare(data, baselines=["dreamerv2"], tasks=["dmc", "dmc_humanoid_walk"])
        assert result.where == "at the end of training"
        assert len(result.scores["dreamerv2"]) == 21

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"baselines": ["rainbo"]}, "the baseline 'rainbo' is not known; did you mean rainbow"),
            ({"baselines": ["iqn"], "tasks": ["atari_x"]}, "the task 'atari_x' is not known"),
            ({"baselines": ["iqn"], "frames": 1e5}, "no method has a score at 100k frames"),
            ({"baselines": []}, "no method has a score"),
        ],
    )
    def test_errors(self, data, arguments, message):
        with pytest.raises(UserError, match=message):
            compare(data, **arguments)


class TestOwn:
    def test_beside_baselines_at_the_frames_reached(self, data, write):
        write("atari_pong/mine/0", [1e6, 5e6, 7.5e6], [1, 2, 3])
        indir = write("atari_boxing/mine/0", [1e6, 3e6], [4, 6])
        result = compare(data, baselines=["iqn"], indirs=[indir])
        assert result.points == {"atari_boxing": 3e6, "atari_pong": 7.5e6}
        assert result.where == "at 3M to 7.5M frames"
        assert list(result.scores) == ["mine", "iqn"]
        assert result.own == {"mine"}
        assert value(result, "mine", "atari_pong") == 3
        expected = [run.returns[6] for run in data.select(["atari_pong"], ["iqn"])]
        np.testing.assert_allclose(value(result, "iqn", "atari_pong"), np.mean(expected))
        expected = [run.returns[2] for run in data.select(["atari_boxing"], ["iqn"])]
        np.testing.assert_allclose(value(result, "iqn", "atari_boxing"), np.mean(expected))
        assert result.notes == []

    def test_at_given_frames(self, data, write):
        indir = write("atari_pong/mine/0", [1e6, 5e6, 7.5e6], [1, 2, 3])
        result = compare(data, baselines=["iqn"], indirs=[indir], frames=5e6)
        assert value(result, "mine", "atari_pong") == 2

    def test_points_are_averaged_in_bins(self, data, write):
        indir = write("atari_pong/mine/0", [0.5e6, 1e6, 1.2e6, 1.4e6], [9, 9, 1, 2])
        assert value(compare(data, baselines=[], indirs=[indir]), "mine", "atari_pong") == 1.5
        result = compare(data, baselines=[], indirs=[indir], bins=0.2e6)
        assert value(result, "mine", "atari_pong") == 2

    def test_runs_that_stopped_early_are_named(self, data, write):
        write("atari_pong/mine/0", [10e6], [1])
        write("atari_pong/mine/1", [9.5e6], [3])
        indir = write("atari_pong/mine/2", [2e6], [5])
        result = compare(data, baselines=[], indirs=[indir])
        assert value(result, "mine", "atari_pong") == 3
        assert result.notes == [
            "Of 3 runs of mine, 1 stopped before the others, at 2M frames or later; the last value "
            "is kept."
        ]

    def test_only_tasks_with_own_runs_are_compared(self, data, write):
        write("dmc_walker_walk/mine/0", [1e6], [5])
        indir = write("atari_pong/mine/0", [2e6], [1])
        result = compare(data, baselines=["iqn"], indirs=[indir], tasks=["atari55"])
        assert result.tasks == ["atari_pong"]
        assert "54 have no run of your own and are left out" in result.notes[0]
        with pytest.raises(UserError, match="none of the tasks asked for has a run of your own"):
            compare(data, baselines=["iqn"], indirs=[indir], tasks=["atari_boxing"])

    def test_earlier_than_every_baseline(self, data, write):
        indir = write("atari_pong/mine/0", [2e5, 4e5], [-21, -20])
        result = compare(data, baselines=["iqn"], indirs=[indir])
        assert value(result, "mine", "atari_pong") == -20.5
        assert result.scores["iqn"] == {}
        assert result.notes == [
            "IQN has a score in 0 of 1 tasks; its published scores begin at 1M frames."
        ]

    def test_baselines_that_know_none_of_the_tasks(self, data, write):
        indir = write("dmc_walker_walk/mine/0", [1e6], [5])
        arguments = {"baselines": ["iqn", "dreamerv2"], "indirs": [indir]}
        assert list(compare(data, **arguments).scores) == ["mine", "iqn", "dreamerv2"]
        assert list(compare(data, **arguments, optional=True).scores) == ["mine", "dreamerv2"]

    def test_unknown_tasks_are_kept(self, data, write):
        indir = write("gym_thing/mine/0", [10], [1])
        result = compare(data, baselines=["iqn"], indirs=[indir])
        assert value(result, "mine", "gym_thing") == 1
        assert result.notes[0].startswith("The task 'gym_thing' is not known")
        assert compare(data, baselines=[], indirs=[indir], tasks=["gym_thing"]).tasks


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (199e6, "199M"),
        (1.5e6, "1.5M"),
        (4e5, "400k"),
        (2e10, "20B"),
        (12, "12"),
        (123456, "123.5k"),
    ],
)
def test_count(number, text):
    assert module.count(number) == text
