"""Plans of sweeps: tasks, seeds, methods, folders, what they cost, and every refusal."""

from __future__ import annotations

import pathlib
import re

import pytest

from dreamerv2 import logdir
from dreamerv2.common import flags, score_data
from dreamerv2.common.errors import UserError
from dreamerv2.sweeps import cost, describe, plan

ROOT = pathlib.Path(__file__).resolve().parents[1]
DATA = score_data.load()
FOLDER = pathlib.Path("/shared/sweep")


def test_lists_of_tasks() -> None:
    for name, size in (("atari55", 55), ("atari26", 26), ("dmc22", 22), ("dmc", 20)):
        assert len(plan.find_tasks([name], DATA)) == size, name
    assert set(plan.find_tasks(["dmc"], DATA)) < set(plan.find_tasks(["dmc22"], DATA))


def test_names_and_regular_expressions() -> None:
    assert plan.find_tasks(["atari_pong", "dummy_catch", "atari_pong"], DATA) == [
        "atari_pong", "dummy_catch",
    ]  # fmt: skip
    assert plan.find_tasks(["dmc_walker_.*", "atari_po.g"], DATA) == [
        "dmc_walker_run", "dmc_walker_stand", "dmc_walker_walk", "atari_pong",
    ]  # fmt: skip


@pytest.mark.parametrize(("word", "message"), [
    ("atari_pnog", "did you mean atari_pong"),
    ("atari5", "did you mean atari55"),
    ("dmc_walker_wlak", "did you mean dmc_walker_walk"),
    ("dummy_cach", "did you mean dummy_catch"),
    ("walker", "did you mean"),
    ("dmc_x.*", "matches none of the"),
    ("atari_(", "is wrong"),
])  # fmt: skip
def test_unknown_tasks(word: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        plan.find_tasks([word], DATA)


def test_seeds() -> None:
    assert plan.find_seeds(["5"]) == [1, 2, 3, 4, 5]
    assert plan.find_seeds(["3-5"]) == [3, 4, 5]
    assert plan.find_seeds(["2", "7-8", "2"]) == [2, 7, 8]
    for words in (["x"], ["5-3"], ["-1"], ["1.5"], ["0"], []):
        with pytest.raises(UserError, match="--seeds"):
            plan.find_seeds(words)


def test_runs_are_commands_of_the_training_program() -> None:
    runs = plan.make(
        FOLDER, ["atari_pong", "atari_boxing"], [1, 2], ["atari", "small"],
        ["none", "no_layer_norm+no_kl_balancing"], settings=["--steps", "1e6", "--envs=2"],
    )  # fmt: skip
    assert len(runs) == len({run.logdir for run in runs}) == 8
    assert [run.seed for run in runs] == [1] * 4 + [2] * 4
    first, variant = runs[:2]
    assert first.name == "atari_pong/dreamerv2/1"
    assert first.logdir == str(FOLDER / first.name)
    assert variant.method == "dreamerv2_no_layer_norm+no_kl_balancing"
    assert first.frames == 4e6
    config = flags.build(logdir.CONFIGS, *flags.split(variant.arguments))
    assert (config.task, config.seed, config.steps, config.envs) == ("atari_pong", 1, 1e6, 2)
    assert (config.rssm.gru_norm, config.kl.balance, config.rssm.deter) == ("none", 0.5, 200)
    assert config.logdir == variant.logdir


@pytest.mark.parametrize(("change", "message"), [
    ({"configs": ["atra"]}, "the nearest of .* is atari"),
    ({"variants": ["no_layernorm"]}, "the nearest of .* is no_layer_norm"),
    ({"settings": ["--stesp", "3"]}, "unknown key 'stesp'; the nearest are steps"),
    ({"settings": ["--steps", "many"]}, "steps"),
    ({"settings": ["--task", "atari_pong"]}, "has no flag --task; use --tasks"),
    ({"settings": ["--seed", "3"]}, "has no flag --seed; use --seeds"),
    ({"method": "a/b"}, "--method is 'a/b'"),
    ({"names": []}, "no runs"),
])  # fmt: skip
def test_refused_plans(change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        plan.make(**{"folder": FOLDER, "names": ["atari_pong"], "seeds": [1], **change})


def test_measured_costs_are_those_of_the_documentation() -> None:
    text = (ROOT / "docs" / "paper_settings.md").read_text()
    rows = re.findall(r"^\| (`.*`.*?) \| ([\d.]+) \| [\d.]+ \| ([\d.]+) \|", text, re.MULTILINE)
    stated = {
        name: (float(tflop), float(parameters))
        for names, parameters, tflop in rows
        for name in re.findall(r"`(.*?)`", names)
    }
    assert {" ".join(names): numbers for names, numbers in cost.MEASURED.items()} == stated


def days(overlays: list[str], task: str = "atari_pong", **changes: object) -> float | None:
    config = flags.build(logdir.CONFIGS, overlays, {"task": task, **changes})
    return cost.estimate(overlays, config).gpu_days(10)


def test_gpu_days_are_those_of_the_documentation() -> None:
    for overlays, expected in [
        (["atari"], 2.9), (["atari_paper"], 35.7), (["atari_schedules"], 4.3),
        (["atari", "no_discrete_latents"], 2.3), (["atari", "small"], 0.2), (["humanoid"], 5.2),
        (["atari", "no_layer_norm"], 2.9), (["dmc_vision"], 0.2), (["atari", "random_data"], None),
    ]:  # fmt: skip
        found = days(overlays)
        assert found == expected or round(found or 0, 1) == expected, overlays
    full = days(["atari"]) or 0
    assert days(["atari"], **{"dataset.batch": 32}) == pytest.approx(2 * full)
    assert days(["atari"], train_every=8) == pytest.approx(2 * full, rel=1e-3)
    assert days(["atari"], **{"rssm.deter": 200}) is None
    assert days(["catch"], "dummy_catch") is None


def test_disk() -> None:
    config = flags.build(logdir.CONFIGS, ["atari"])
    disk = cost.estimate(["atari"], config).disk
    replay, logs = 2e6 * 4206, 2e8 * 13
    assert disk == pytest.approx(replay + logs + 3 * 12 * 22.2e6)
    small = cost.estimate(["dmc_proprio"], flags.build(logdir.CONFIGS, ["dmc_proprio"])).disk
    assert small < 1e9


def test_description() -> None:
    runs = plan.make(FOLDER, ["atari_pong", "atari_boxing"], [1, 2, 3], ["atari"],
                     ["none", "no_kl_balancing", "random_data"])  # fmt: skip
    text = "\n".join(describe.describe(runs, 10))
    assert "18 runs: 2 tasks x 3 methods x 3 seeds" in text
    assert "dreamerv2: 6 runs, 200,000,000 frames each, 17.1 GPU days, 70.9 GB of disk" in text
    assert (
        "/shared/sweep/atari_pong/dreamerv2/1: train.py --configs atari --task atari_pong" in text
    )
    assert "in all 34.3 GPU days and 6 runs of unknown cost" in text
    unknown = plan.make(FOLDER, ["dummy_catch"], [1], ["debug"])
    assert "GPU days not known" in "\n".join(describe.describe(unknown, 10))
