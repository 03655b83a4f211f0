import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamerv2.common import runs, score_data
from dreamerv2.common.errors import UserError

KNOWN = ("atari_james_bond", "atari_pong", "dmc_cup_catch")


@pytest.fixture
def write(tmp_path):
    def function(path, lines=((1, 10.0), (2, 20.0)), metric="eval_return", **config):
        folder = tmp_path / path
        folder.mkdir(parents=True, exist_ok=True)
        text = "".join(json.dumps({"step": step, metric: value}) + "\n" for step, value in lines)
        (folder / "metrics.jsonl").write_text(text)
        if config:
            text = "".join(f"{key}: {value}\n" for key, value in config.items())
            (folder / "config.yaml").write_text("logdir: x\nrssm:\n  task: wrong\n" + text)
        return folder

    return function


def read(*indirs, **kwargs):
    return runs.read(indirs, known=KNOWN, taken=("dreamerv2", "dqn"), **kwargs)


def keys(result):
    return [(run.task, run.method, run.seed) for run in result.runs]


class TestIdentity:
    def test_layout(self, write, tmp_path):
        write("atari_pong/mine/10")
        write("atari_pong/mine/9")
        write("atari_jamesbond/other/0")
        result = read(tmp_path)
        assert keys(result) == [
            ("atari_james_bond", "other", "0"),
            ("atari_pong", "mine", "9"),
            ("atari_pong", "mine", "10"),
        ]
        assert result.notes == ()
        run = result.runs[1]
        assert (run.suite, run.final) == ("atari", False)
        assert run.source == str(tmp_path / "atari_pong/mine/9")
        np.testing.assert_array_equal(run.frames, [1, 2])
        np.testing.assert_array_equal(run.returns, [10, 20])

    @pytest.mark.parametrize("inside", ["", "atari_pong", "atari_pong/mine", "atari_pong/mine/3"])
    def test_layout_is_seen_from_within(self, write, tmp_path, inside, monkeypatch):
        write("atari_pong/mine/3")
        assert keys(read(tmp_path / inside)) == [("atari_pong", "mine", "3")]
        monkeypatch.chdir(tmp_path / inside)
        assert keys(read(".")) == [("atari_pong", "mine", "3")]

    def test_configuration_without_layout(self, write, tmp_path):
        write("tests/first", task="atari_pong", seed=4, action_repeat=4)
        write("tests/second", task="'dmc_ball_in_cup_catch'  # a comment", seed=5)
        assert keys(read(tmp_path / "tests")) == [
            ("atari_pong", "tests", "4"), ("dmc_cup_catch", "tests", "5"),
        ]  # fmt: skip
        assert keys(read(tmp_path / "tests/first")) == [("atari_pong", "first", "4")]

    def test_configuration_and_layout(self, write, tmp_path):
        write("atari_jamesbond/mine/run1", task="atari_jamesbond", seed=0)
        write("elsewhere/mine/run2", task="atari_pong", seed=7)
        assert keys(read(tmp_path)) == [
            ("atari_james_bond", "mine", "run1"), ("atari_pong", tmp_path.name, "7"),
        ]  # fmt: skip

    def test_reads_what_the_configuration_writes(self, tmp_path):
        from dreamerv2.common.config import Config

        config = Config({"task": "gym_Some-v1", "seed": 3, "action_repeat": 4, "a": {"task": "x"}})
        config.save(tmp_path / "config.yaml")
        assert runs._config(tmp_path / "config.yaml") == {
            "task": "gym_Some-v1", "seed": "3", "action_repeat": "4",
        }  # fmt: skip

    def test_methods_that_are_published_get_another_name(self, write, tmp_path):
        write("atari_pong/dreamerv2/0")
        assert keys(read(tmp_path)) == [("atari_pong", "dreamerv2 (own)", "0")]

    def test_folders_of_one_seed_count_as_several(self, write, tmp_path):
        first = write("logs/a", task="atari_pong", seed=0)
        write("logs/b", task="atari_pong", seed=0)
        result = read(tmp_path / "logs")
        assert len(set(keys(result))) == 2
        assert str(first) in result.notes[0]
        assert "counts as a seed of its own" in result.notes[0]

    def test_a_folder_named_twice_is_read_once(self, write, tmp_path):
        write("atari_pong/mine/0")
        assert len(read(tmp_path, tmp_path / "atari_pong").runs) == 1

    def test_does_not_search_below_a_log_folder(self, write, tmp_path):
        write("atari_pong/mine/0")
        write("atari_pong/mine/0/replay/deeper/still")
        assert len(read(tmp_path).runs) == 1

    def test_other_workers_of_a_run_are_no_runs(self, write, tmp_path):
        write("atari_pong/mine/0", task="atari_pong", seed=0)
        write("atari_pong/mine/0/workers/1", task="atari_pong", seed=0)
        write("atari_pong/mine/1", task="atari_pong", seed=1)
        write("atari_pong/mine/1/workers/1", task="atari_pong", seed=1)
        (tmp_path / "atari_pong/mine/1/metrics.jsonl").unlink()  # It has just begun.
        assert keys(read(tmp_path)) == [("atari_pong", "mine", "0")]


class TestOddities:
    def test_a_good_run_beside_bad_ones(self, write, tmp_path):
        write("atari_pong/mine/0")
        write("atari_pong/mine/1", metric="train_return")
        write("atari_pong/mine/2", lines=())
        broken = write("atari_pong/mine/3")
        (broken / "metrics.jsonl").write_text('{"step": 1, "eval_return": 1}\n{"step": 2, "eval_re')
        resumed = [(10, 1.0), (20, 2.0), (30, 3.0), (20, 4.0), (30, float("nan"))]
        write("atari_pong/mine/4", lines=resumed)
        write("atari_pung/mine/0")
        write("stray")
        (tmp_path / "empty").mkdir()
        result = read(tmp_path, tmp_path / "empty", tmp_path / "gone")
        assert keys(result) == [
            ("atari_pong", "mine", "0"),
            ("atari_pong", "mine", "3"),
            ("atari_pong", "mine", "4"),
            ("atari_pung", "mine", "0"),
        ]
        assert [run.frames.tolist() for run in result.runs[1:3]] == [[1], [10, 20]]
        assert result.runs[2].returns.tolist() == [1, 4]
        notes = "\n".join(result.notes)
        for sentence in [
            "mine/1 is left out because it has no eval_return; it has train_return",
            "mine/2 is left out because it has no eval_return; it has no metric yet",
            "mine/3 has broken lines in metrics.jsonl; 1 of 2 are skipped",
            "mine/4 went back in steps, as a resumed run does; earlier values of eval_return give "
            "way to later ones, 2 in all",
            "mine/4 has lines whose eval_return is not finite; 1 are skipped",
            "The task 'atari_pung' is not known; did you mean atari_pong?; its runs are read",
            "stray is left out because it has no config.yaml that names its task and its path does",
            "empty has no metrics.jsonl in it",
            "gone is not a folder",
        ]:
            assert sentence in notes
        assert len(result.notes) == 9

    def test_different_action_repeats(self, write, tmp_path):
        for seed, repeat in enumerate([4, 4, 1]):
            write(f"atari_pong/mine/{seed}", task="atari_pong", action_repeat=repeat)
        write("dmc_cup_catch/mine/0", task="dmc_cup_catch", action_repeat=2)
        result = read(tmp_path)
        assert len(result.runs) == 4
        (note,) = result.notes
        assert "atari_pong have the action repeats 1 (1 run) and 4 (2 runs)" in note

    @pytest.mark.parametrize(
        ("path", "message"),
        [("empty", "has no metrics.jsonl"), ("gone", "is not a folder"),
         ("empty/file", "is not a folder"), ("train", "it has no eval_return")],
    )  # fmt: skip
    def test_nothing_to_read_is_an_error(self, write, tmp_path, path, message):
        (tmp_path / "empty").mkdir()
        (tmp_path / "empty/file").touch()
        write("train/atari_pong/mine/0", metric="train_return")
        with pytest.raises(UserError, match=message):
            read(tmp_path / path)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
    def test_file_without_permission(self, write, tmp_path):
        write("atari_pong/mine/0")
        (write("atari_pong/mine/1") / "metrics.jsonl").chmod(0)
        result = read(tmp_path)
        assert len(result.runs) == 1
        assert "can't be read and is left out: Permission denied" in result.notes[0]

    def test_a_metrics_folder_is_no_file(self, write, tmp_path):
        write("atari_pong/mine/0")
        (tmp_path / "atari_pong/mine/1/metrics.jsonl").mkdir(parents=True)
        assert len(read(tmp_path).runs) == 1


class TestSeveralProcesses:
    def test_reads_the_same(self, write, tmp_path, monkeypatch):
        for seed in range(5):
            write(f"atari_pong/mine/{seed}", lines=[(i + 1, seed * i) for i in range(20)])
        write("atari_pong/mine/9", metric="x")
        alone = read(tmp_path)
        monkeypatch.setattr(runs, "PARALLEL_BYTES", 0)
        monkeypatch.setattr(os, "cpu_count", lambda: 2)
        # Another test of this process may have imported TensorFlow, which must not be forked.
        monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
        together = read(tmp_path)
        assert keys(together) == keys(alone)
        assert together.notes == alone.notes
        for one, other in zip(together.runs, alone.runs, strict=True):
            np.testing.assert_array_equal(one.returns, other.returns)

    def test_a_script_without_a_guard_may_call_it(self, write, tmp_path):
        for seed in range(3):
            write(f"atari_pong/mine/{seed}")
        script = tmp_path / "script.py"
        script.write_text(
            "import sys\n"
            "from dreamerv2.common import runs\n"
            "runs.PARALLEL_BYTES = 0\n"
            "print(len(runs.read(sys.argv[1:]).runs))\n"
        )
        root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        result = subprocess.run(
            [sys.executable, script, tmp_path], capture_output=True, text=True,
            env={**os.environ, "PYTHONPATH": root},
        )  # fmt: skip
        assert (result.returncode, result.stdout) == (0, "3\n"), result.stderr


class TestProgress:
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    def test_bar_on_a_terminal(self, write, tmp_path):
        for seed in range(3):
            write(f"atari_pong/mine/{seed}")
        stream = self.Terminal()
        read(tmp_path, progress=stream)
        lines = stream.getvalue().split("\r")
        assert lines[1] == f"reading [{'#' * 10}{' ' * 20}] 1/3 runs"
        assert lines[3] == f"reading [{'#' * 30}] 3/3 runs\n"

    def test_nothing_elsewhere(self, write, tmp_path):
        write("atari_pong/mine/0")
        stream = io.StringIO()
        read(tmp_path, progress=stream)
        read(tmp_path, progress=None)
        assert stream.getvalue() == ""


def run(frames, returns):
    return score_data.Run("t", "t_a", "m", 0, np.array(frames, float), np.array(returns, float), "")


class TestBins:
    def test_known_values(self):
        binned = runs.bin_run(run([1, 5, 10, 11, 35, 37], [1, 2, 3, 4, 5, 6]), 10)
        np.testing.assert_array_equal(binned.frames, [10, 20, 37])
        np.testing.assert_array_equal(binned.returns, [2, 4, 5.5])

    def test_a_complete_last_bin_ends_where_it_should(self):
        binned = runs.bin_run(run([5, 20], [1, 2]), 10)
        np.testing.assert_array_equal(binned.frames, [10, 20])

    def test_a_point_at_zero_is_in_the_first_bin(self):
        binned = runs.bin_run(run([0, 5, 12], [2, 4, 1]), 10)
        np.testing.assert_array_equal(binned.frames, [10, 12])
        np.testing.assert_array_equal(binned.returns, [3, 1])

    @given(st.lists(st.integers(1, 200), min_size=1, max_size=30, unique=True), st.integers(1, 50))
    def test_equals_a_loop(self, frames, size):
        frames.sort()
        returns = [float(frame % 7) for frame in frames]
        groups = {}
        for frame, value in zip(frames, returns, strict=True):
            groups.setdefault(-(-frame // size) * size, []).append(value)
        binned = runs.bin_run(run(frames, returns), size)
        expected = [min(end, frames[-1]) for end in groups]
        np.testing.assert_array_equal(binned.frames, expected)
        np.testing.assert_allclose(binned.returns, [np.mean(v) for v in groups.values()])
        assert (np.diff(binned.frames) > 0).all()
