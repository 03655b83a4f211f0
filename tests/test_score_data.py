import gzip
import json
import pathlib
import shutil
import time

import numpy as np
import pytest

from dreamerv2.common import score_data
from dreamerv2.common.errors import UserError

ROOT = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def data():
    return score_data.load()


@pytest.fixture
def tiny(tmp_path):
    """The smallest folder in the schema; returns functions that change a file of it."""
    head = {"format": "dreamerv2-scores", "version": 1}
    runs = [
        {"suite": "gym", "task": "gym_a", "method": "m", "seed": seed, "returns": [1.5, 2, -3],
         "frames": frames}
        for seed, frames in [(0, {"first": 10, "every": 5}), (1, [1, 2, 7])]
    ]  # fmt: skip
    contents = {
        "index.json": {
            **head,
            "sources": {"s": {"title": "t", "url": "u", "licence": "l", "corrections": []}},
            "methods": {"m": {"label": "M", "protocol": "p", "source": "s"}},
            "task_sets": {"all": ["gym_a"]},
            "runs": ["runs.json.gz"],
            "references": "references.json",
            "paper": "paper.json",
        },
        "runs.json.gz": {**head, "kind": "runs", "source": "s", "runs": runs},
        "references.json": {
            **head,
            "kind": "references",
            "suites": {"gym": {"source": "s", "tasks": {"gym_b": {"minimum": 0, "maximum": 2}}}},
        },
        "paper.json": {**head, "kind": "paper", "source": "s", "t": {"columns": ["c"], "rows": {}}},
    }

    def write(name, content):
        data = json.dumps(content).encode()
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)

    for name, content in contents.items():
        write(name, content)

    def change(name, edit):
        edit(contents[name])
        write(name, contents[name])
        return tmp_path

    return change


class TestSchema:
    def test_reads_all_that_a_file_says(self, tiny):
        data = score_data.load(tiny("index.json", lambda index: None))
        first, second = data.runs
        assert (first.suite, first.task, first.method, first.seed) == ("gym", "gym_a", "m", 0)
        assert (first.source, first.final) == ("s", False)
        np.testing.assert_array_equal(first.frames, [10, 15, 20])
        np.testing.assert_array_equal(second.frames, [1, 2, 7])
        np.testing.assert_array_equal(second.returns, [1.5, 2, -3])
        assert first.frames.dtype == first.returns.dtype == np.float64
        assert data.references == {"gym_b": {"minimum": 0.0, "maximum": 2.0}}
        assert data.tasks == ("gym_a", "gym_b")
        assert data.task_sets == {"all": ("gym_a",)}
        assert data.label("m") == "M"
        assert data.label("mine") == "mine"
        assert data.paper == {"t": {"columns": ["c"], "rows": {}}}

    @pytest.mark.parametrize(
        ("name", "edit", "message"),
        [
            ("index.json", lambda c: c.pop("methods"), "has no 'methods'"),
            ("index.json", lambda c: c.update(version=2), "has version 2, but .* reads 1"),
            ("index.json", lambda c: c.update(format="x"), "is not dreamerv2-scores"),
            ("index.json", lambda c: c["methods"]["m"].update(source="x"), "source of m"),
            ("index.json", lambda c: c["methods"].pop("m"), "method is not listed"),
            ("index.json", lambda c: c["task_sets"].update(x=["gym_z"]), "x has a task without"),
            ("index.json", lambda c: c["runs"].append("gone.json"), "gone.json can't be read"),
            ("index.json", lambda c: c.update(runs=["references.json"]), "does not hold runs"),
            ("runs.json.gz", lambda c: c.update(source="x"), "its source is not listed"),
            ("runs.json.gz", lambda c: c["runs"][1].update(seed=0), "same task, method and seed"),
            ("runs.json.gz", lambda c: c["runs"][0].pop("returns"), "has no 'returns'"),
            ("runs.json.gz", lambda c: c["runs"][0].update(returns=[]), "no list of returns"),
            ("runs.json.gz", lambda c: c["runs"][0].update(returns=[1, "x"]), "is wrong"),
            ("runs.json.gz", lambda c: c["runs"][0].update(returns=[1e400]), "not finite"),
            ("runs.json.gz", lambda c: c["runs"][0].update(suite="dmc"), "not of its suite"),
            ("runs.json.gz", lambda c: c["runs"][0].update(final=True), "final but has several"),
            ("runs.json.gz", lambda c: c["runs"][1].update(frames=[1, 2]), "other frames than"),
            ("runs.json.gz", lambda c: c["runs"][1].update(frames=[1, 3, 3]), "go back"),
            ("runs.json.gz", lambda c: c["runs"][1].update(frames=[0, 3, 4]), "go back"),
            ("references.json", lambda c: c["suites"]["gym"].pop("tasks"), "has no 'tasks'"),
            ("paper.json", lambda c: c["t"]["rows"].update(x=[1, 2]), "row x of t"),
        ],
    )
    def test_refuses_what_is_wrong_and_names_the_file(self, tiny, name, edit, message):
        folder = tiny(name, edit)
        with pytest.raises(UserError, match=message) as error:
            score_data.load(folder)
        assert str(folder) in str(error.value)

    @pytest.mark.parametrize("damage", [b"", b"{", b"\x1f\x8b\x08\x00", b"\xff\xfe"])
    def test_says_which_file_is_damaged(self, tiny, damage):
        folder = tiny("index.json", lambda index: None)
        (folder / "runs.json.gz").write_bytes(damage)
        with pytest.raises(UserError, match=r"runs\.json\.gz can't be read"):
            score_data.load(folder)


class TestShipped:
    @pytest.mark.parametrize(
        ("method", "suite", "tasks", "seeds", "last"),
        [
            ("dreamerv2", "atari", 55, 8, 200e6),
            ("dreamerv2_nosched", "atari", 55, 3, 200e6),
            ("dreamerv2_schedules", "atari", 55, 4, 199e6),
            ("dqn", "atari", 60, 5, 199e6),
            ("c51", "atari", 60, 5, 199e6),
            ("rainbow", "atari", 60, 5, 199e6),
            ("iqn", "atari", 60, 5, 199e6),
            ("dreamerv2_discount99", "atari", 1, 6, 199e6),
            ("simple", "atari", 26, 1, 4e5),
            ("rainbow_400k", "atari", 26, 1, 4e5),
            ("reactor", "atari", 57, 1, 2e8),
        ],
    )
    def test_has_every_run(self, data, method, suite, tasks, seeds, last):
        runs = [run for run in data.select(methods=[method]) if run.suite == suite]
        count = {task: sum(run.task == task for run in runs) for task in {r.task for r in runs}}
        assert len(count) == tasks
        assert set(count.values()) == {seeds}
        assert max(run.frames[-1] for run in runs) == last

    def test_has_control_tasks(self, data):
        runs = data.select(data.task_sets["dmc"])
        assert len(data.task_sets["dmc"]) == 20
        assert len(runs) == 100
        assert {(run.method, len(run.frames)) for run in runs} == {("dreamerv2", 66)}
        assert len(data.select(["dmc_humanoid_walk"])) == 10

    def test_task_sets_contain_each_other(self, data):
        sizes = {name: len(set(tasks)) for name, tasks in data.task_sets.items()}
        assert sizes == {"atari55": 55, "atari26": 26, "simple36": 36, "dmc": 20}
        assert set(data.task_sets["atari26"]) < set(data.task_sets["simple36"])
        assert set(data.task_sets["simple36"]) < set(data.task_sets["atari55"])

    def test_james_bond_is_corrected(self, data):
        assert data.references["atari_james_bond"] == {"random": 7, "gamer": 302.8, "record": 45550}
        corrections = " ".join(data.sources["baselines"]["corrections"])
        assert "302.8 instead of 29.0" in corrections

    def test_each_game_of_the_paper_has_all_references(self, data):
        for task in data.task_sets["atari55"]:
            assert set(data.references[task]) == {"random", "gamer", "record"}
            assert data.references[task]["gamer"] > data.references[task]["random"]
            assert data.references[task]["record"] > data.references[task]["random"]

    def test_has_known_values(self, data):
        (run,) = (r for r in data.select(["atari_air_raid"], ["dqn"]) if r.seed == 0)
        np.testing.assert_array_equal(run.returns[:3], [514.9805, 367.6893, 553.5181])
        np.testing.assert_array_equal(run.frames, 1e6 * np.arange(1, 200))
        assert (run.returns[-1], run.source) == (9007.971, "dopamine")
        (run,) = (r for r in data.select(["dmc_finger_turn_hard"]) if r.seed == 1)
        np.testing.assert_array_equal(run.frames[[0, -1]], [30e3, 1.98e6])
        np.testing.assert_allclose(run.returns[0], 112.55172413793103, rtol=1e-9)

    def test_every_source_says_where_it_is_from_and_under_which_licence(self, data):
        used = {run.source for run in data.runs} | {m.source for m in data.methods.values()}
        assert used <= set(data.sources)
        for source in data.sources.values():
            assert source["url"].startswith("https://")
            assert source["title"] and source["licence"]
        assert data.sources["dopamine"]["licence"] == "Apache-2.0"

    def test_protocol_of_simple_is_stated(self, data):
        assert "deterministic" in data.methods["simple"].protocol
        assert "400k" in data.methods["simple"].protocol

    def test_readme_explains_every_file(self):
        text = (ROOT / "scores" / "README.md").read_text()
        for path in (ROOT / "scores").glob("*.json*"):
            assert f"`{path.name}`" in text

    def test_is_small_and_loads_quickly(self):
        size = sum(path.stat().st_size for path in (ROOT / "scores").iterdir() if path.is_file())
        assert size < 3e6
        start = time.process_time()
        score_data.load()
        assert time.process_time() - start < 1.0

    def test_is_found_beside_and_inside_the_package(self, tmp_path, monkeypatch):
        assert score_data.folder() == ROOT / "scores"
        package = tmp_path / "site" / "dreamerv2"
        (package / "common").mkdir(parents=True)
        monkeypatch.setattr(score_data, "__file__", str(package / "common" / "score_data.py"))
        with pytest.raises(UserError, match="reinstall"):
            score_data.folder()
        shutil.copytree(ROOT / "scores", package / "scores")
        assert score_data.folder() == package / "scores"
