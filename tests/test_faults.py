"""Killed at any moment or out of space, a run goes on by the same command and has lost nothing."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from dreamerv2 import loop, train
from dreamerv2.api import Callback
from dreamerv2.common.checkpoint import Checkpoint, Saved
from dreamerv2.common.errors import UserError
from dreamerv2.common.json_lines import JSONLines
from dreamerv2.common.logger import TensorBoard
from dreamerv2.common.replay import Replay

ROOT = pathlib.Path(__file__).resolve().parents[1]


def test_killed_at_random_moments(tmp_path: pathlib.Path) -> None:
    """A few of the kills of benchmarks/faults.py, which looks at all that is left at the end."""
    command = [
        sys.executable, str(ROOT / "benchmarks" / "faults.py"), "--logdir", str(tmp_path / "run"),
        "--kills", "8", "--seconds", "15", "--seed", "1", "--fork",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    log = tmp_path / "run.log"
    assert done.stdout, done.stderr
    result = json.loads(done.stdout)
    assert not result["problems"], (result, log.read_text()[-3000:])
    assert result["kills"] >= 1 and done.returncode == 0


@pytest.fixture
def disk(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A file system of 4 MB of its own."""
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"a small file system cannot be mounted here ({error})")
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted here ({done.stderr.strip()})")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def fill(disk: pathlib.Path, leave: int = 0) -> pathlib.Path:
    """Take all the space but so many bytes; return the file to delete."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    if leave:
        os.truncate(filler, filler.stat().st_size - leave)
    return filler


def test_metrics_on_a_full_disk_keep_whole_lines(disk: pathlib.Path) -> None:
    lines = JSONLines(disk)
    step = 0

    def write(count: int) -> None:
        nonlocal step
        for _ in range(count):
            lines.write(step, {f"metric_{i}": step + i / 7 for i in range(50)})
            step += 1

    write(3)
    filler = fill(disk, leave=8192)
    with pytest.raises(UserError, match=r"metrics\.jsonl cannot be written \(No space left"):
        write(100)
    failed = step
    with pytest.raises(UserError, match="No space left"):
        lines.truncate_after(failed)
    assert sorted(path.name for path in disk.iterdir()) == ["filler", "metrics.jsonl"]
    filler.unlink()
    write(3)
    lines.close()
    rows = [json.loads(line) for line in (disk / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [*range(failed), *range(failed, failed + 3)]
    assert failed > 3


def test_event_files_on_a_full_disk_are_no_secret(disk: pathlib.Path) -> None:
    output = TensorBoard(disk)
    output.write(1, {"a": 1.0}, {}, {})
    filler = fill(disk)
    with pytest.raises(UserError, match=r"cannot be written \(.*free disk space"):
        output.write(2, {"a": 1.0}, {}, {})
    filler.unlink()
    output.close()


def test_replay_on_a_full_disk_stays_readable(disk: pathlib.Path) -> None:
    settings = {"capacity": 4000, "length": 4, "chunk": 50}
    replay = Replay(disk / "replay", **settings)
    filler = fill(disk, leave=1_000_000)

    def add(step: int) -> None:
        replay.add(
            {
                "image": np.full((64, 64, 1), step % 256, np.uint8),
                "is_first": np.bool_(step % 10 == 0),
                "is_last": np.bool_(step % 10 == 9),
            }
        )

    with pytest.raises(UserError, match=r"cannot grow by 0\.2 MB \(No space left on device\)"):
        for step in range(4000):
            add(step)
    assert step % 50 == 0 and step >= 100
    for _ in range(2):
        assert replay.stats["total_steps"] == step * 9 // 10
        assert replay.sample(50)["image"].shape == (50, 4, 64, 64, 1)
        assert not replay.verify() and not replay.notices
        replay.close()
        replay = Replay(disk / "replay", **settings)
    filler.unlink()
    for later in range(step, step + 60):
        add(later)
    assert replay.stats["total_steps"] == (step + 60) * 9 // 10


def test_checkpoint_on_a_full_disk_leaves_the_one_before(disk: pathlib.Path) -> None:
    import tensorflow as tf

    variable, state = tf.Variable(tf.zeros(100_000)), {"step": 0}

    def make() -> Checkpoint:
        saved = Saved(lambda: state, state.update)
        return Checkpoint(disk / "checkpoint", {"weights": variable}, {"progress": saved})

    checkpoint = make()
    variable.assign(tf.ones(100_000))
    state["step"] = 1
    checkpoint.save()
    files = sorted(path.name for path in (disk / "checkpoint").iterdir())
    for leave in (0, 200_000, 400_000 + 4096):  # While writing data, index and list.
        filler = fill(disk, leave)
        variable.assign(tf.zeros(100_000))
        state["step"] = 2
        with pytest.raises(UserError, match=r"could not be written \(No space left on device\);"):
            checkpoint.save()
        assert sorted(path.name for path in (disk / "checkpoint").iterdir()) == files
        assert make().restore()
        assert state["step"] == 1 and variable.numpy().sum() == 100_000
        filler.unlink()
    state["step"] = 3
    checkpoint.save()
    assert make().restore() and state["step"] == 3


def test_a_run_on_a_full_disk_goes_on_once_there_is_space(
    disk: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Fill(Callback):
        def on_update(self, run: loop.Training) -> None:
            if run.updates == 3:
                fill(disk)

    arguments = [
        "--configs", "debug", "--task", "dummy_catch", "--steps", "120", "--prefill", "40",
        "--train_every", "10", "--log_every", "20", "--eval_eps", "0", "--jit", "off",
        "--replay.capacity", "200", "--dataset.batch", "2", "--dataset.length", "4",
        "--imag_horizon", "2", "--logdir", str(disk / "run"),
    ]  # fmt: skip
    with monkeypatch.context() as patched:
        patched.setattr(loop, "run", functools.partial(loop.run, callbacks=Fill()))
        assert train.main(arguments) in (1, 2)
    error = capsys.readouterr().err
    sentences = [line for line in error.splitlines() if line.startswith("error: ")]
    assert len(sentences) == 1 and "Traceback" not in error
    assert "free" in sentences[0] or "full" in sentences[0]
    (disk / "filler").unlink()
    assert train.main(arguments) == 0
    rows = [json.loads(x) for x in (disk / "run" / "metrics.jsonl").read_text().splitlines()]
    steps = [row["step"] for row in rows]
    assert steps == sorted(steps) and steps[-1] == 120
    assert rows[-1]["updates"] == 1 + len(range(41, 121, 10))
