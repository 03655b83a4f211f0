"""Signals become a flag; the same wish by two ways is one, a second wish ends the process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

from dreamerv2.common.signals import Interrupt


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in Interrupt.SIGNALS]
    with Interrupt() as interrupt:
        assert interrupt.requested is None
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)  # At once: from whoever passed on the first.
        assert interrupt.requested is signal.SIGTERM
    assert [signal.getsignal(number) for number in Interrupt.SIGNALS] == before


def test_second_signal_ends_the_process() -> None:
    code = (
        "import os, signal, sys, time\nsys.path.insert(0, sys.argv[1])\n"
        "from dreamerv2.common.signals import Interrupt\n"
        "Interrupt.SAME = 0.1\n"
        "with Interrupt():\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(0.2)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
    )
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    done = subprocess.run([sys.executable, "-c", code, root], check=False)
    assert done.returncode == 128 + signal.SIGTERM


def test_other_threads_are_left_alone() -> None:
    def use() -> None:
        with Interrupt() as interrupt:
            found.append(interrupt.requested)

    found: list[object] = []
    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert found == [None]
