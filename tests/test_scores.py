"""The command line, as a script, as a module and as a function."""

import csv
import io
import json
import os
import pathlib
import re
import resource
import subprocess
import sys

import pytest

from dreamerv2.common import scores

ROOT = pathlib.Path(__file__).resolve().parent.parent
PRINTED = pathlib.Path(__file__).parent / "data"


def script(*arguments, cwd=ROOT, path="common/scores.py", **environment):
    """Runs the command line as people do, from anywhere."""
    return subprocess.run(
        [sys.executable, str(ROOT / path), *map(str, arguments)],
        cwd=cwd, capture_output=True, text=True, env={**os.environ, **environment},
    )  # fmt: skip


@pytest.fixture(scope="module")
def data():
    return scores.load()


@pytest.fixture
def call(capsys, monkeypatch, data):
    """Runs the command line in this process: (status, output, errors)."""
    monkeypatch.setattr(scores, "load", lambda: data)

    def function(*arguments):
        status = scores.main([str(argument) for argument in arguments])
        return status, *capsys.readouterr()

    return function


def lines(path):
    return [list(row.values()) for row in csv.DictReader(path.read_text().splitlines())]


def write_run(folder, frames, returns, metric="eval_return"):
    folder.mkdir(parents=True)
    pairs = zip(frames, returns, strict=True)
    text = "".join(json.dumps({"step": step, metric: value}) + "\n" for step, value in pairs)
    (folder / "metrics.jsonl").write_text(text)


class TestPrintedDigits:
    def test_table_1(self, call):
        status, output, _ = call("table1", "--format", "markdown")
        assert status == 0
        rows = [line.strip("| ").split(" | ") for line in output.splitlines() if "|" in line][2:]
        labels = {
            "DreamerV2": "dreamerv2", "DreamerV2 (schedules)": "dreamerv2_schedules",
            "IQN": "iqn", "Rainbow": "rainbow", "C51": "c51", "DQN": "dqn",
        }  # fmt: skip
        printed = lines(PRINTED / "table_1.csv")
        assert [[labels[row[0]], *row[1:5]] for row in rows] == printed
        assert [row[5:] for row in rows] == [["55", seeds] for seeds in "845555"]

    def test_table_k1(self, call):
        status, output, _ = call("k1", "--format", "markdown")
        assert status == 0
        rows = [line.strip("| ").split(" | ") for line in output.splitlines() if "|" in line]
        assert rows[0] == ["Task", "Random", "Gamer", "Record", "Rainbow", "IQN", "DreamerV2"]
        printed = lines(PRINTED / "table_k1.csv")
        assert len(printed) == 55
        assert rows[2:] == printed


class TestScript:
    def test_runs_from_anywhere_beside_hostile_modules(self, tmp_path):
        for name in ("common", "dreamerv2", "scores", "stats", "runs", "numpy", "json"):
            (tmp_path / f"{name}.py").write_text("raise ImportError('the wrong module')\n")
        result = script("table1", cwd=tmp_path)
        assert (result.returncode, result.stderr) == (0, "")
        assert "DreamerV2                      2.15       11.33         0.44" in result.stdout

    @pytest.mark.parametrize("path", ["common/scores.py", "dreamerv2/common/scores.py"])
    def test_own_modules_are_not_mistaken_for_others(self, path):
        """Its folder, which Python puts first, is not searched for `runs`, `video` and so on."""
        code = (
            "import runpy, sys\n"
            "sys.argv = [sys.argv[1], 'table3']\n"
            "sys.path[0] = sys.argv[0].rpartition('/')[0]\n"
            "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
            "except SystemExit as status: assert status.code == 0, status\n"
            "import importlib.util as util\n"
            "assert util.find_spec('runs') is None and util.find_spec('video') is None\n"
        )
        result = subprocess.run(
            [sys.executable, "-c", code, str(ROOT / path)], capture_output=True, text=True
        )
        assert result.returncode == 0, result.stderr
        assert "MuZero" in result.stdout

    def test_imports_no_tensorflow(self):
        code = (
            "import sys\n"
            "from dreamerv2.common import scores\n"
            "assert scores.main(['stats', '--tasks', 'atari_pong']) == 0\n"
            "heavy = {'tensorflow', 'keras', 'scipy', 'pandas', 'matplotlib', 'rliable'}\n"
            "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        )
        result = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
        )
        assert result.returncode == 0, result.stderr

    def test_answers_quickly_from_a_cold_start(self):
        start = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert script("table1").returncode == 0
        stop = resource.getrusage(resource.RUSAGE_CHILDREN)
        # Of this process, so that others on the machine do not count.
        assert stop.ru_utime + stop.ru_stime - start.ru_utime - start.ru_stime < 2

    def test_a_reader_that_has_seen_enough(self):
        command = f"{sys.executable} common/scores.py k1 | head -n 1; exit ${{PIPESTATUS[0]}}"
        result = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
        assert result.stdout.startswith("Scores (table K.1)")
        assert (result.returncode, result.stderr) == (0, "")

    def test_help_names_every_table(self):
        result = script("--help")
        assert result.returncode == 0
        for name in scores.PROGRAMS:
            assert re.search(rf"^ +{name}\s", result.stdout, re.MULTILINE)
        assert "--indir" in script("table1", "--help").stdout


class TestFormats:
    @pytest.mark.parametrize("program", ["table1", "k1", "stats", "improvement", "profiles"])
    def test_csv_and_json_hold_the_same(self, call, program):
        arguments = [program, "--tasks", "atari_pong", "atari_boxing", "--resamples", "20"]
        _, text, notes = call(*arguments, "--format", "csv")
        content = json.loads(call(*arguments, "--format", "json")[1])
        rows = list(csv.DictReader(io.StringIO(text)))
        assert [list(row) for row in rows] == [list(row) for row in content["rows"]]
        for row, other in zip(rows, content["rows"], strict=True):
            assert row == {k: "" if v is None else str(v) for k, v in other.items()}
        assert [f"note: {note}" for note in content["notes"]] == notes.splitlines()

    @pytest.mark.parametrize("form", ["text", "markdown", "csv", "latex", "json"])
    @pytest.mark.parametrize("program", ["table2", "table3", "methods", "table1"])
    def test_every_table_in_every_format(self, call, program, form):
        arguments = [] if program != "table1" else ["--tasks", "atari_pong"]
        status, output, _ = call(program, "--format", form, *arguments)
        assert status == 0
        assert output.endswith("\n")
        assert "DreamerV2" in output or "dreamerv2" in output

    def test_resamples_depend_on_the_seed_alone(self, call):
        arguments = ["table1", "--tasks", "atari26", "--ci", "--resamples", "50", "--format", "csv"]
        assert call(*arguments) == call(*arguments, "--seed", "0")
        assert call(*arguments) != call(*arguments, "--seed", "1")


class TestOwnRuns:
    def test_beside_baselines(self, call, tmp_path):
        for seed in range(3):
            write_run(tmp_path / f"atari_pong/mine/{seed}", [1e6, 2e6], [-20, 14.6 + seed])
        write_run(tmp_path / "atari_boxing/mine/0", [1e6, 4e6], [0, 12.1])
        status, output, errors = call("table1", "--indir", tmp_path, "--format", "json")
        assert (status, errors) == (0, "")
        content = json.loads(output)
        assert content["title"].endswith("at 2M to 4M frames")
        first, *others = content["rows"]
        assert (first["method"], first["tasks"], first["seeds"]) == ("mine", 2, "1-3")
        assert first["gamer_median"] == pytest.approx((1 + 1 + 1 / 35.3) / 2)
        assert {row["method"] for row in others} == set(scores.CURVES)
        assert {row["tasks"] for row in others} == {2}

    def test_other_metric_protocol_frames_and_window(self, call, tmp_path):
        for seed in (0, 1):
            run = tmp_path / f"atari_pong/mine/{seed}"
            write_run(run, [1e6, 2e6, 3e6], [seed, 2, 8], "train_return")
        base = ["k1", "--indir", tmp_path, "--metric", "train_return", "--format", "json"]

        def mine(*arguments):
            return json.loads(call(*base, *arguments)[1])["rows"][0]["mine"]

        assert mine() == 8
        assert mine("--frames", "2e6") == 2
        assert mine("--window", "2e6") == 5
        assert mine("--frames", "1.5e6") == 0.5
        status, output, _ = call("table1", *base[1:], "--protocol", "per-seed")
        assert status == 0
        assert "per-seed" in output

    def test_a_bad_run_beside_a_good_one(self, call, tmp_path):
        write_run(tmp_path / "atari_pong/mine/0", [1e6], [3])
        write_run(tmp_path / "atari_pong/mine/1", [1e6], [3], "train_return")
        (tmp_path / "atari_pong/mine/0/metrics.jsonl").open("a").write('{"step": 2, "eval_r')
        status, output, _ = call("k1", "--indir", tmp_path)
        assert status == 0
        assert "mine/0 has broken lines in metrics.jsonl; 1 of 2 are skipped." in output
        assert "mine/1 is left out because it has no eval_return; it has train_return." in output


class TestBadInput:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "the following arguments are required: TABLE"),
            (["tabel1"], "argument TABLE: invalid choice: 'tabel1'"),
            (["table1", "--nothing"], "unrecognized arguments: --nothing"),
            (["table1", "--baselines", "rainbw"], "'rainbw' is not known; did you mean rainbow"),
            (["table1", "--tasks", "atari_pung"], "'atari_pung' is not known; did you mean atari_"),
            (["k1", "--tasks", "atari56"], "'atari56' is not known; did you mean atari5"),
            (["table1", "--frames", "0"], "'0' is not a number above 0, such as 10e6"),
            (["table1", "--frames", "many"], "'many' is not a number above 0"),
            (["table1", "--frames", "nan"], "'nan' is not a number above 0"),
            (["table1", "--frames", "1e5"], "no method has a score at 100k frames"),
            (["table1", "--window", "-1"], "'-1' is not a number of frames"),
            (["table1", "--bins", "0"], "'0' is not a number above 0"),
            (["stats", "--confidence", "95"], "'95' is not a number between 0 and 1"),
            (["stats", "--resamples", "1.5"], "'1.5' is not a whole number from 1 to 1,000,000"),
            (["stats", "--seed", "-1"], "'-1' is not a whole number from 0"),
            (["stats", "--tasks", "atari_air_raid"], "has no random and gamer score"),
            (["table1", "--tasks", "atari_pong", "dmc"], "not normalised alike; choose one"),
            (["improvement", "--of", "mine"], "the method 'mine' is not known"),
            (["table1", "--indir", "/no/such/folder"], "/no/such/folder is not a folder"),
            (["table1", "--indir", "{empty}"], "has no metrics.jsonl in it"),
        ],
    )
    def test_one_sentence_and_status_2(self, call, tmp_path, arguments, message):
        arguments = [argument.format(empty=tmp_path) for argument in arguments]
        status, output, errors = call(*arguments)
        assert (status, output) == (2, "")
        assert errors.startswith("error: ")
        assert errors.count("\n") == 1
        assert message in errors

    def test_of_a_process(self, tmp_path):
        result = script("table1", "--indir", tmp_path)
        assert result.returncode == 2
        assert result.stderr.startswith("error: ")
