"""Keeps TensorFlow's start-up notes off the terminal of a command-line program."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator

# What TensorFlow's C++ code prints before its own log level takes effect: that it has no CUDA
# driver, and which CPU instructions it was compiled for. Programs say themselves what they run on.
_NOTES = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog"
    rb"|[IWE]\d{4} .*(port|cudart_stub|cuda_platform|cpu_feature_guard|cuda_dnn|cuda_blas"
    rb"|cuda_fft|computation_placer|gpu_device|cuda_executor|cuda_diagnostics)\.cc:"
    rb"|To enable the following instructions"
)


@contextlib.contextmanager
def quiet_start() -> Iterator[None]:
    """Hold back what is written to standard error and drop TensorFlow's start-up notes from it.

    The rest is written at the end, also after an exception. Also sets TensorFlow's log level for
    what comes later, unless the user set it: errors reach Python as exceptions anyway.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)
            held.seek(0)
            for line in held:
                if not _NOTES.match(line):
                    os.write(2, line)
