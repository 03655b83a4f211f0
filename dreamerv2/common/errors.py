"""The one exception that command lines turn into a sentence and exit status 2."""


class UserError(Exception):
    """Bad input by the user.

    The message is one sentence that names the key, the value and the mend. Command lines catch
    this exception, print ``error: <message>`` to the standard error stream and exit with status 2
    before anything is written. Every other exception is a bug and keeps its traceback.
    """
