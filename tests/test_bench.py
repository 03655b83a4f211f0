"""The benchmarks of speed: the profile of a tiny agent, and the table and guard of the bench."""

from __future__ import annotations

import importlib.util
import pathlib
import sys
from typing import Any

import numpy as np
import pytest
from test_callbacks import settings
from tiny import CONFIGS
from tiny import config as tiny_config

import dreamerv2.api as dv2
from dreamerv2.common import flags
from dreamerv2.common.envs.dummy import Count

ROOT = pathlib.Path(__file__).resolve().parents[1]


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    # Not under its own name: that would hide the `profile` of the standard library.
    spec = importlib.util.spec_from_file_location(
        f"benchmarks.{name}", ROOT / "benchmarks" / f"{name}.py"
    )
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_profile_measures_every_part(monkeypatch: pytest.MonkeyPatch) -> None:
    profile = load("profile", monkeypatch)
    monkeypatch.setattr(profile.arithmetic, "SIDE", 100)
    sizes = {
        key: value
        for key, value in tiny_config().flat.items()
        if key.startswith(("rssm.", "actor.", "critic.")) or key in ("encoder.mlp_layers",)
    }
    config = flags.build(CONFIGS, ["catch"]).update(
        {**sizes, "dataset": {"batch": 2, "length": 3}, "imag_horizon": 3, "jit": "graph"}
    )
    result = profile.profile(config, 1)
    names = [row["part"] for row in result["parts"]]
    assert names[:5] == ["encoder", "recurrent model", "decoder", "reward head", "discount head"]
    assert {"imagination", "actor loss", "critic loss", "model optimizer"} <= set(names)
    assert all(row["ms_forward"] > 0 for row in result["parts"])
    # The parts' own operations are those of the update, by the formula for the whole.
    total = sum(row["gflop_forward"] + row["gflop_backward"] for row in result["parts"])
    assert total == pytest.approx(result["update_gflop"])
    text = profile.table(result)
    assert text.count("\n| ") == len(names) + 1
    assert "of the peak of" in text


def test_the_guard_names_what_got_worse(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = load("bench", monkeypatch)
    rounds = [
        {"flop": 4e11, "update_s": t, "peak_flops": 2e11, "policy_s": 0.002, "memory_mb": 9.0}
        for t in (2.0, 4.0, 5.0)
    ]
    row = bench.row(rounds)
    assert (row["update_s"], row["policy_ms"], row["gflop"]) == (4.0, 2.0, 400.0)
    assert row["of_peak"] == pytest.approx(0.5)
    assert bench.table({"x": row}).splitlines()[-1].startswith("| x | 4.000 | 400 | 200 | 50% |")
    assert bench.regressions({"x": row}, {"x": row, "y": row}) == []
    better = {**row, "of_peak": 0.6, "policy_ms": 1.0}
    assert bench.regressions({"x": row}, {"x": better}) == [
        "x: of_peak was 0.6, is 0.5.",
        "x: policy_ms was 1, is 2.",
    ]
    assert bench.regressions({"x": better}, {"x": row}) == []


def test_precision_compares_the_same_imagined_states(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    precision = load("precision", monkeypatch)
    dv2.train(Count, settings(tmp_path, eval_eps=0, steps=21))
    result = precision.measure(str(tmp_path), "bfloat16", 3, 0)
    assert result["imagined_states"] == 4 * 3 * 5
    assert result["advantage_correlation"] > 0.99
    for name in ("posterior", "reward", "discount", "value", "advantage"):
        assert result[name]["difference_std"] < 0.1 * result[name]["std"] + 1e-3, name
    exact = np.array([1.0, 3.0])
    assert precision.compared(exact, exact + 0.5) == {
        "mean": 2.0, "std": 1.0, "difference_mean": 0.5, "difference_std": 0.0
    }  # fmt: skip
