"""The one exception that command lines turn into a sentence, and what a full disk looks like."""

from __future__ import annotations

import errno


class UserError(Exception):
    """Bad input by the user.

    The message is one sentence that names the key, the value and the mend. Command lines catch
    this exception, print ``error: <message>`` to the standard error stream and exit with status 2
    before anything is written. Every other exception is a bug and keeps its traceback.
    """


def no_space(error: OSError) -> bool:
    """Return whether a disk, a quota or a limit on files is what stopped a write."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
