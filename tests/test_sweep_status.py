"""Where a sweep stands, by what is on the storage; its tables; the command line."""

from __future__ import annotations

import io
import json
import pathlib
import re
import subprocess
import sys

import pytest

from dreamerv2 import cli, sweep
from dreamerv2.sweeps import files, status, table
from dreamerv2.sweeps.keeper import explain
from dreamerv2.sweeps.lease import Lease, Timing
from dreamerv2.sweeps.status import Status

ROOT = pathlib.Path(__file__).resolve().parents[1]
TIMING = Timing()


def write_metrics(logdir: pathlib.Path, *rows: dict[str, float], rest: str = "") -> None:
    logdir.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows) + rest
    (logdir / "metrics.jsonl").write_text(text)


def end(logdir: pathlib.Path, kind: str, **about: object) -> None:
    (logdir / ".sweep").mkdir(parents=True, exist_ok=True)
    files.write_end(logdir, {"kind": kind, "attempt": "a", **about})


def look(logdir: pathlib.Path, total: int = 400, later: float = 0.0) -> Status:
    (logdir / ".sweep").mkdir(parents=True, exist_ok=True)
    return status.read("t/m/1", logdir, total, files.storage_time(logdir) + later, TIMING)


class TestMetrics:
    def test_are_read_from_the_end(self, tmp_path: pathlib.Path) -> None:
        rows: list[dict[str, float]] = [{"step": i, "train_return": i} for i in range(9000)]
        rows += [{"step": 9000, "eval_return": 3.5}, {"step": 9001, "fps": 7.0, "train_return": 1}]
        write_metrics(tmp_path, *rows, rest='{"step": 9002, "tr')
        assert files.read_metrics(tmp_path) == files.Metrics(9001, 7.0, 3.5)

    def test_are_nothing_at_the_beginning(self, tmp_path: pathlib.Path) -> None:
        assert files.read_metrics(tmp_path) == files.Metrics(0, None, None)
        write_metrics(tmp_path, {"step": 40, "train_return": 2.0})
        assert files.read_metrics(tmp_path) == files.Metrics(40, None, 2.0)


class TestStates:
    def test_waiting_at_first(self, tmp_path: pathlib.Path) -> None:
        assert look(tmp_path).state == "waiting"

    def test_running_then_lost(self, tmp_path: pathlib.Path) -> None:
        write_metrics(tmp_path, {"step": 100, "fps": 10.0, "eval_return": 4.0})
        lease = Lease(tmp_path / ".sweep", TIMING)
        assert lease.acquire()
        now = look(tmp_path)
        assert (now.state, now.frames, now.fps, now.left) == ("running", 100, 10.0, 30.0)
        assert now.node and now.score == 4.0
        assert look(tmp_path, later=TIMING.expire + 1).state == "lost"
        lease.release()
        assert look(tmp_path).state == "waiting" and look(tmp_path).left is None

    def test_done_until_the_run_is_to_be_longer(self, tmp_path: pathlib.Path) -> None:
        write_metrics(tmp_path, {"step": 404})
        end(tmp_path, "done", frames=404)
        assert (look(tmp_path).state, look(tmp_path).frames) == ("done", 400)
        assert look(tmp_path, total=500).state == "waiting"

    def test_failed_only_if_given_up(self, tmp_path: pathlib.Path) -> None:
        end(tmp_path, "failed", reason="exit status 1: x", lines=["a", "b"])
        assert (look(tmp_path).state, look(tmp_path).note) == ("waiting", "exit status 1: x")
        end(tmp_path, "given up", reason="3 times", lines=["a", "b"])
        now = look(tmp_path)
        assert (now.state, now.note, now.lines) == ("failed", "3 times", ["a", "b"])


STATUSES = [
    Status("atari_pong/m/1", "done", 400, 400, 20.0),
    Status("atari_pong/m/2", "running", 100, 400, -3.25, 50.0, "node7"),
    Status("atari_pong/m/3", "waiting", 0, 400),
    Status("atari_pong/m/4", "failed", 50, 400, note="why", lines=["last", "words"]),
]


def test_summary_leaves_out_what_was_given_up() -> None:
    total = status.summarize(STATUSES)
    assert (total.frames, total.total, total.fps, total.left) == (500, 1200, 50.0, 14.0)
    assert table.line(total) == (
        "1 running, 1 failed, 1 waiting, 1 done, 500 of 1,200 frames (41.7%), 50 frames/s, "
        "0:14 left"
    )
    assert table.problems(STATUSES) == ["atari_pong/m/4: why", "    last", "    words"]


def show(most: int | None) -> list[str]:
    screen = table.Screen(io.StringIO())
    screen.console.width = 120
    screen.console.print(table.render(STATUSES, most))
    return [line.strip() for line in screen.console.file.getvalue().splitlines() if line.strip()]


def test_table_shows_the_interesting_first() -> None:
    lines = show(None)
    assert [line.split()[1] for line in lines[2:]] == ["running", "failed", "waiting", "done"]
    assert lines[2].split() == [
        "atari_pong/m/2", "running", "100", "25%", "-3.2", "50", "0:06", "node7",
    ]  # fmt: skip
    assert show(3)[-1] == "... and 1 waiting, 1 done"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_terminal_shows_a_live_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with table.Screen(stream) as screen:
        screen.show(STATUSES)
        screen.print("a note")
    text = stream.getvalue()
    assert "atari_pong/m/2" in text and "a note" in text and "1 running, 1 failed" in text


def test_without_a_terminal_the_totals_are_printed_now_and_then() -> None:
    now = [0.0]
    screen = table.Screen(io.StringIO(), clock=lambda: now[0])
    with screen:
        for now[0] in (0.0, 5.0, 30.0, 61.0):
            screen.show(STATUSES)
    assert screen.console.file.getvalue().count("1 running") == 2


@pytest.mark.parametrize(("code", "lines", "text"), [
    (1, ["x", "ValueError: no 3", ""], "exit status 1: ValueError: no 3"),
    (2, ["error: the task is not there", "bye"], "exit status 2: the task is not there"),
    (1, ["a.b.OtherError: deep", "note"], "exit status 1: a.b.OtherError: deep"),
    (7, [], "exit status 7: it printed nothing"),
    (-9, ["x"], "killed by signal 9 (SIGKILL), which is what a machine without free memory does"),
    (-11, ["x"], "killed by signal 11 (SIGSEGV)"),
])  # fmt: skip
def test_reasons(code: int, lines: list[str], text: str) -> None:
    assert explain(code, lines) == text


class TestCommandLine:
    def run(self, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
        code = sweep.main(list(words), "dreamerv2 sweep")
        return code, *capsys.readouterr()

    def test_plans(self, capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path) -> None:
        code, out, _ = self.run(
            capsys, "--tasks", "atari55", "--seeds", "5", "--configs", "atari", "--logdir",
            str(tmp_path / "new"), "--dry-run", "--tflops", "20", "--save_every", "60",
        )  # fmt: skip
        assert code == 0 and "275 runs" in out and "393.0 GPU days" in out
        assert "--save_every 60" in out and not (tmp_path / "new").exists()

    def test_prints_the_status(
        self, capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path
    ) -> None:
        write_metrics(tmp_path / "a" / "m" / "1", {"step": 100, "eval_return": 4.0})
        end(tmp_path / "a" / "m" / "2", "given up", reason="it broke", lines=["last words"])
        runs = [{"name": f"a/m/{seed}", "frames": 400} for seed in (1, 2)]
        files.write_json(tmp_path / "sweep.json", {"runs": runs})
        code, out, _ = self.run(capsys, "--logdir", str(tmp_path), "--status")
        assert code == 0 and re.search(r"a/m/1 +waiting +100 +25% +4.0", out)
        assert "a/m/2: it broke\n    last words\n" in out
        assert "1 failed, 1 waiting, 100 of 400 frames" in out

    @pytest.mark.parametrize(("words", "message"), [
        (["--tasks", "atari_pnog"], "did you mean atari_pong"),
        (["--tasks", "atari_pong", "--address", "127.0.0.1:1"], "cannot be reached"),
        (["--tasks", "atari_pong", "--max-parallel", "0"], "not a whole number of 1 or more"),
        (["--tasks", "atari_pong", "--gpus-per-run", "-1"], "not a number of 0 or more"),
        ([], "--tasks is missing"),
        (["--status"], "holds no sweep"),
        (["pong"], "unrecognized arguments: pong"),
    ])  # fmt: skip
    def test_refuses(
        self, capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path, words: list[str],
        message: str,
    ) -> None:  # fmt: skip
        if "--address" in words:
            pytest.importorskip("ray", reason="the ray extra is not installed")
        code, _, err = self.run(capsys, "--logdir", str(tmp_path / "new"), *words)
        assert code == 2 and err.startswith("error: ") and err.count("\n") == 1 and message in err
        assert not (tmp_path / "new").exists()

    def test_needs_no_ray_to_explain_plan_and_look(self, tmp_path: pathlib.Path) -> None:
        code = (
            "import sys; sys.modules['ray'] = None\n"
            "from dreamerv2 import sweep\n"
            "words = ['--logdir', sys.argv[1], '--tasks', 'atari_pong']\n"
            "assert sweep.main([*words, '--dry-run']) == 0\n"
            "assert sweep.main([*words, '--status']) == 2\n"
            "assert sweep.main(words) == 2\n"
            "assert 'tensorflow' not in sys.modules\n"
        )
        command = [sys.executable, "-c", code, str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        assert done.returncode == 0, done.stderr
        assert "Ray, which is not installed: run python -m pip install" in done.stderr

    def test_is_a_program(self) -> None:
        assert cli.PROGRAMS["sweep"][0] == "dreamerv2.sweep"
