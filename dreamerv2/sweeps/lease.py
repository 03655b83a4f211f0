"""The right to work on a folder, across machines that share nothing but its storage.

Whoever holds a lease changes a file now and then. Whoever wants it watches that file: unchanged
for long enough by the watcher's own clock, the holder is gone. Clocks of different machines are
never compared. A holder that could not change its file for a while, because the storage or its
machine hung, must assume that it was given up, and does so well before anybody else may.

The storage has to create files exclusively and to show changes of a file to those who open it
afterwards, as local disks, NFS, Lustre, GPFS and CephFS do.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import json
import os
import pathlib
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any

# Every state of the file has this length, so that writing one replaces the one before.
_SIZE = 1024


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds.

    Attributes:
        beat: Between two changes of the file.
        fence: After which a holder that could not change it stops working.
        expire: After which an unchanged lease is anybody's; above `fence` by what it takes to
            stop working and what storage may delay.
    """

    beat: float = 10.0
    fence: float = 120.0
    expire: float = 240.0


class LeaseLost(Exception):
    """The lease is, or may be, somebody else's now."""


class Holding(enum.Enum):
    """What can be said about a lease from outside."""

    FREE = enum.auto()
    HELD = enum.auto()
    STALE = enum.auto()


def clock() -> float:
    """Seconds that pass also while the machine sleeps; unlike the time of day they never jump."""
    number = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if number is None else time.clock_gettime(number)


class Watch:
    """Tells by looking again and again whether somebody holds the lease of a folder.

    Args:
        folder: Where the lease is; need not exist.
        timing: Of the lease.
        now: Returns seconds.

    Attributes:
        seen: Name -> content of the lease files at the last look.
    """

    def __init__(
        self, folder: pathlib.Path, timing: Timing, now: Callable[[], float] = clock
    ) -> None:
        self._folder, self._timing, self._now = folder, timing, now
        self._since = now()
        self.seen: dict[str, bytes] = {}

    def look(self) -> Holding:
        """Look once."""
        seen = _read(self._folder)
        if seen != self.seen:
            self.seen, self._since = seen, self._now()
        if not seen:
            return Holding.FREE
        if self._now() - self._since >= self._timing.expire:
            return Holding.STALE
        # No need to wait for processes of this very machine that are no more.
        return Holding.STALE if all(map(_is_dead, seen.values())) else Holding.HELD

    @property
    def holder(self) -> dict[str, Any]:
        """What the holder told about itself; empty if there is none."""
        return _parse(self.seen[max(self.seen)]) if self.seen else {}


class Lease:
    """Exclusive use of a folder by this process and those that it names.

    Args:
        folder: Made if needed.
        timing: The same for all who want the folder.
        now: Returns seconds.
    """

    def __init__(
        self, folder: pathlib.Path, timing: Timing, now: Callable[[], float] = clock
    ) -> None:
        self._folder, self._timing, self._now = folder, timing, now
        self._watch = Watch(folder, timing, now)
        self._path: pathlib.Path | None = None
        self._file = -1
        self._last = 0.0
        self._record: dict[str, Any] = {
            "token": uuid.uuid4().hex, "beat": 0, "host": socket.gethostname(),
            "machine": _machine(), "processes": [_process(os.getpid())],
        }  # fmt: skip

    @property
    def holder(self) -> dict[str, Any]:
        """What the present holder tells about itself."""
        return self._watch.holder

    def acquire(self, **about: Any) -> bool:
        """Try once to get the lease.

        Args:
            about: JSON-able facts for others to read.

        Returns:
            False while somebody else holds it; call again later, as only repeated looks tell
            whether that somebody is still there.

        Raises:
            OSError: The folder cannot be written.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        if self._watch.look() is Holding.HELD:
            return False
        before = dict(self._watch.seen)
        number = max((int(name.rpartition("-")[2]) for name in before), default=0) + 1
        path = self._folder / f"lease-{number:06}"
        try:
            self._file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644)
        except FileExistsError:
            return False
        self._path, self._last = path, self._now()
        self._record.update(about)
        self._write()
        others = {name: data for name, data in _read(self._folder).items() if name != path.name}
        if others != before:  # The holder woke up, or somebody came in between.
            self.release()
            return False
        for name in others:
            (self._folder / name).unlink(missing_ok=True)
        return True

    def beat(self, processes: Iterable[int] = (), **about: Any) -> None:
        """Show that the holder is there, if it is time for that.

        Args:
            processes: Further processes that work on the folder.
            about: Facts to change.

        Raises:
            LeaseLost: Stop working on the folder at once, without writing to it.
        """
        assert self._path is not None
        passed = self._now() - self._last
        if passed > self._timing.fence:
            raise LeaseLost(f"the storage could not be reached for {passed:.0f} seconds")
        news = {"processes": [_process(pid) for pid in (os.getpid(), *processes)], **about}
        if passed < self._timing.beat and news.items() <= self._record.items():
            return
        self._record.update(news)
        try:
            if os.stat(self._path).st_ino != os.fstat(self._file).st_ino:
                raise LeaseLost("somebody else took over")
            self._write()
            self._last = self._now()
        except FileNotFoundError:
            raise LeaseLost("somebody else took over") from None
        except OSError:  # Perhaps for a moment only; the fence says for how long.
            return

    def release(self) -> None:
        """Give the lease back; does nothing without one."""
        if self._path is None:
            return
        with contextlib.suppress(OSError):
            if os.stat(self._path).st_ino == os.fstat(self._file).st_ino:
                self._path.unlink()
        os.close(self._file)
        self._path = None

    def _write(self) -> None:
        self._record["beat"] += 1
        data = json.dumps(self._record).encode()
        if len(data) > _SIZE:
            raise ValueError(f"a lease holds {_SIZE} bytes, not {len(data)}")
        os.pwrite(self._file, data.ljust(_SIZE), 0)
        os.fsync(self._file)


def read_holder(folder: pathlib.Path) -> tuple[dict[str, Any], float]:
    """Return what the holder of a lease tells, and when it did by the clock of the storage.

    Where nobody holds it, an empty dict and 0.
    """
    seen = _read(folder)
    if not seen:
        return {}, 0.0
    try:
        return _parse(seen[max(seen)]), (folder / max(seen)).stat().st_mtime
    except OSError:
        return {}, 0.0


def is_gone(holder: Mapping[str, Any]) -> bool:
    """Whether a holder was on this machine and its processes are no more."""
    return _is_dead(json.dumps(dict(holder)).encode())


def _read(folder: pathlib.Path) -> dict[str, bytes]:
    found = {}
    for path in folder.glob("lease-*"):
        with contextlib.suppress(FileNotFoundError):
            found[path.name] = path.read_bytes()
    return found


def _parse(data: bytes) -> dict[str, Any]:
    try:
        return json.loads(data)
    except ValueError:  # Read while it was being written.
        return {}


def _is_dead(data: bytes) -> bool:
    record = _parse(data)
    if not record.get("machine") or record["machine"] != _machine():
        return False
    return all(
        started is None or _process(pid) != [pid, started] for pid, started in record["processes"]
    )


def _machine() -> str | None:
    """A name of this start of this machine, as far as numbers of processes have a meaning."""
    try:
        boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return None


def _process(pid: int) -> list[Any]:
    """The number of a process and when it started, None if it is no more."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return [pid, None]
    return [pid, None if stat[0] == "Z" else stat[19]]
