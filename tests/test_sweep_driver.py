"""Sweeps without Ray: real keepers and processes, a training that only has the manners of one."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
from sweep_parts import QUICK, TRAINING, LocalPool, check_history, fake_run, history, wait_for

from dreamerv2 import sweep
from dreamerv2.common import scores
from dreamerv2.common.errors import UserError
from dreamerv2.common.signals import Interrupt
from dreamerv2.sweeps import files, status
from dreamerv2.sweeps import lease as leases
from dreamerv2.sweeps.driver import Driver, Ended
from dreamerv2.sweeps.lease import read_holder
from dreamerv2.sweeps.plan import Run


@pytest.fixture
def pool() -> Iterator[LocalPool]:
    pool = LocalPool()
    yield pool
    pool.close()


def make(runs: list[Run], pool: Any, events: list[dict[str, Any]] | None = None) -> Driver:
    events = [] if events is None else events
    return Driver(
        runs, pool, lambda event, **about: events.append({"event": event, **about}),
        program=TRAINING, timing=QUICK, pause=0.1,
    )  # fmt: skip


def finish(driver: Driver, seconds: float = 120.0) -> None:
    def step() -> bool:
        driver.step()
        return driver.finished

    wait_for(step, seconds)


def until(driver: Driver, condition: Any) -> Any:
    def step() -> Any:
        driver.step()
        return condition()

    return wait_for(step)


def pid_of(run: Run) -> int:
    """The training's process, once it has done some steps."""
    rows = history(run)
    return rows[-1][2] if rows and rows[-1][0] == "save" else 0


def test_runs_all_within_the_room_and_nothing_twice(
    tmp_path: pathlib.Path,
    pool: LocalPool,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"worker": ["a:1", "b:1"]}}')  # Of something else.
    runs = [fake_run(tmp_path, task, seed, 30) for task in ("atari_pong", "atari_boxing")
            for seed in (1, 2)]  # fmt: skip
    events: list[dict[str, Any]] = []
    finish(make(runs, pool, events))
    assert pool.most == 2
    for run in runs:
        check_history(run)
        assert not list((pathlib.Path(run.logdir) / ".sweep").glob("lease-*"))
    names = [event["event"] for event in events]
    assert names.count("submit") == names.count("done") == 4
    # The same command again has nothing to do; a longer run goes on.
    events.clear()
    driver = make(runs, pool, events)
    assert driver.finished and not events
    longer = fake_run(tmp_path, "atari_pong", 1, 50)
    finish(make([longer], pool))
    check_history(longer)
    # The score programs read the folder as it is.
    assert scores.main(["k1", "--indir", str(tmp_path), "--baselines"]) == 0
    table = capsys.readouterr().out
    assert "pong" in table.lower() and "boxing" in table.lower()


def test_program_shows_what_happens_and_tells_by_its_status(
    tmp_path: pathlib.Path,
    pool: LocalPool,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sweep, "_TICK", 0.05)
    good, bad = fake_run(tmp_path, "atari_pong", 1, 30), fake_run(tmp_path, "atari_qbert", fail="x")
    for runs, code in (([good], 0), ([good, bad], 1)):
        with Interrupt() as interrupt:
            lease = sweep._acquire(tmp_path, interrupt)
        assert lease is not None
        status.write_plan(tmp_path, runs)
        events = files.Events(tmp_path)
        driver = Driver(runs, pool, events, program=TRAINING, timing=QUICK, pause=0.1)
        with pytest.raises(UserError, match=r"a sweep is running in .* by process"):
            clock = iter([0.0, *[1e6] * 99])
            monkeypatch.setattr(leases, "clock", lambda clock=clock: next(clock))
            sweep._acquire(tmp_path, Interrupt())
        monkeypatch.undo()
        monkeypatch.setattr(sweep, "_TICK", 0.05)
        assert sweep._drive(driver, tmp_path, lease, events) == code
        lease.release()
    text = capsys.readouterr().out
    assert "All runs are complete: python common/scores.py" in text
    assert "1 of them are complete already" in text and "1 runs were given up" in text
    assert text.count("atari_qbert/dreamerv2/1 starts again: exit status 1: ValueError: x") == 2
    assert "given up: failed 3 times in the same way" in text
    rows = [json.loads(line) for line in (tmp_path / "sweep.jsonl").read_text().splitlines()]
    assert rows[-1]["event"] == "end" and rows[-1]["failed"] == 1


def test_failed_run_is_given_up_at_the_third_time_and_says_why(
    tmp_path: pathlib.Path, pool: LocalPool
) -> None:
    runs = [
        fake_run(tmp_path, "atari_pong", fail="no such thing"),
        fake_run(tmp_path, "atari_qbert"),
    ]
    events: list[dict[str, Any]] = []
    driver = make(runs, pool, events)
    finish(driver)
    assert [entry.state for entry in driver.entries] == ["failed", "done"]
    assert [row[0] for row in history(runs[0])].count("begin") == 3
    last = [event for event in events if event["event"] == "given_up"]
    assert len(last) == 1 and "failed 3 times in the same way" in last[0]["reason"]
    assert "ValueError: no such thing" in last[0]["reason"] and len(last[0]["lines"]) == 2
    status.write_plan(tmp_path, runs)
    failed, done = status.read_sweep(tmp_path, QUICK)
    assert (failed.state, done.state) == ("failed", "done")
    assert "no such thing" in failed.note and failed.lines
    # Mended, the same command tries again from where the run was saved.
    mended = [fake_run(tmp_path, "atari_pong")]
    finish(make(mended, pool))
    assert [s.state for s in status.read_sweep(tmp_path, QUICK)] == ["done", "done"]


def test_killed_training_starts_again_from_what_it_saved(
    tmp_path: pathlib.Path, pool: LocalPool
) -> None:
    run = fake_run(tmp_path, "atari_pong", tick=0.01, steps=60)
    events: list[dict[str, Any]] = []
    driver = make([run], pool, events)
    os.kill(until(driver, lambda: pid_of(run)), signal.SIGKILL)
    finish(driver)
    check_history(run)
    failed = next(event for event in events if event["event"] == "failed")
    assert "signal 9 (SIGKILL)" in failed["reason"]


def test_lost_worker_lets_the_training_save_before_it_goes_on_elsewhere(
    tmp_path: pathlib.Path,
    pool: LocalPool,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = fake_run(tmp_path, "atari_pong", steps=60)
    driver = make([run], pool)
    until(driver, lambda: pid_of(run))
    ended = [pool.break_off(driver.entries[0].attempt)]
    with monkeypatch.context() as patch:
        patch.setattr(pool, "poll", lambda: ended)
        driver.step()
    assert not driver.entries[0].submitted
    finish(driver)
    check_history(run)
    ends = [row for row in history(run) if row[0] == "end"]
    assert len(ends) == 2 and 0 < ends[0][1] < 60  # Saved on the way, then complete.


def test_killed_keeper_lets_the_training_save(tmp_path: pathlib.Path, pool: LocalPool) -> None:
    run = fake_run(tmp_path, "atari_pong", steps=60)
    driver = make([run], pool)
    until(driver, lambda: pid_of(run))
    holder, _ = read_holder(pathlib.Path(run.logdir) / ".sweep")
    os.kill(holder["processes"][0][0], signal.SIGKILL)
    finish(driver)
    check_history(run)
    assert [row[0] for row in history(run)].count("end") == 2


def test_stopping_saves_everything_and_the_same_sweep_continues(
    tmp_path: pathlib.Path, pool: LocalPool
) -> None:
    runs = [fake_run(tmp_path, "atari_pong", seed, 100) for seed in (1, 2, 3)]
    driver = make(runs, pool)
    until(driver, lambda: pid_of(runs[0]) and pid_of(runs[1]))
    driver.stop()
    finish(driver)
    assert [row[0] for row in history(runs[0])][-1] == "end" and not history(runs[2])
    status.write_plan(tmp_path, runs)
    states = [s.state for s in status.read_sweep(tmp_path, QUICK)]
    assert states == ["waiting"] * 3
    finish(make(runs, pool))
    for run in runs:
        check_history(run)


def test_sweep_waits_for_trainings_of_a_killed_one(tmp_path: pathlib.Path, pool: LocalPool) -> None:
    run = fake_run(tmp_path, "atari_pong", steps=100)
    driver = make([run], pool)
    until(driver, lambda: pid_of(run))
    # The pipes stay open: a training that nobody told to stop so far.
    again = make([run], LocalPool())
    again.step()
    assert not again.entries[0].submitted
    assert [s.state for s in _read(tmp_path, [run])] == ["running"]
    pool.close()
    finish(again)
    check_history(run)


def _read(folder: pathlib.Path, runs: list[Run]) -> list[status.Status]:
    status.write_plan(folder, runs)
    return status.read_sweep(folder, QUICK)


def test_folder_that_cannot_be_used_is_a_failure_with_a_reason(
    tmp_path: pathlib.Path, pool: LocalPool
) -> None:
    run = fake_run(tmp_path, "atari_pong")
    pathlib.Path(run.logdir).parent.mkdir(parents=True)
    pathlib.Path(run.logdir).write_text("a file in the way")
    pool.submit({"logdir": run.logdir, "command": [TRAINING], "frames": 1, "attempt": "a"}, "")
    (ended,) = wait_for(pool.poll)
    assert ended.end["kind"] == "failed" and "cannot be used: " in ended.end["reason"]


class Scripted:
    """A pool whose attempts all end at once, as a script says."""

    def __init__(self, *ends: dict[str, Any] | None) -> None:
        self.ends, self.attempts = list(ends), list[str]()
        self.count = 0

    def slots(self) -> int:
        return 1

    def submit(self, job: Any, name: str) -> None:
        self.attempts.append(job["attempt"])
        self.count += 1

    def poll(self) -> list[Ended]:
        return [Ended(self.attempts.pop(), self.ends.pop(0), "gone") for _ in self.attempts[:1]]

    def cancel(self, attempt: str) -> None:
        raise AssertionError


def failed(reason: str, seconds: float = 1.0) -> dict[str, Any]:
    return {"kind": "failed", "reason": reason, "seconds": seconds, "lines": []}


DONE = {"kind": "done", "frames": 160, "seconds": 1.0}


@pytest.mark.parametrize(("ends", "attempts", "state"), [
    ([DONE], 1, "done"),
    # Numbers in a message make no difference, other failures and hours of work do.
    ([failed("a 1"), failed("a 2"), failed("a 3")], 3, "failed"),
    ([failed("a"), failed("b"), failed("a"), failed("a"), DONE], 5, "done"),
    ([failed("a"), failed("a"), failed("a", 4000.0), failed("a"), DONE], 5, "done"),
    # A machine that goes is no failure of the run, unless it never gets anywhere.
    ([failed("a"), failed("a"), None, DONE], 4, "done"),
    ([None] * 9 + [DONE], 10, "done"),
    ([None] * 10, 10, "failed"),
    ([failed("abcdefghij"[i]) for i in range(10)], 10, "failed"),
])  # fmt: skip
def test_what_ends_a_run(
    tmp_path: pathlib.Path, ends: list[Any], attempts: int, state: str
) -> None:
    run, pool = fake_run(tmp_path, "atari_pong"), Scripted(*ends)
    (pathlib.Path(run.logdir) / ".sweep").mkdir(parents=True)
    now = iter(range(10**6))
    driver = Driver([run], pool, lambda event, **about: None, now=lambda: next(now))
    finish(driver)
    assert (driver.entries[0].state, pool.count) == (state, attempts)


def test_events_are_lines_of_json(tmp_path: pathlib.Path) -> None:
    events = files.Events(tmp_path)
    events("start", runs=3)
    events("done", run="a/b/1", frames=8)
    rows = [json.loads(line) for line in (tmp_path / "sweep.jsonl").read_text().splitlines()]
    assert all(abs(row.pop("time") - time.time()) < 60 for row in rows)
    assert rows == [{"event": "start", "runs": 3}, {"event": "done", "run": "a/b/1", "frames": 8}]
