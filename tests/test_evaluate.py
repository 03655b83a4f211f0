"""The program as a user runs it: the score of the training again, files, and every refusal."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys

import av
import pytest

from dreamerv2 import evaluate, train
from dreamerv2.common.config import Config

ROOT = pathlib.Path(__file__).resolve().parents[1]
SCRIPT = [sys.executable, str(ROOT / "dreamerv2" / "evaluate.py")]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A finished run that knows nothing, whose scores therefore depend on every random number."""
    folder = tmp_path_factory.mktemp("logdir") / "run"
    arguments = [
        "--configs", "debug", "--task", "dummy_catch", "--steps", "120", "--prefill", "40",
        "--train_every", "30", "--eval_every", "60", "--eval_eps", "7", "--envs", "2",
        "--eval_noise", "0.3", "--log_keys_success", "reward", "--logdir", str(folder),
    ]  # fmt: skip
    assert train.main(arguments) == 0
    return folder


def last_evaluation(run: pathlib.Path) -> dict[str, float]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if "eval_return" in row][-1]


def content(folder: pathlib.Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_repeats_the_last_evaluation_of_the_training(
    run: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    before = content(run)
    command = [*SCRIPT, "--logdir", str(run), "--outdir", str(tmp_path / "out")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=280, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    report = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    logged = last_evaluation(run)
    assert logged["step"] == report["frames"] == report["agent_steps"]
    assert report["return"]["mean"] == logged["eval_return"]
    assert len(set(report["return"]["each"])) > 1  # Otherwise equality would mean little.
    assert (report["episodes"], report["envs"], report["noise"]) == (7, 2, 0.3)
    caught = sum(score > 0 for score in report["return"]["each"]) / 7
    assert report["success_eval_reward"] == logged["success_eval_reward"] == caught
    assert f"Score of the success rates: {100 * caught:.2f} %" in result.stdout
    assert report["task"] == "dummy_catch" and report["checkpoint"].startswith("ckpt-")
    assert report["settings"]["eval_eps"] == 7 and "logdir" not in report["settings"]
    for number, score in enumerate(report["return"]["each"], 1):
        assert f"Episode {number}: return {score:g}, length 10\n" in result.stdout
    assert f"{report['return']['mean']:.2f}" in result.stdout and "median" in result.stdout
    assert content(run) == before


def test_videos_of_a_run_that_trains_in_the_default_folder(
    run: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run, tmp_path / "run")
    with (tmp_path / "run" / "lock").open("a") as lock:
        import fcntl

        fcntl.flock(lock, fcntl.LOCK_EX)
        arguments = ["--logdir", str(tmp_path / "run"), "--episodes", "3", "--seed", "5"]
        assert evaluate.main([*arguments, "--video", "--noise", "1", "--envs", "1"]) == 0
    folder = tmp_path / "run" / "evaluation"
    names = {f"{role}.{kind}" for role in ("best", "median", "worst") for kind in ("mp4", "gif")}
    assert {path.name for path in folder.iterdir()} == names | {"evaluation.json"}
    for role in ("best", "median", "worst"):
        with av.open(str(folder / f"{role}.mp4")) as file:
            assert len(list(file.decode(video=0))) == 11
    report = json.loads((folder / "evaluation.json").read_text())
    assert (report["seed"], report["envs"], report["noise"]) == (5, 1, 1.0)
    assert "best.mp4" in capsys.readouterr().out


def test_other_seeds_give_other_episodes_and_the_same_ones_the_same(
    run: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    scores = []
    for name, seed in [("a", "1"), ("b", "1"), ("c", "2")]:
        arguments = ["--logdir", str(run), "--outdir", str(tmp_path / name), "--seed", seed]
        assert evaluate.main([*arguments, "--episodes", "12"]) == 0
        report = json.loads((tmp_path / name / "evaluation.json").read_text())
        scores.append(report["return"]["each"])
    assert scores[0] == scores[1] != scores[2]


REFUSALS = [
    (["--logdir", "{tmp}/nowhere"], "'{tmp}/nowhere'", "no folder"),
    (["--logdir", "{tmp}"], "holds no run", "did you mean 'custom' in it"),
    (["--logdir", "{tmp}/empty"], "holds a run without a checkpoint", "first save"),
    (["--logdir", "{tmp}/other"], "no run of this program", "choose another logdir"),
    (["--logdir", "{tmp}/custom"], "custom_mine", "dreamerv2.api"),
    (["--logdir", "{tmp}/vector", "--video"], "observes only vector", "leave out --video"),
    (["--logdir", "{tmp}/run", "--checkpoint", "77"], "'77'", "choose from ckpt-"),
    (["--logdir", "{tmp}/run", "--episodes", "0"], "--episodes is 0", "use 1 or more"),
    (["--logdir", "{tmp}/run", "--episodes", "-1"], "'-1'", "0 or more"),
    (["--logdir", "{tmp}/run", "--envs", "two"], "'two'", "1 or more"),
    (["--logdir", "{tmp}/run", "--noise", "nan"], "'nan'", "a number of 0 or more"),
    (["--logdir", "{tmp}/run", "--noise", "2"], "eval_noise is 2", "at most 1"),
    (["--logdir", "{tmp}/run", "--outdir", "{tmp}/run/lock"], "run/lock", "--outdir"),
    (["--logdir", "{tmp}/run", "--dream", "tea"], "'tea'", "replay"),
    ([], "--logdir", "--help"),
]


@pytest.mark.parametrize(("arguments", "names", "mend"), REFUSALS, ids=[r[1] for r in REFUSALS])
def test_bad_input_is_one_sentence_and_writes_nothing(
    arguments: list[str],
    names: str,
    mend: str,
    run: pathlib.Path,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = Config.load(run / "config.yaml")
    for name, task in [
        ("run", "dummy_catch"), ("empty", "dummy_catch"), ("custom", "custom_mine"),
        ("vector", "gym_CartPole-v1"),
    ]:  # fmt: skip
        (tmp_path / name).mkdir()
        config.update({"task": task}).save(tmp_path / name / "config.yaml")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.yaml").write_text("model: resnet\n")
    shutil.copytree(run / "checkpoint", tmp_path / "run" / "checkpoint")
    (tmp_path / "run" / "lock").write_text("")
    before = content(tmp_path)
    arguments = [argument.format(tmp=tmp_path) for argument in arguments]
    assert evaluate.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert names.format(tmp=tmp_path) in error and mend in error
    assert content(tmp_path) == before


def test_help_needs_no_tensorflow() -> None:
    code = (
        "import sys; from dreamerv2 import evaluate\n"
        "try: evaluate.main(['--help'])\n"
        "except SystemExit as error: assert error.code == 0\n"
        "assert not {'tensorflow', 'keras', 'gymnasium'} & set(sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=os.environ
    )
    assert result.returncode == 0, result.stderr
    for text in ("--logdir", "--checkpoint", "--video", "--dream", "example: "):
        assert text in result.stdout
