import io
import os
import pty
import re
import select
import subprocess
import sys

import pytest

from dreamerv2.common import terminal


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def stream():
    return io.StringIO()


class TestFormat:
    def test_puts_key_numbers_first_then_losses_and_leaves_out_the_rest(self):
        scalars = {
            "kl_loss": 1.23456, "actor_ent": 2.0, "eval_return": -3.0, "actor_loss": 1e-5,
            "fps": 123.4, "train_return": 12345.6,
        }  # fmt: skip
        assert terminal.format_line(400_000, scalars) == (
            "[400,000]  fps 123  train_return 12,346  eval_return -3  "
            "actor_loss 1e-05  kl_loss 1.23"
        )

    def test_shows_the_first_metrics_where_no_key_numbers_are(self):
        scalars = {f"m{i}": float(i) for i in range(20)}
        line = terminal.format_line(4, scalars)
        assert line.startswith("[4]  m0 0  m1 1  ")
        assert line.endswith("m9 9")

    def test_shows_numbers_that_are_not_finite(self):
        line = terminal.format_line(0, {"a_loss": float("nan"), "b_loss": -float("inf")})
        assert line == "[0]  a_loss nan  b_loss -inf"

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [
            (0, "0:00"), (5.4, "0:05"), (59.6, "1:00"), (750, "12:30"), (3600, "1:00:00"),
            (10921, "3:02:01"), (86399, "23:59:59"), (4 * 86400 + 3 * 3600 + 59, "4d 3h"),
        ],
    )  # fmt: skip
    def test_duration(self, seconds, text):
        assert terminal.format_duration(seconds) == text


class TestPlainLines:
    def test_prints_one_line_per_write(self, stream):
        with terminal.Terminal(stream) as term:
            term.write(4, {"train_return": 1.0, "other": 2.0}, {}, {})
            term.write(8, {}, {"image": None}, {})
            term.write(12, {"model_loss": 0.5}, {}, {})
        assert stream.getvalue() == "[4]  train_return 1\n[12]  model_loss 0.5\n"

    def test_prints_progress_now_and_then_and_a_summary(self, stream, clock):
        with (
            terminal.Terminal(stream, clock) as term,
            term.progress("Prefill", 5000) as progress,
        ):
            for step in range(0, 4000, 50):
                clock.now += 0.5
                progress.update(step + 50)
        assert stream.getvalue().splitlines() == [
            "Prefill 0/5,000 steps",
            "Prefill 3,000/5,000 steps  100 steps/s  0:20 left",
            "Prefill 4,000/5,000 steps in 0:40",
        ]

    def test_contains_no_control_characters(self, stream, clock):
        with terminal.Terminal(stream, clock) as term, term.progress("Train", 100) as progress:
            clock.now += 31
            progress.update(50)
            term.write(200, {"fps": 1.0})
        assert re.fullmatch(r"[ -~\n]+", stream.getvalue())

    def test_dumb_terminals_get_plain_lines(self, monkeypatch, clock):
        class Screen(io.StringIO):
            def isatty(self):
                return True

        monkeypatch.setenv("TERM", "dumb")
        screen = Screen()
        with terminal.Terminal(screen, clock) as term, term.progress("Train", 10):
            pass
        assert screen.getvalue() == "Train 0/10 steps\nTrain 0/10 steps in 0:00\n"


class TestProgress:
    def test_knows_nothing_before_it_has_begun(self, stream, clock):
        progress = terminal.Terminal(stream, clock).progress("Train", 10)
        assert progress.rate == 0
        assert "left" not in progress.status()

    def test_work_before_a_resume_does_not_count_as_speed(self, stream, clock):
        progress = terminal.Terminal(stream, clock).progress("Train", 2000, "frames", start=1000)
        clock.now += 10
        progress.update(1100)
        assert progress.rate == pytest.approx(10)
        assert progress.status() == "1,100/2,000 frames  10 frames/s  1:30 left"

    def test_shows_the_latest_note(self, stream, clock):
        progress = terminal.Terminal(stream, clock).progress("Evaluate", 3, "episodes")
        progress.update(1, "step 12")
        assert progress.status() == "1/3 episodes  step 12"
        progress.update(2)
        assert progress.status() == "2/3 episodes"

    def test_speed_is_that_of_the_last_minute(self, stream, clock):
        progress = terminal.Terminal(stream, clock).progress("Train", 10**6)
        completed = 0
        for speed in [1] * 100 + [50] * 65:
            clock.now += 1
            completed += speed
            progress.update(completed)
        assert progress.rate == pytest.approx(50)

    def test_speed_survives_steps_that_take_longer_than_the_window(self, stream, clock):
        progress = terminal.Terminal(stream, clock).progress("Train", 100)
        for completed in range(1, 5):
            clock.now += 300
            progress.update(completed)
        assert progress.rate == pytest.approx(1 / 300)

    def test_shows_the_last_returns(self, stream, clock):
        term = terminal.Terminal(stream, clock)
        progress = term.progress("Train", 10)
        term.write(4, {"train_return": 5.0})
        term.write(8, {"train_return": 7.0, "eval_return": -1.5})
        assert progress.status().endswith("return: train 7  eval -1.5")

    def test_going_past_the_end_leaves_no_time(self, stream, clock):
        progress = terminal.Terminal(stream, clock).progress("Train", 10)
        clock.now += 1
        progress.update(20)
        assert "0:00 left" in progress.status()

    def test_closing_twice_says_it_once(self, stream, clock):
        term = terminal.Terminal(stream, clock)
        progress = term.progress("Train", 10)
        progress.close()
        progress.close()
        term.close()
        assert stream.getvalue().count(" in ") == 1


SCRIPT = """
import sys, time
from dreamerv2.common.terminal import Terminal
with Terminal() as term:
    with term.progress("Prefill", 10) as progress:
        progress.update(10)
    progress = term.progress("Train", 100, "frames")
    for index in range(4):
        time.sleep(0.6)
        progress.update(10 * index + 10)
        term.write(index, {"train_return": float(index)})
        print("printed", index)
    time.sleep(0.5)
    if sys.argv[1] == "raise":
        raise RuntimeError("on purpose")
"""


def run_in_terminal(script, *arguments):
    """The screen output of a Python script that runs in a terminal, and its exit status."""
    master, slave = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TERM": "xterm"}
    environment |= {"COLUMNS": "100", "LINES": "20"}
    process = subprocess.Popen(
        [sys.executable, "-c", script, *arguments], stdout=slave, stderr=slave, env=environment
    )
    os.close(slave)
    output = b""
    while select.select([master], [], [], 30)[0]:
        try:
            data = os.read(master, 65536)
        except OSError:  # How Linux says that the other end is closed.
            break
        if not data:
            break
        output += data
    os.close(master)
    return output.decode(), process.wait(30)


HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


class TestLiveBar:
    def test_bar_stays_below_the_lines_and_the_cursor_comes_back(self):
        output, status = run_in_terminal(SCRIPT, "finish")
        assert status == 0
        assert re.search(r"Train \S+.*40/100 frames", output)
        assert re.search(r"frames/s  0:\d\d left  return: train 2", output)
        assert [line for line in output.splitlines() if line.endswith("printed 3")]
        assert re.search(r"\[3\]  train_return 3\r\n", output)
        assert "Prefill 10/10 steps in 0:00\r\n" in output
        assert output.count(HIDE) == output.count(SHOW) == 2
        assert output.endswith("Train 40/100 frames in 0:03\r\n")

    def test_restores_the_terminal_after_an_exception(self):
        output, status = run_in_terminal(SCRIPT, "raise")
        assert status == 1
        assert output.rfind(SHOW) > output.rfind(HIDE)
        assert output.index("Traceback") > output.rfind(SHOW)
        assert "on purpose" in output
