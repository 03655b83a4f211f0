"""Reads small files that may come from anybody: plain ones of a plain size, or a sentence."""

from __future__ import annotations

import gzip
import io
import os
import pathlib
import stat
import zlib

from dreamerv2.common.errors import UserError


def read_bytes(path: str | os.PathLike[str], most: int = 1 << 22) -> bytes:
    """Return what a file holds, uncompressed if its name ends in `.gz`.

    Args:
      path: The file. A device or a pipe, which may never end, is refused.
      most: Bytes that it may hold, once it is uncompressed.

    Raises:
      UserError: It cannot be read, or is no such file.
    """
    path = pathlib.Path(path)
    try:
        # Without O_NONBLOCK opening a pipe would wait for a writer.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with open(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise UserError(f"{path} can't be read: it is not a file; name one")
            data = file.read(most + 1)
        if path.suffix == ".gz" and len(data) <= most:
            with gzip.open(io.BytesIO(data)) as packed:
                data = packed.read(most + 1)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise UserError(f"{path} can't be read: {error}") from None
    if len(data) > most:
        raise UserError(f"{path} can't be read: it holds more than the {most:,} bytes expected")
    return data


def read_text(path: str | os.PathLike[str], most: int = 1 << 20) -> str:
    """Return what a text file holds; raises UserError if it can't be read."""
    try:
        return read_bytes(path, most).decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{os.fspath(path)} can't be read: {error}") from None
