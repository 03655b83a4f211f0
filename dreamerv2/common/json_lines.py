"""The file `metrics.jsonl`: one JSON object a line, and never half a line for long."""

from __future__ import annotations

import json
import math
import os
import pathlib
from collections.abc import Mapping

import numpy as np

from dreamerv2.common.errors import UserError


class JSONLines:
    """Appends to `metrics.jsonl`: a flushed line per write, `{"step": frames, name: number}`.

    Numbers that aren't finite become null, as JSON has no others. A last line that was torn when
    the previous run was killed is cut off when the file is opened. What a resumed run measures anew
    at the step that the file ends with is left out: each metric has one value a step.

    Args:
      logdir: Folder of the file; made if it isn't there.
    """

    def __init__(self, logdir: str | os.PathLike[str]) -> None:
        self.path = pathlib.Path(logdir) / "metrics.jsonl"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("ab", buffering=0)
        _cut_torn_line(self.path)
        self._last: tuple[int, set[str]] = (-1, set())  # What the file ended with when resuming.

    def write(
        self,
        step: int,
        scalars: Mapping[str, float],
        images: Mapping[str, np.ndarray] | None = None,
        videos: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Appends a line, if there are scalars; images and videos are left out.

        Raises:
          UserError: The disk is full, for example; the file ends with the line before.
        """
        if step == self._last[0]:
            scalars = {key: value for key, value in scalars.items() if key not in self._last[1]}
        if scalars:
            numbers = {k: v if math.isfinite(v) else None for k, v in scalars.items()}
            line = json.dumps({"step": step, **numbers}, allow_nan=False) + "\n"
            self._append(line.encode())

    def _append(self, line: bytes) -> None:
        size = os.fstat(self._file.fileno()).st_size
        left = line
        try:
            while left:  # A disk that is about to be full takes a part.
                left = left[self._file.write(left) :]
        except OSError as error:
            self._file.truncate(size)
            raise _unwritable(self.path, error.strerror) from error

    def truncate_after(self, step: int) -> None:
        """Drops the lines whose step is greater than that of the checkpoint being resumed.

        The resumed run writes them again. The file is replaced as a whole, so that being killed
        meanwhile loses nothing.

        Args:
          step: In environment frames.

        Raises:
          UserError: A line isn't one that this class writes, or the disk is full.
        """
        kept = []
        known: set[str] = set()
        for number, line in enumerate(self.path.read_bytes().splitlines(keepends=True), 1):
            try:
                row = json.loads(line)
                keep = row["step"] <= step
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(
                    f"Line {number} of {self.path} is damaged; delete that line to resume the run."
                ) from error
            if keep:
                kept.append(line)
                known.update(row if row["step"] == step else ())
        self._last = (step, known)
        temporary = self.path.with_suffix(".jsonl.tmp")
        try:
            with temporary.open("wb") as file:
                file.writelines(kept)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise _unwritable(self.path, error.strerror) from error
        self._file.close()
        os.replace(temporary, self.path)
        self._file = self.path.open("ab", buffering=0)

    def close(self) -> None:
        """Closes the file; may be called again."""
        self._file.close()


def _unwritable(path: pathlib.Path, reason: str | None) -> UserError:
    return UserError(
        f"{path} cannot be written ({reason}); free disk space or make the folder writable, then "
        "run the same command again."
    )


def _cut_torn_line(path: pathlib.Path) -> None:
    """Shortens a file to its last newline."""
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        position = end
        while position > 0:
            start = max(0, position - 65536)
            file.seek(start)
            newline = file.read(position - start).rfind(b"\n")
            if newline >= 0:
                position = start + newline + 1
                break
            position = start
        if position < end:
            file.truncate(position)
