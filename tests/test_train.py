"""The program as a user runs it: real runs, resuming, stopping, and every refusal."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
from metric_names import unexplained

from dreamerv2 import cli, train
from dreamerv2.common.config import Config

ROOT = pathlib.Path(__file__).resolve().parents[1]
SCRIPT = [sys.executable, str(ROOT / "dreamerv2" / "train.py")]
TINY = [
    "--configs", "debug", "--task", "dummy_catch", "--steps", "120", "--prefill", "40",
    "--train_every", "10", "--log_every", "40", "--eval_every", "60",
]  # fmt: skip


def lines(logdir: pathlib.Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (logdir / "metrics.jsonl").read_text().splitlines()]


def without_times(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if k != "fps"} for row in rows]


def test_atari_from_the_command_line_and_again(tmp_path: pathlib.Path) -> None:
    command = [
        *SCRIPT, "--logdir", str(tmp_path / "run"), "--configs", "atari", "debug",
        "--task", "atari_pong", "--steps", "180", "--eval_every", "60", "--time_limit", "40",
    ]  # fmt: skip
    first = subprocess.run(command, capture_output=True, text=True, timeout=280, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "Found no GPU" in first.stdout or "Found" in first.stdout
    assert "Prefill" in first.stdout and "Train" in first.stdout
    rows = lines(tmp_path / "run")
    steps = [row["step"] for row in rows]
    assert steps == sorted(steps) and steps[-1] == 4 * 180
    for key in ("train_return", "eval_return", "image_loss", "kl_loss", "actor_loss", "fps"):
        assert any(key in row for row in rows), key
    assert not unexplained(set().union(*rows))  # In docs/metrics.md.
    # One update at the start, then one every 20 agent steps from the first step on.
    assert rows[-1]["updates"] == 1 + len(range(101, 181, 20))
    assert list((tmp_path / "run").glob("events.out.*"))
    again = subprocess.run(command, capture_output=True, text=True, timeout=280, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "complete at 720 frames" in again.stdout
    assert lines(tmp_path / "run") == rows


def test_same_seed_same_metrics_other_seed_others(tmp_path: pathlib.Path) -> None:
    for name, seed, steps in [("a", "3", "120"), ("b", "3", "120"), ("c", "4", "60")]:
        arguments = [*TINY, "--logdir", str(tmp_path / name), "--seed", seed, "--steps", steps]
        assert train.main(arguments) == 0
    first, second, third = (without_times(lines(tmp_path / name)) for name in "abc")
    assert first == second
    assert all(row not in first for row in third)


def test_resumes_where_it_stopped(tmp_path: pathlib.Path) -> None:
    logdir = tmp_path / "run"
    assert train.main([*TINY, "--logdir", str(logdir), "--steps", "80"]) == 0
    before = lines(logdir)
    assert train.main([*TINY, "--logdir", str(logdir), "--steps", "160"]) == 0
    after = lines(logdir)
    assert after[: len(before)] == before
    assert [row["step"] for row in after] == sorted(row["step"] for row in after)
    assert after[-1]["step"] == 160
    # The counter of updates and their rhythm go on: one an 10 steps over the whole run.
    assert after[-1]["updates"] == 1 + len(range(41, 161, 10))
    assert Config.load(logdir / "config.yaml")["steps"] == 160


def test_updates_lost_with_an_old_checkpoint_are_made_up_for(tmp_path: pathlib.Path) -> None:
    logdir = tmp_path / "run"
    assert train.main([*TINY, "--logdir", str(logdir), "--steps", "80"]) == 0
    saved = {p.name: p.read_bytes() for p in (logdir / "checkpoint").iterdir()}
    assert train.main([*TINY, "--logdir", str(logdir), "--steps", "120"]) == 0
    # As if the process had been killed after step 120 but before it saved again.
    for path in (logdir / "checkpoint").iterdir():
        path.unlink()
    for name, data in saved.items():
        (logdir / "checkpoint" / name).write_bytes(data)
    assert train.main([*TINY, "--logdir", str(logdir), "--steps", "160"]) == 0
    rows = lines(logdir)
    assert rows[-1]["step"] == 160
    assert rows[-1]["updates"] == 1 + len(range(41, 161, 10))
    assert [row["step"] for row in rows] == sorted(row["step"] for row in rows)


def test_damaged_checkpoint_falls_back_to_the_one_before(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    logdir = tmp_path / "run"
    for steps in ("60", "80"):
        assert train.main([*TINY, "--logdir", str(logdir), "--steps", steps]) == 0
    newest = max((logdir / "checkpoint").glob("*.data-*"), key=lambda p: p.stat().st_mtime)
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 0xFF
    newest.write_bytes(data)
    assert train.main([*TINY, "--logdir", str(logdir), "--steps", "100"]) == 0
    assert "damaged and passed over" in caplog.text
    assert lines(logdir)[-1]["updates"] == 1 + len(range(41, 101, 10))


def test_signal_saves_and_the_same_command_continues(tmp_path: pathlib.Path) -> None:
    logdir = tmp_path / "run"
    command = [*SCRIPT, *TINY, "--logdir", str(logdir), "--steps", "100000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    metrics = logdir / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (metrics.exists() and len(lines(logdir)) >= 3):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    busy = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert busy.returncode == 2 and f"in use by process {process.pid} on" in busy.stderr
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "saved; run the same command to continue" in output
    reached = lines(logdir)[-1]["step"]
    assert train.main([*TINY, "--logdir", str(logdir), "--steps", str(int(reached) + 20)]) == 0
    assert lines(logdir)[-1]["step"] == reached + 20


def test_vectors_continuous_actions_and_parallel_environments(tmp_path: pathlib.Path) -> None:
    arguments = [
        "--configs", "vector", "debug", "--task", "gym_Pendulum-v1", "--envs", "2",
        "--steps", "160", "--eval_every", "100", "--logdir", str(tmp_path),
    ]  # fmt: skip
    assert train.main(arguments) == 0
    row = lines(tmp_path)[-1]
    assert row["step"] >= 160 and "vector_loss" in row


REFUSALS = [
    (["--configs", "atrai"], "unknown configuration 'atrai'", "atari"),
    (["--rssm.detr", "100"], "rssm.detr", "rssm.deter"),
    (["--dataset.batch", "many"], "dataset.batch", "many"),
    (["--replay.minlen", "50"], "replay.minlen", "dataset.length"),
    (["--task", "walker"], "walker", "atari_<game>"),
    (["--task", "atari_pongg"], "pongg", "atari_pong"),
    (["--task", "gym_CartPole-v7"], "CartPole-v7", "CartPole-v1"),
    (["--task", "dummy_catch", "--envs_parallel", "native"], "native", "Atari"),
    (["--task", "dummy_catch", "--render_size", "70", "70"], "70x70", "64, 80"),
    (["--task", "dummy_catch", "--actor.dist", "trunc_normal"], "actor.dist", "onehot"),
    (["--task", "dummy_catch", "--actor_ent", "linear(1,2)"], "actor_ent", "linear(start"),
    (["--task", "dummy_catch", "--encoder.cnn_keys", "$^"], "encoder.cnn_keys", "image"),
    (["--task", "dummy_catch", "--prefill", "40"], "prefill is 40", "at least"),
    (["--logdir", "/proc/nowhere"], "/proc/nowhere", "folder"),
    (["pong"], "pong", "~/logdir/run"),
]


@pytest.mark.parametrize(("arguments", "names", "mend"), REFUSALS, ids=[r[1] for r in REFUSALS])
def test_bad_input_is_one_sentence_and_writes_nothing(
    arguments: list[str],
    names: str,
    mend: str,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    logdir = tmp_path / "run"
    assert train.main(["--logdir", str(logdir), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert names in error and mend in error
    assert not logdir.exists()


def test_other_task_or_networks_in_a_used_logdir(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*TINY, "--logdir", str(tmp_path), "--steps", "60"]
    assert train.main(arguments) == 0
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file() and p.name != "lock"}
    for extra, words in [
        (["--task", "dummy_count"], "task: dummy_catch -> dummy_count"),
        (["--steps", "90", "--rssm.deter", "20"], "rssm.deter: 16 -> 20"),
    ]:
        assert train.main([*arguments, *extra]) == 2
        assert words in capsys.readouterr().err
    assert {p: p.read_bytes() for p in before} == before


def test_help_needs_no_tensorflow() -> None:
    code = (
        "import sys; from dreamerv2 import train\n"
        "try: train.main(['--help'])\n"
        "except SystemExit as error: assert error.code == 0\n"
        "assert not {'tensorflow', 'keras', 'gymnasium'} & set(sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT,
        env={**os.environ, "COLUMNS": "120"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    for text in ("actor_ent", "rssm.deter", "1024", "atari", "small", "debug"):
        assert text in result.stdout


def test_dreamerv2_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert cli.main(["--help"]) == 0
    assert "train" in capsys.readouterr().out
    assert cli.main(["trian"]) == 2
    assert "did you mean train" in capsys.readouterr().err
    assert cli.main(["train", "--configs", "nothing"]) == 2
