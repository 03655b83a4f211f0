"""A lock file that one process at a time holds, and that says who."""

from __future__ import annotations

import errno
import fcntl
import os
import pathlib
import socket

# What locking answers on file systems that cannot.
_UNSUPPORTED = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)


class Locked(Exception):
    """Another process holds the lock; the message is its number and its machine."""


class Lock:
    """Holds a lock until it is closed or the process ends, however that ends.

    The lock is the operating system's, not the file: what a killed process leaves behind is never
    taken for a lock. Where the file system cannot lock, the process named in the file counts as
    the holder while it runs on this machine; of other machines nothing can be known.

    Args:
        path: The file, created if missing; it stays when the lock is given back.

    Attributes:
        doubt: Who held it last, if nothing but the file tells; else None.

    Raises:
        Locked: Another process holds it.
        OSError: The file cannot be written.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self.doubt: str | None = None
        self._file = open(path, "a+", encoding="utf-8")  # noqa: SIM115
        try:
            self._acquire()
            self._file.truncate(0)
            self._file.write(f"{os.getpid()} on {socket.gethostname()}\n")
            self._file.flush()
        except BaseException:
            self._file.close()
            raise

    def _acquire(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Locked(self._owner() or "unknown") from None
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            owner = self._owner()
            number, _, host = owner.partition(" on ")
            if host == socket.gethostname() and number != str(os.getpid()):
                if _runs(number):
                    raise Locked(owner) from None
            elif host and host != socket.gethostname():
                self.doubt = owner

    def _owner(self) -> str:
        self._file.seek(0)
        return self._file.read(200).strip()

    def close(self) -> None:
        """Give the lock back; may be called again."""
        self._file.close()


def _runs(number: str) -> bool:
    """Return whether a process of this machine has this number."""
    try:
        os.kill(max(1, int(number)), 0)
    except (ValueError, OverflowError, ProcessLookupError):
        return False
    except PermissionError:  # It runs, as someone else.
        return True
    return True
