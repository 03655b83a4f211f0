"""The script that converts raw files, on a small imitation of them."""

import gzip
import importlib.util
import json
import pathlib
import shutil
import subprocess
import sys

import pytest

from dreamerv2.common import score_data

ROOT = pathlib.Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "scores" / "convert.py"


@pytest.fixture(scope="module")
def convert():
    spec = importlib.util.spec_from_file_location("convert", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def raw(tmp_path):
    """A folder of raw files with one run each, and a function that rewrites one of them."""
    folder = tmp_path / "raw"
    folder.mkdir()

    def write(name, content):
        (folder / name).write_bytes(gzip.compress(json.dumps(content).encode()))

    def run(task, method, seed, values, every=1e6):
        xs = [every * (i + 1) for i in range(len(values))]
        return {"task": task, "method": method, "seed": seed, "xs": xs, "ys": values}

    games = ["atari_pong", "atari_james_bond"]
    methods = ["dqn", "c51", "rainbow", "iqn"]
    write("atari-dreamerv2.json.gz", [
        run(game, method, seed, [1.0, 2.25, 3.0])
        for game in games for method in ("dreamerv2", "nosched") for seed in ("0", "10")
    ])  # fmt: skip
    write("atari-dreamerv2-schedules.json.gz", [run("atari_pong", "dreamerv2", "0", [4.0])])
    write("atari-dopamine.json.gz", [
        run("atari_pong", method, seed, [1.0, value])
        for method in methods for seed, value in [("0", 1.0), ("1", 2.0)]
    ])  # fmt: skip
    write("dmc-vision-dreamerv2.json.gz", [
        run("dmc_cup_catch", "dreamerv2", "1", [1 / 3, 12345678.123456], 3e4),
        run("stats_normalized_mean", "dreamerv2", "1", [5.0], 1.0),
    ])  # fmt: skip
    write("humanoid-dreamerv2.json.gz", [run("dmc_humanoid_walk", "best", "indir1_7", [5.0], 3e5)])
    write("montezuma-dreamerv2.json.gz", [run("atari_montezuma_revenge", "dreamerv2", "0", [0.0])])
    sticky = {f"{method}_sticky_2e8": 1.5 for method in methods}
    write("baselines.json.gz", {
        "atari_pong": {"random": -20.7, "human_gamer": 14.6, "simple_determ_4e5": 12.8, **sticky},
        "atari_james_bond": {"random": 7.0, "human_gamer": 29.0, "human_record": 45550.0},
    })  # fmt: skip
    tables = [f"table_{n}: {{columns: [a, b], x: [1, 2.5]}}\n" for n in (1, 2)]
    tables.append("table_3: {x: {parameters: 1M, frames: 2M, accelerator_days: 3}}\n")
    (folder / "paper-tables.yaml").write_text("".join(tables))
    (folder / "paper-table-k1.csv").write_text("task,random,human_gamer\natari_pong,-21,15\n")
    return folder, write


def test_result_is_in_the_schema(convert, raw, tmp_path):
    folder, _ = raw
    index = json.loads((ROOT / "scores" / "index.json").read_text())
    index["task_sets"] = {"games": ["atari_james_bond", "atari_pong"]}
    target = tmp_path / "target"
    convert.main(["--raw", str(folder), "--outdir", str(target)])
    (target / "index.json").write_text(json.dumps(index))
    data = score_data.load(target)
    found = {(run.task, run.method, run.seed): run for run in data.runs}
    assert set(found) == {
        *(
            (game, method, seed)
            for game in ("atari_pong", "atari_james_bond")
            for method in ("dreamerv2", "dreamerv2_nosched")
            for seed in (0, 10)
        ),
        ("atari_pong", "dreamerv2_schedules", 0),
        *(("atari_pong", m, s) for m in ("dqn", "c51", "rainbow", "iqn") for s in (0, 1)),
        ("dmc_cup_catch", "dreamerv2", 1),
        ("dmc_humanoid_walk", "dreamerv2", 7),
        ("atari_montezuma_revenge", "dreamerv2_discount99", 0),
        ("atari_pong", "simple", 0),
    }
    run = found["atari_pong", "dreamerv2", 10]
    assert (run.frames.tolist(), run.returns.tolist()) == ([1e6, 2e6, 3e6], [1, 2.25, 3])
    run = found["dmc_cup_catch", "dreamerv2", 1]
    assert run.frames.tolist() == [3e4, 6e4]
    assert run.returns.tolist() == [0.3333333333, 12345678.12]
    run = found["atari_pong", "simple", 0]
    assert (run.frames.tolist(), run.returns.tolist(), run.final) == ([4e5], [12.8], True)
    assert data.references == {
        "atari_pong": {"random": -20.7, "gamer": 14.6},
        "atari_james_bond": {"random": 7.0, "gamer": 302.8, "record": 45550.0},
        "dmc_cup_catch": {"minimum": 0.0, "maximum": 1000.0},
        "dmc_humanoid_walk": {"minimum": 0.0, "maximum": 1000.0},
    }
    assert data.paper["table2"] == {"columns": ["a", "b"], "rows": {"x": [1, 2.5]}}
    assert data.paper["table3"]["rows"] == {"x": ["1M", "2M", 3]}
    k1 = {"columns": ["random", "gamer"], "rows": {"atari_pong": [-21, 15]}}
    assert data.paper["k1"] == k1


def test_same_input_gives_the_same(convert, raw):
    assert convert.convert(raw[0]) == convert.convert(raw[0])


def test_sources_that_disagree_are_refused(convert, raw):
    folder, write = raw
    baselines = convert.read(folder / "baselines.json.gz")
    baselines["atari_pong"]["iqn_sticky_2e8"] = 1.6
    write("baselines.json.gz", baselines)
    with pytest.raises(ValueError, match="disagree on iqn_sticky_2e8 in atari_pong"):
        convert.convert(folder)


def test_bins_that_are_not_as_expected_are_refused(convert, raw):
    folder, write = raw
    runs = convert.read(folder / "montezuma-dreamerv2.json.gz")
    runs[0].update(xs=[1e6, 3e6], ys=[0, 1])
    write("montezuma-dreamerv2.json.gz", runs)
    with pytest.raises(ValueError, match="bins of atari_montezuma_revenge"):
        convert.convert(folder)


def test_a_correction_that_is_no_longer_needed_is_noticed(convert, raw):
    folder, write = raw
    baselines = convert.read(folder / "baselines.json.gz")
    baselines["atari_james_bond"]["human_gamer"] = 302.8
    write("baselines.json.gz", baselines)
    with pytest.raises(ValueError, match="no longer has the mistake"):
        convert.convert(folder)


def test_as_a_script(raw, tmp_path):
    folder, _ = raw
    copy = tmp_path / "scores"
    copy.mkdir()
    shutil.copy(SCRIPT, copy)
    result = subprocess.run(
        [sys.executable, copy / "convert.py", "--raw", folder], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert "bytes in all" in result.stdout
    assert (copy / "atari-dopamine.json.gz").exists()
    result = subprocess.run(
        [sys.executable, copy / "convert.py", "--raw", folder / "no"],
        capture_output=True,
        text=True,
    )
    assert result.returncode != 0
    assert "is not a folder" in result.stderr
