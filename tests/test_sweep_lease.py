"""Leases: one holder at a time, whatever clocks, machines and storage do."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import pytest

from dreamerv2.sweeps import lease as leases
from dreamerv2.sweeps.lease import Holding, Lease, LeaseLost, Timing, Watch, is_gone, read_holder

TIMING = Timing(beat=10, fence=60, expire=120)


class Clock:
    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases as of processes on other machines: nobody can look for those."""
    monkeypatch.setattr(leases, "_machine", lambda: None)


def make(folder: pathlib.Path, now: float = 0.0) -> tuple[Lease, Clock]:
    clock = Clock(now)
    return Lease(folder, TIMING, clock), clock


def test_one_holder_at_a_time(tmp_path: pathlib.Path) -> None:
    first, _ = make(tmp_path / "new" / "folder")
    second, _ = make(tmp_path / "new" / "folder")
    assert first.acquire(attempt="a") and not second.acquire()
    assert second.holder["attempt"] == "a" and second.holder["processes"][0][0] == os.getpid()
    assert read_holder(tmp_path / "new" / "folder")[0]["attempt"] == "a"
    first.release()
    first.release()
    assert second.acquire() and not first.acquire()
    assert len(list((tmp_path / "new" / "folder").iterdir())) == 1


@pytest.mark.usefixtures("elsewhere")
def test_lease_expires_by_the_clock_of_whoever_watches(tmp_path: pathlib.Path) -> None:
    holder, clock = make(tmp_path, now=5e9)  # Its clock is far off.
    other, watching = make(tmp_path, now=-3e5)
    assert holder.acquire() and not other.acquire()
    for _ in range(5):  # As long as the holder shows itself, it keeps it.
        clock.now += 50
        watching.now += 100
        holder.beat()
        assert not other.acquire()
    watching.now += 119
    assert not other.acquire()
    watching.now += 1
    assert other.acquire()
    with pytest.raises(LeaseLost, match="took over"):
        clock.now += 11
        holder.beat()
    holder.release()  # Must not touch the lease of the other.
    watching.now += 11
    other.beat()
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.usefixtures("elsewhere")
def test_holder_that_slept_gives_up_before_anybody_may_take_over(tmp_path: pathlib.Path) -> None:
    holder, clock = make(tmp_path)
    assert holder.acquire()
    clock.now += TIMING.fence + 1
    with pytest.raises(LeaseLost, match="61 seconds"):
        holder.beat()
    assert TIMING.fence < TIMING.expire and Timing().fence < Timing().expire / 1.5


@pytest.mark.usefixtures("elsewhere")
def test_holder_bears_a_pause_of_the_storage(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder, clock = make(tmp_path)
    assert holder.acquire()
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", lambda *args: (_ for _ in ()).throw(OSError("gone")))
        for _ in range(4):
            clock.now += 14
            holder.beat()
        with pytest.raises(LeaseLost, match="70 seconds"):
            clock.now += 14
            holder.beat()


@pytest.mark.usefixtures("elsewhere")
def test_holder_that_wakes_up_while_another_claims_keeps_the_lease(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder, clock = make(tmp_path)
    other, watching = make(tmp_path)
    assert holder.acquire() and not other.acquire()
    watching.now += 120
    write = Lease._write

    def awake(self: Lease) -> None:
        write(self)
        if self is other:
            clock.now += 11
            holder.beat()

    monkeypatch.setattr(Lease, "_write", awake)
    assert not other.acquire()
    clock.now += 11
    holder.beat()
    assert [path.name for path in tmp_path.iterdir()] == ["lease-000001"]


@pytest.mark.usefixtures("elsewhere")
def test_two_that_wait_do_not_both_get_it(tmp_path: pathlib.Path) -> None:
    holder, _ = make(tmp_path)
    assert holder.acquire()
    (second, clock2), (third, clock3) = make(tmp_path), make(tmp_path)
    assert not second.acquire() and not third.acquire()
    clock2.now = clock3.now = 120
    assert second.acquire() and not third.acquire()
    # What the second claimed and never showed again goes to the third.
    clock3.now += 120
    assert third.acquire()


def test_processes_of_this_machine_that_ended_need_no_waiting(tmp_path: pathlib.Path) -> None:
    code = (
        "import pathlib, sys; sys.path.insert(0, sys.argv[2])\n"
        "from dreamerv2.sweeps.lease import Lease, Timing\n"
        "lease = Lease(pathlib.Path(sys.argv[1]), Timing(beat=0))\n"
        "assert lease.acquire(); lease.beat([int(sys.argv[3])]); print('held', flush=True)\n"
        "sys.stdin.read()"
    )
    root = str(pathlib.Path(__file__).resolve().parents[1])
    training = subprocess.Popen(["sleep", "100"])
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path), root, str(training.pid)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdout and holder.stdout.readline() == "held\n"
    watch = Watch(tmp_path, TIMING)
    assert watch.look() is Holding.HELD
    holder.kill()
    holder.communicate()
    assert watch.look() is Holding.HELD  # The training that it named is still there.
    training.kill()
    training.wait()
    assert watch.look() is Holding.STALE and is_gone(watch.holder)
    mine, _ = make(tmp_path)
    assert mine.acquire() and Watch(tmp_path, TIMING).look() is Holding.HELD


def test_number_of_a_process_that_is_another_now(tmp_path: pathlib.Path) -> None:
    mine, _ = make(tmp_path)
    assert mine.acquire()
    path = next(tmp_path.iterdir())
    record = json.loads(path.read_bytes())
    assert not is_gone(record)
    record["processes"][0][1] = "1"  # Started at another time.
    assert is_gone(record)
    assert not is_gone({**record, "machine": "another"})


def test_file_that_is_half_written_is_held(tmp_path: pathlib.Path) -> None:
    (tmp_path / "lease-000001").write_bytes(b"")
    clock = Clock()
    watch = Watch(tmp_path, TIMING, clock)
    assert watch.look() is Holding.HELD and watch.holder == {}
    clock.now += 120
    assert watch.look() is Holding.STALE
    lease, own = make(tmp_path)
    assert not lease.acquire()
    own.now += 120
    assert lease.acquire()
