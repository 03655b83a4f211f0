"""The folder of a run: who may write to it, and whether it fits the configuration."""

from __future__ import annotations

import fcntl
import os
import pathlib
import socket
from types import TracebackType

import numpy as np

from dreamerv2.common.config import Config
from dreamerv2.common.errors import UserError


def derive_seed(seed: int, *parts: int) -> int:
    """Return a seed for one purpose, so that no two purposes share random numbers."""
    return int(np.random.SeedSequence([seed, *parts]).generate_state(1)[0])


class Logdir:
    """Exclusive use of the folder of a run, as a context manager.

    The lock is the operating system's: it ends with the process, however that ends, and so is
    never stale.

    Args:
        config: Of the run.

    Raises:
        UserError: The folder cannot be written, another process is using it, or it holds the run
            of another task.
    """

    def __init__(self, config: Config) -> None:
        self.path = pathlib.Path(config.logdir).expanduser()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = open(self.path / "lock", "a+")  # noqa: SIM115
        except OSError as error:
            raise UserError(
                f"logdir {str(self.path)!r} cannot be written ({error.strerror}); "
                "choose a folder that you may write to."
            ) from None
        try:
            self._acquire()
            self._check_task(config)
        except BaseException:
            self._lock.close()
            raise

    def _acquire(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.seek(0)
            owner = self._lock.read().strip() or "unknown"
            raise UserError(
                f"logdir {str(self.path)!r} is in use by process {owner}; "
                "stop that process or choose another logdir."
            ) from None
        self._lock.truncate(0)
        self._lock.write(f"{os.getpid()} on {socket.gethostname()}\n")
        self._lock.flush()

    def _check_task(self, config: Config) -> None:
        path = self.path / "config.yaml"
        if not path.exists():
            return
        task = Config.load(path).flat.get("task")
        if task != config.task:
            raise UserError(
                f"logdir {str(self.path)!r} holds a run of task {task!r}, not of "
                f"{config.task!r}; choose another logdir or the same task."
            )

    def __enter__(self) -> Logdir:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let others use the folder."""
        self._lock.close()
