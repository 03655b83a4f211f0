from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any

import pytest

from dreamerv2.common.background import Background


def fail(text: str) -> Any:
    raise ValueError(text)


def test_runs_jobs_in_a_thread_one_after_the_other() -> None:
    order: list[Any] = []
    may_end = threading.Event()

    def slow() -> None:
        may_end.wait()
        order.append(threading.current_thread().name)

    background = Background("writer")
    background.wait()
    background.start(slow)
    background.check()
    assert not order
    threading.Timer(0.05, may_end.set).start()
    background.start(lambda: order.append("second"))
    background.wait()
    assert order == ["writer", "second"]


@pytest.mark.parametrize("method", ["wait", "start", "check"])
def test_an_error_is_raised_once_by_the_next_call(method: str) -> None:
    background = Background("writer")
    ran: list[int] = []
    background.start(lambda: fail("one"))
    if method == "check":
        while background._thread is not None and background._thread.is_alive():
            background._thread.join()
    with pytest.raises(ValueError, match="one"):
        getattr(background, method)(*[lambda: ran.append(1)] * (method == "start"))
    background.check()
    background.wait()
    assert not ran


def test_the_end_of_the_process_waits_for_the_job() -> None:
    code = (
        "import time\n"
        "from dreamerv2.common.background import Background\n"
        "Background('x').start(lambda: (time.sleep(0.2), print('done')))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "done\n" and not result.stderr
