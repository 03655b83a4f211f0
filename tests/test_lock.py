"""One process at a time; what killed processes and other file systems leave is no lock."""

from __future__ import annotations

import errno
import fcntl
import os
import pathlib
import signal
import socket
import subprocess
import sys
from typing import Any

import pytest

from dreamerv2.common.lock import Lock, Locked

HOLD = (
    "import pathlib, sys, time\n"
    "from dreamerv2.common.lock import Lock\n"
    "lock = Lock(pathlib.Path(sys.argv[1]))\n"
    "print('held', flush=True)\n"
    "time.sleep(100)\n"
)


def hold(path: pathlib.Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLD, str(path)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=pathlib.Path(__file__).parents[1]
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_names_the_process_and_ends_with_it(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "lock"
    process = hold(path)
    try:
        with pytest.raises(Locked, match=f"^{process.pid} on {socket.gethostname()}$"):
            Lock(path)
    finally:
        end(process)
    assert path.read_text().startswith(str(process.pid))  # It looks held, but is not.
    lock = Lock(path)
    assert lock.doubt is None and path.read_text().startswith(f"{os.getpid()} on ")
    with pytest.raises(Locked):
        Lock(path)
    lock.close()
    Lock(path).close()


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)


@pytest.mark.usefixtures("no_locks")
def test_without_locks_a_process_that_runs_here_holds_it(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "lock"
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, text=True)
    owner = f"{process.pid} on {socket.gethostname()}"
    path.write_text(owner + "\n")
    try:
        with pytest.raises(Locked, match=f"^{owner}$"):
            Lock(path)
        assert path.read_text() == owner + "\n"
    finally:
        end(process)
    assert Lock(path).doubt is None


@pytest.mark.usefixtures("no_locks")
@pytest.mark.parametrize(
    ("text", "doubt"),
    [("", None), ("what", None), ("7 on elsewhere\n", "7 on elsewhere"), ("-1 on ", None)],
)
def test_without_locks_another_machine_is_in_doubt(
    tmp_path: pathlib.Path, text: str, doubt: str | None
) -> None:
    (tmp_path / "lock").write_text(text)
    assert Lock(tmp_path / "lock").doubt == doubt


def test_other_errors_are_no_answer(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(OSError, match="Input/output error"):
        Lock(tmp_path / "lock")
