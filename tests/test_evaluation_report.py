from __future__ import annotations

import json
import pathlib

import pytest

from dreamerv2 import evaluation_report
from dreamerv2.common.errors import UserError
from dreamerv2.logdir import default_config

METRICS = [
    {"eval_return": value, "eval_length": 10.0, "sum_eval_log_x": 2.0} for value in (1, 2, 6, 7)
]


def test_statistics() -> None:
    summary = evaluation_report.summarize(METRICS)
    assert list(summary) == ["return", "length", "sum_eval_log_x"]
    scores = summary["return"]
    assert scores["each"] == [1, 2, 6, 7]
    assert (scores["mean"], scores["median"], scores["min"], scores["max"]) == (4, 4, 1, 7)
    assert scores["std"] == pytest.approx(6.5**0.5)
    assert summary["length"]["std"] == 0
    assert evaluation_report.summarize(METRICS[:1])["return"]["std"] == 0


def test_table_is_aligned() -> None:
    rows = evaluation_report.table(evaluation_report.summarize(METRICS)).splitlines()
    assert len(rows) == 4 and len({len(row) for row in rows}) == 1
    assert rows[0].split() == ["mean", "std", "median", "min", "max"]
    assert rows[1].split() == ["return", "4.00", "2.55", "4.00", "1.00", "7.00"]


def test_report_says_how_the_scores_came_about(tmp_path: pathlib.Path) -> None:
    defaults = default_config()
    changes = {"task": "dummy_catch", "action_repeat": 4, "render_size": (96, 96), "logdir": "x"}
    report = evaluation_report.report(
        evaluation_report.summarize(METRICS),
        defaults.update(changes),
        defaults,
        logdir=tmp_path,
        checkpoint="ckpt-3",
        steps=100,
        updates=7,
        seed=5,
        envs=2,
        seconds=1.23456,
    )
    assert report["frames"] == 400 and report["agent_steps"] == 100
    assert report["episodes"] == 4 and report["return"]["mean"] == 4
    assert report["settings"] == {"action_repeat": 4, "render_size": [96, 96]}
    path = evaluation_report.write_json(tmp_path / "evaluation.json", report)
    assert json.loads(path.read_text()) == report
    assert len(path.read_text().splitlines()) == len(report) + 2
    assert [entry.name for entry in tmp_path.iterdir()] == ["evaluation.json"]
    with pytest.raises(UserError, match=r"evaluation.json.* can't be written .*another folder"):
        evaluation_report.write_json(path / "evaluation.json", report)
