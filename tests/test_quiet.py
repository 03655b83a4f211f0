from __future__ import annotations

import subprocess
import sys

CODE = """
import os, sys
from dreamerv2.common.quiet import quiet_start
note = b"E0000 00:00:17 1 cuda_platform.cc:52] failed call to cuInit\\n"
try:
    with quiet_start():
        os.write(2, note)
        os.write(2, b"a real problem\\n")
        print("from Python", file=sys.stderr)
        raise ValueError("passes through")
except ValueError as error:
    print(error, file=sys.stderr)
os.write(2, b"afterwards\\n")
"""


def test_drops_notes_and_keeps_the_rest() -> None:
    result = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert result.returncode == 0
    lines = result.stderr.splitlines()
    assert lines == ["a real problem", "from Python", "passes through", "afterwards"]
